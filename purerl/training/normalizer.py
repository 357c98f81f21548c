"""Observation normalisation by running mean and variance, or none, as a record of functions.

The ring stores raw observations. The statistics take in every row that is collected, warm-up included, and nothing
else. An update normalises s and s' of its whole batch, targets included, with the statistics of that moment, as acting
does; evaluation uses them and leaves them as they are.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Float, PyTree

from purerl.settings.schema import Plan

MOST = 2.0**23  # observations that count: float32 would not grow by 1 after twice as many; older ones fade then


class Normalizer(NamedTuple):
    """Attributes:
    init: `(obs_size) -> statistics`.
    update: `(statistics, observation [E, obs_size]) -> statistics`.
    apply: `(statistics, observation [..., obs_size]) -> observation`.
    """

    init: Callable[[int], PyTree]
    update: Callable[[PyTree, Float[Array, "E obs"]], PyTree]
    apply: Callable[[PyTree, Float[Array, "*batch obs"]], Float[Array, "*batch obs"]]


class Statistics(NamedTuple):
    """Count `[]`, mean and variance `[obs_size]` of the observations so far."""

    count: Float[Array, ""]  # pyright: ignore[reportIncompatibleMethodOverride]  # in place of the method of tuples
    mean: Float[Array, " obs"]
    variance: Float[Array, " obs"]


def init(obs_size: int) -> Statistics:
    return Statistics(jnp.zeros(()), jnp.zeros(obs_size), jnp.ones(obs_size))


def update(statistics: Statistics, observation: Float[Array, "E obs"]) -> Statistics:
    """Take in a row of observations `[E, obs_size]` (Chan, Golub & LeVeque 1979, eq. 2.1)."""
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
    """(s − mean) / std, clipped to ±`limit`."""
    scaled = (observation - statistics.mean) / jnp.sqrt(statistics.variance + 1e-8)
    return jnp.clip(scaled, -limit, limit)


running = Normalizer(init, update, apply)
identity = Normalizer(
    lambda obs_size: (), lambda statistics, observation: statistics, lambda statistics, observation: observation
)


def normalizer(plan: Plan) -> Normalizer:
    """The one that `plan` asks for."""
    return running if plan.normalize_observations else identity
