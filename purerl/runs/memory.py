"""Compute the device memory that a group of runs needs, before any of it is allocated."""

from dataclasses import dataclass
from math import prod
from typing import Any

import jax
import psutil

from purerl.errors import Refused
from purerl.settings.schema import Plan
from purerl.training.loop import Carry
from purerl.training.mapping import Programs, largest_divisor

GIB = 2**30


class DoesNotFit(Refused):
    """The runs need more memory than there is."""


@dataclass(frozen=True)
class Needs:
    """Bytes on each device, for `num_runs` runs that are distributed over `num_devices` devices.

    `ring` (the replay buffer), `networks`, `optimiser`, `environments` and `other` make up the carry, which stays in
    memory during training. `starting`, `training` and `evaluating` are the working memory of the programs, which run
    one after another. It includes the states from which episodes begin.
    """

    num_runs: int
    ring: int
    networks: int
    optimiser: int
    environments: int
    other: int
    starting: int = 0
    training: int = 0
    evaluating: int = 0
    num_devices: int = 1

    @property
    def carry(self) -> int:
        return self.ring + self.networks + self.optimiser + self.environments + self.other

    @property
    def total(self) -> int:
        return self.carry + max(self.starting, self.training, self.evaluating)

    @property
    def per_run(self) -> float:
        return self.total * self.num_devices / self.num_runs


def needs(carry: Carry, num_runs: int, compiled: Programs | None = None, num_devices: int = 1) -> Needs:
    """Return the `Needs` of `carry`, abstract or not, and of the compiled programs `compiled`, if given."""
    parts: dict[str, int] = dict.fromkeys(("ring", "networks", "optimiser", "environments", "other"), 0)
    for path, leaf in jax.tree_util.tree_leaves_with_path(carry):
        parts[_part(jax.tree_util.keystr(path))] += prod(leaf.shape) * leaf.dtype.itemsize // num_devices
    if compiled is None:
        return Needs(num_runs, **parts, num_devices=num_devices)
    drawing = _working(compiled.starts)
    states, playing = (
        getattr(compiled, name).memory_analysis().output_size_in_bytes for name in ("starts", "begin_play")
    )
    begun = states + _working(compiled.initial_carry) - sum(parts.values())  # It returns the carry.
    working = {
        "starting": max(begun, _working(compiled.warm_up)),
        "training": _working(compiled.cycles),
        "evaluating": max(drawing, states + playing, playing + _working(compiled.play_on)),
    }
    return Needs(num_runs, **parts, **working, num_devices=num_devices)


def available(num_devices: int) -> int:
    """Return the free bytes on each of the first `num_devices` devices of this process.

    A GPU has its own memory. CPU devices share the memory of the host.
    """
    devices = jax.local_devices()[:num_devices]
    stats = [device.memory_stats() for device in devices]
    if all(each and "bytes_limit" in each for each in stats):
        return min(each["bytes_limit"] - each.get("bytes_in_use", 0) for each in stats)
    return psutil.virtual_memory().available // len(devices)


def largest_group(needs: Needs, num_runs: int, free: int) -> int:
    """Return the largest divisor of `num_runs` that fits as the number of runs at once, or 0 if not even one fits."""
    return largest_divisor(num_runs, _fitting(needs, free))


def _fitting(needs: Needs, free: int) -> int:
    """Return how many runs fit into `free` bytes of every device."""
    return int(free / needs.per_run * needs.num_devices) // needs.num_devices * needs.num_devices


def check_memory(
    needs: Needs, plan: Plan, num_runs: int, free: int, num_settings: int = 1, in_groups: bool = True
) -> None:
    """Raise DoesNotFit if `needs` are more than `free` bytes.

    The message says how many seeds of `num_settings` settings, and which buffer_size, would fit. `in_groups` is whether
    the runs may train one group after another. `needs` that were computed before compiling have no working memory. The
    message then says that the values are upper limits.
    """
    if needs.total <= free:
        return
    seeds = _fitting(needs, free) // num_settings
    rest = needs.total - needs.ring
    buffer = int(plan.buffer_size * (free - rest) / needs.ring) // plan.num_envs * plan.num_envs
    group = largest_group(needs, num_runs, free)
    grouped = needs.num_runs < num_runs
    ways = [f"--num-seeds {seeds}"] if seeds and not grouped else []
    ways += [f"--buffer-size {buffer}"] if buffer >= max(plan.batch_size, plan.n_step * plan.num_envs) else []
    if group and in_groups:
        ways.append(f"--seeds-per-batch {group if grouped else f'auto, which trains {group} at once'}")
    kind = "seed" if num_settings == 1 else "run"
    fits = "what fits" if needs.training else "at most, minus the working memory of the programs"
    remedy = f"{fits}: {'; '.join(ways)}" if ways else f"not even one {kind} fits; lower num_envs, batch_size or widths"
    raise DoesNotFit(
        f"{needs.num_runs} {kind}s at once need {needs.total / GIB:.2f} GiB{per_device(needs)}, "
        f"{needs.per_run / GIB:.3f} each, but {free / GIB:.2f} GiB are available; {remedy}"
    )


def line(needs: Needs, free: int) -> str:
    """Return the memory plan in one line."""
    return f"memory{per_device(needs)}: {needs.total / GIB:.2f} GiB of {free / GIB:.2f}, ring {needs.ring / GIB:.2f}"


def per_device(needs: Needs) -> str:
    """Return a text which says that the bytes are per device, or an empty text for one device."""
    return f" on each of {needs.num_devices} devices" if needs.num_devices > 1 else ""


def rows(needs: Needs, free: int) -> list[tuple[str, str]]:
    """Return the memory plan as `(name, value)` rows of a table."""
    stays = ("ring", "networks", "optimiser", "environments", "other")
    parts = {name: getattr(needs, name) for name in stays}
    parts |= {f"while {name}": getattr(needs, name) for name in ("starting", "training", "evaluating")}
    parts["at most, together"] = needs.total
    share = needs.num_devices / needs.num_runs / 2**20
    table = [(name, f"{size / 2**20:,.2f} MiB, {size * share:,.3f} per seed") for name, size in parts.items()]
    return [*table, ("available", f"{free / 2**20:,.1f} MiB")]


def _part(path: str) -> str:
    if path.startswith(".agent"):
        return "optimiser" if "opt_state" in path else "networks"
    part = path.split(".")[1].split("[")[0]
    return {"ring": "ring", "episodes": "environments", "noise": "environments"}.get(part, "other")


def _working(program: Any) -> int:
    """Return the bytes that a compiled program allocates besides its arguments and the outputs that reuse them."""
    stats = program.memory_analysis()
    if stats is None:
        return 0
    return stats.temp_size_in_bytes + max(0, stats.output_size_in_bytes - stats.alias_size_in_bytes)
