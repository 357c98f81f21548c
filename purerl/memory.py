"""What a group of runs needs of the device's memory, known before any of it is taken."""

from dataclasses import dataclass
from math import prod

import jax
import psutil

from purerl.errors import Refused

GIB = 2**30


class DoesNotFit(Refused):
    """The runs need more memory than there is."""


@dataclass(frozen=True)
class Needs:
    """Bytes, of `num_seeds` runs side by side.

    `ring`, `networks`, `optimiser`, `environments` and `other` stay while they train: the carry. `starting`, `training`
    and `evaluating` are what the three programs work with besides, one after another.
    """

    num_seeds: int
    ring: int
    networks: int
    optimiser: int
    environments: int
    other: int
    starting: int = 0
    training: int = 0
    evaluating: int = 0

    @property
    def carry(self):
        return self.ring + self.networks + self.optimiser + self.environments + self.other

    @property
    def total(self):
        return self.carry + max(self.starting, self.training, self.evaluating)

    @property
    def per_seed(self):
        return self.total / self.num_seeds


def needs(carry, num_seeds, compiled=None):
    """The `Needs` of `carry`, abstract or not, and of the programs of `compiled`, a `batch.Compiled`."""
    parts = dict.fromkeys(("ring", "networks", "optimiser", "environments", "other"), 0)
    for path, leaf in jax.tree_util.tree_leaves_with_path(carry):
        parts[_part(jax.tree_util.keystr(path))] += prod(leaf.shape) * leaf.dtype.itemsize
    if compiled is None:
        return Needs(num_seeds, **parts)
    starting = _working(compiled.begin) - sum(parts.values())  # It makes the carry.
    return Needs(
        num_seeds, **parts, starting=starting, training=_working(compiled.epoch), evaluating=_working(compiled.evaluate)
    )


def available():
    """Bytes that the device still has: a GPU's own, or the host's."""
    stats = jax.devices()[0].memory_stats()
    if stats and "bytes_limit" in stats:
        return stats["bytes_limit"] - stats.get("bytes_in_use", 0)
    return psutil.virtual_memory().available


def largest_group(needs, num_seeds, free):
    """The largest divisor of `num_seeds` of which so many runs at once fit; 0 where not even one does."""
    fitting = int(free / needs.per_seed)
    return max((size for size in range(1, fitting + 1) if num_seeds % size == 0), default=0)


def check(needs, plan, num_seeds, free):
    """Raises DoesNotFit, saying how many seeds, and which buffer_size, would fit."""
    if needs.total <= free:
        return
    seeds = int(free / needs.per_seed)
    rest = needs.total - needs.ring
    buffer = int(plan.buffer_size * (free - rest) / needs.ring) // plan.num_envs * plan.num_envs
    ways = [f"--num-seeds {seeds}"] if seeds else []
    ways += [f"--buffer-size {buffer}"] if buffer >= max(plan.batch_size, plan.n_step * plan.num_envs) else []
    if group := largest_group(needs, num_seeds, free):
        ways.append(f"--seeds-per-batch auto, which trains {group} at once")
    remedy = f"what fits: {'; '.join(ways)}" if ways else "not even one seed fits; lower num_envs, batch_size or widths"
    raise DoesNotFit(
        f"{needs.num_seeds} seeds at once need {needs.total / GIB:.2f} GiB, {needs.per_seed / GIB:.3f} each, "
        f"and there are {free / GIB:.2f}; {remedy}"
    )


def line(needs, free):
    """The plan in one line."""
    return f"memory: {needs.total / GIB:.2f} GiB of {free / GIB:.2f}, ring {needs.ring / GIB:.2f}"


def rows(needs, free):
    """The plan as `(name, value)` rows of a table."""
    names = ("ring", "networks", "optimiser", "environments", "other")
    table = [(name, _size(getattr(needs, name), needs.num_seeds)) for name in names]
    table += [
        (f"while {name}", _size(getattr(needs, name), needs.num_seeds))
        for name in ("starting", "training", "evaluating")
    ]
    return [
        *table,
        ("at most, together", _size(needs.total, needs.num_seeds)),
        ("available", f"{free / 2**20:,.1f} MiB"),
    ]


def _size(number, num_seeds):
    return f"{number / 2**20:,.2f} MiB, {number / num_seeds / 2**20:,.3f} per seed"


def _part(path):
    if path.startswith(".agent"):
        return "optimiser" if "opt_state" in path else "networks"
    part = path.split(".")[1].split("[")[0]
    return {"ring": "ring", "episodes": "environments", "noise": "environments"}.get(part, "other")


def _working(program):
    """Bytes that a compiled program takes besides what it is given and what it gives back in the same place."""
    stats = program.memory_analysis()
    if stats is None:
        return 0
    return stats.temp_size_in_bytes + max(0, stats.output_size_in_bytes - stats.alias_size_in_bytes)
