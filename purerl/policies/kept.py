"""The policies that a run folder keeps, read into memory.

A run folder keeps R policies: one per seed, or, of a sweep, per setting and seed.
"""

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, Int

from purerl.policies import acting, layers
from purerl.policies.layers import Bound, Function, Layer, Nested
from purerl.settings import config, schema


class Sizes(NamedTuple):
    """All that a network asks of an environment."""

    obs_size: int
    action_size: int


@dataclass(frozen=True)
class Policies:
    """What a run folder says of its policies.

    Attributes:
        settings: the `schema.Config` of the run.
        actor, statistics: nested dicts of arrays `[R, ...]`; `statistics` is empty where observations stay as they are.
        env_step: how far each was trained, `[R]`.
        final: the last row of curves.csv of each up to there, `{column: [R]}`, NaN where there is none.
        action_range: (low, high), each `[action_size]`: what actions -1 and 1 are in the environment's units.
        sizes: of observations and actions.
        at: the environment step that was asked for, or of the checkpoint; None for the last policies.
    """

    path: Path
    settings: schema.Config
    actor: Nested
    statistics: Nested
    env_step: Int[np.ndarray, " R"]
    final: dict[str, Float[np.ndarray, " R"]]
    action_range: tuple[Bound, Bound]
    sizes: Sizes
    at: int | None = None

    @property
    def obs_size(self) -> int:
        return self.sizes.obs_size

    @property
    def action_size(self) -> int:
        return self.sizes.action_size

    def name(self, index: int) -> str:
        """Which policy this is, in words: `seed 7`."""
        several = len(set(self.final["setting"])) > 1
        setting = f"setting {self.final['setting'][index]:.0f} " if several else ""
        return f"{setting}seed {self.seed(index)}" + ("" if self.at is None else f" at step {self.at}")

    def file_name(self, index: int) -> str:
        """Which policy this is, as the name of a file without its ending: `seed-7`."""
        return self.name(index).replace(" ", "-")

    def seed(self, index: int) -> int:
        return int(self.final["seed"][index])

    def layers(self, index: int) -> list[Layer] | None:
        """The `purerl.policies.layers` of one policy; None where it is not made of such."""
        actor, statistics = acting.one(self, index)
        activation = self.settings.plan.activation
        return layers.describe(actor, statistics, activation, *self.sizes, self.action_range)

    def function(self, index: int) -> Function:
        """One policy as a function: NumPy `[..., obs_size]` -> `[..., action_size]` in the environment's own units."""
        found = self.layers(index)
        if found and is_purerls_own(self.path):
            return partial(layers.apply, found)
        import jax  # Of an algorithm of somebody else's nothing tells that layers do all that it does.

        return layers.batched(jax.jit(acting.trained(self, index)), *self.sizes)


def about(policies: Policies, index: int) -> dict[str, Any]:
    """`{name: value}`, what an exported file says of a policy."""
    job, (low, high) = policies.settings.job, policies.action_range
    return {
        "env": job.env,
        "algo": job.algo,
        "seed": policies.seed(index),
        "env_step": int(policies.env_step[index]),
        "action_low": np.broadcast_to(low, policies.action_size).tolist(),
        "action_high": np.broadcast_to(high, policies.action_size).tolist(),
    }


def read_record(path: Path) -> dict[str, Any]:
    """What run.toml says that the run ran on."""
    return config.read_toml(path / "run.toml").get(config.RECORD, {})


def is_purerls_own(path: Path) -> bool:
    """Whether the algorithm of the run is not of somebody else's making."""
    return read_record(path).get("algorithm", "purerl.").startswith("purerl.")
