"""The policies of a run folder, in memory.

A run folder has R policies: one per seed, or one per setting and seed of a sweep.
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
    """The sizes that a network needs from an environment. With `actor_obs_size` None, the actor reads all."""

    obs_size: int
    action_size: int
    actor_obs_size: int | None = None


@dataclass(frozen=True)
class Policies:
    """The policies of a run folder.

    Attributes:
        path: the run folder.
        settings: the `schema.Config` of the run.
        actor, statistics: nested dicts of arrays `[R, ...]`. `statistics` are those of whole observations. They are
            empty if observations are not normalized.
        env_step: the environment step of each policy, `[R]`.
        final: the last row of curves.csv up to that step, `{column: [R]}`, NaN if there is none.
        action_range: (low, high), each `[action_size]`: the actions -1 and 1 in the environment's units.
        sizes: sizes of observations and actions in training.
        at: the requested environment step, or that of the checkpoint. None for the policies at the end of the run.
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
        """The size of the observation that a policy takes. In training, the critic may have read more."""
        size = self.sizes.actor_obs_size
        return self.sizes.obs_size if size is None else size

    @property
    def action_size(self) -> int:
        return self.sizes.action_size

    def name(self, index: int) -> str:
        """Return the name of a policy, for example `seed 7`."""
        several = len(set(self.final["setting"])) > 1
        setting = f"setting {self.final['setting'][index]:.0f} " if several else ""
        return f"{setting}seed {self.seed(index)}" + ("" if self.at is None else f" at step {self.at}")

    def file_name(self, index: int) -> str:
        """Return the file name of a policy without extension, for example `seed-7`."""
        return self.name(index).replace(" ", "-")

    def seed(self, index: int) -> int:
        return int(self.final["seed"][index])

    def layers(self, index: int) -> list[Layer] | None:
        """Return the `purerl.policies.layers` of one policy, or None if it is not made of such layers."""
        actor, statistics = acting.one(self, index)
        activation = self.settings.plan.actor_layers.activation
        return layers.describe(actor, statistics, activation, self.obs_size, self.action_size, self.action_range)

    def function(self, index: int) -> Function:
        """Return one policy as a NumPy function: `[..., obs_size]` -> `[..., action_size]`.

        Actions are in the environment's units.
        """
        found = self.layers(index)
        if found and is_purerls_own(self.path):
            return partial(layers.apply, found)
        import jax  # The policy of a custom algorithm may do more than its layers.

        return layers.batched(jax.jit(acting.trained(self, index)), self.obs_size, self.action_size)


def about(policies: Policies, index: int) -> dict[str, Any]:
    """Return `{name: value}`, the metadata of an exported policy."""
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
    """Return the table `[record]` of run.toml: versions, device, commit and date."""
    return config.read_toml(path / "run.toml").get(config.RECORD, {})


def is_purerls_own(path: Path) -> bool:
    """Return whether the algorithm of the run is part of purerl, not a custom one."""
    return read_record(path).get("algorithm", "purerl.").startswith("purerl.")
