"""Exploration noise: Gaussian and Ornstein-Uhlenbeck processes, and schedules for their scale.

E is the number of environments, A the size of an action. The scale is a standard deviation, for actions in [-1, 1].
"""

from collections.abc import Callable
from math import prod

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from purerl.settings.hyperparameters import DDPG as Hyper
from purerl.types import Key, Noise, Scalar

Schedule = Callable[[Scalar], Scalar]  # from the completed share of the run, 0 to 1, to the scale


def standard_normal(key: Key, shape: tuple[int, ...]) -> Float[Array, "..."]:
    """Return ξ ~ N(0, I), drawn as a flat array and reshaped: on a CPU, a short last axis is not vectorized."""
    return jax.random.normal(key, (prod(shape),)).reshape(shape)


def constant(scale: Scalar, final: Scalar) -> Schedule:
    """σ(p) = σ₀."""
    del final
    return lambda progress: scale


def linear(scale: Scalar, final: Scalar) -> Schedule:
    """σ(p) = σ₀ + (σ₁ − σ₀) p."""
    return lambda progress: scale + (final - scale) * progress


def exponential(scale: Scalar, final: Scalar) -> Schedule:
    """σ(p) = σ₀ (σ₁ / σ₀)ᵖ."""
    return lambda progress: scale * (final / scale) ** progress


SCHEDULES: dict[str, Callable[[Scalar, Scalar], Schedule]] = {
    "constant": constant,
    "linear": linear,
    "exponential": exponential,
}


def gaussian(schedule: Schedule, shape: tuple[int, int]) -> Noise:
    """ε ~ N(0, σ²), independent from step to step (TD3 arXiv:1802.09477, §6.1)."""

    def draw(state: tuple[()], progress: Scalar, key: Key) -> tuple[tuple[()], Float[Array, "E A"]]:
        return state, schedule(progress) * standard_normal(key, shape)

    return Noise(lambda: (), draw, lambda state, over: state)


def ornstein_uhlenbeck(schedule: Schedule, theta: Scalar, shape: tuple[int, int]) -> Noise:
    """x ← (1 − θ) x + σ ξ, ξ ~ N(0, I), x = 0 at the start of an episode (DDPG arXiv:1509.02971, §7; time step 1)."""

    def init() -> Float[Array, "E A"]:
        return jnp.zeros(shape)

    def draw(state: Float[Array, "E A"], progress: Scalar, key: Key) -> tuple[Float[Array, "E A"], Float[Array, "E A"]]:
        state = (1.0 - theta) * state + schedule(progress) * standard_normal(key, shape)
        return state, state

    def restart(state: Float[Array, "E A"], over: Bool[Array, " E"]) -> Float[Array, "E A"]:
        return jnp.where(over[:, None], 0.0, state)

    return Noise(init, draw, restart)


def silent(shape: tuple[int, int]) -> Noise:
    """No noise, for a policy that explores by itself."""

    def draw(state: tuple[()], progress: Scalar, key: Key) -> tuple[tuple[()], Float[Array, "E A"]]:
        del progress, key  # There is no noise.
        return state, jnp.zeros(shape)

    return Noise(lambda: (), draw, lambda state, over: state)


def exploration(hyper: Hyper, shape: tuple[int, int]) -> Noise:
    """Return the noise process that the hyperparameters of DDPG or TD3 select. `shape` is `(E, A)`."""
    schedule = SCHEDULES[hyper.noise_schedule](hyper.exploration_noise, hyper.final_noise)
    if hyper.noise == "ou":
        return ornstein_uhlenbeck(schedule, hyper.ou_theta, shape)
    return gaussian(schedule, shape)
