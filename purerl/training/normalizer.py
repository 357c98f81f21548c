"""Observation normalization by running mean and variance, or none, as a NamedTuple of functions.

The ring stores raw observations. Every collected row updates the statistics, including the warm-up. Updates and acting
normalize observations with the current statistics: in an update s and s' of the whole batch, also in the targets.
Evaluation uses the statistics and does not change them.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Float, PyTree

from purerl.settings.schema import Plan

MOST = 2.0**23  # limit of the count: float32 cannot count past twice as many; then older observations fade


class Normalizer(NamedTuple):
    """Functions that normalize observations.

    Attributes:
        init: `(obs_size) -> statistics`.
        update: `(statistics, observation [E, obs_size]) -> statistics`.
        apply: `(statistics, observation [..., obs_size]) -> observation`.
    """

    init: Callable[[int], PyTree]
    update: Callable[[PyTree, Float[Array, "E obs"]], PyTree]
    apply: Callable[[PyTree, Float[Array, "*batch obs"]], Float[Array, "*batch obs"]]


class Statistics(NamedTuple):
    """Count `[]`, mean and variance `[obs_size]` of the observations so far."""

    count: Float[Array, ""]  # pyright: ignore[reportIncompatibleMethodOverride]  # replaces the method of tuples
    mean: Float[Array, " obs"]
    variance: Float[Array, " obs"]


def init(obs_size: int) -> Statistics:
    return Statistics(jnp.zeros(()), jnp.zeros(obs_size), jnp.ones(obs_size))


def update(statistics: Statistics, observation: Float[Array, "E obs"]) -> Statistics:
    """Return the statistics after a row of observations `[E, obs_size]` (Chan, Golub & LeVeque 1979, eq. 2.1)."""
    _, mean, variance = statistics
    count = jnp.minimum(statistics.count, MOST)
    size = len(observation)
    total = count + size
    delta = observation.mean(axis=0) - mean
    squares = count * variance + size * observation.var(axis=0) + jnp.square(delta) * count * size / total
    return Statistics(total, mean + delta * size / total, squares / total)


def apply(
    statistics: Statistics, observation: Float[Array, "*batch obs"], limit: float = 10.0
) -> Float[Array, "*batch obs"]:
    """Return (s − mean) / std, clipped to ±`limit`."""
    scaled = (observation - statistics.mean) / jnp.sqrt(statistics.variance + 1e-8)
    return jnp.clip(scaled, -limit, limit)


running = Normalizer(init, update, apply)
identity = Normalizer(
    lambda obs_size: (), lambda statistics, observation: statistics, lambda statistics, observation: observation
)


def normalizer(plan: Plan) -> Normalizer:
    """Return the normalizer that `plan` selects."""
    return running if plan.normalize_observations else identity
