"""Exploration noise: Gaussian and Ornstein-Uhlenbeck processes, and schedules for their scale.

E is the number of environments, A the size of an action. A scale is a standard deviation, for actions in [-1, 1].
"""

from math import prod

import jax
import jax.numpy as jnp

from purerl.types import Noise


def standard_normal(key, shape):
    """ξ ~ N(0, I), as `jax.random.normal` draws it, but flat: a CPU makes no vectors of a short last axis."""
    return jax.random.normal(key, (prod(shape),)).reshape(shape)


def constant(scale, final):
    """σ(p) = σ₀."""
    del final
    return lambda progress: scale


def linear(scale, final):
    """σ(p) = σ₀ + (σ₁ − σ₀) p."""
    return lambda progress: scale + (final - scale) * progress


def exponential(scale, final):
    """σ(p) = σ₀ (σ₁ / σ₀)ᵖ."""
    return lambda progress: scale * (final / scale) ** progress


SCHEDULES = {"constant": constant, "linear": linear, "exponential": exponential}


def gaussian(schedule, shape):
    """ε ~ N(0, σ²), independent from step to step (TD3 arXiv:1802.09477, §6.1)."""

    def draw(state, progress, key):
        return state, schedule(progress) * standard_normal(key, shape)

    return Noise(lambda: (), draw, lambda state, over: state)


def ornstein_uhlenbeck(schedule, theta, shape):
    """x ← (1 − θ) x + σ ξ, ξ ~ N(0, I), from x = 0 where an episode begins (DDPG arXiv:1509.02971, §7; time step 1)."""

    def init():
        return jnp.zeros(shape)

    def draw(state, progress, key):
        state = (1.0 - theta) * state + schedule(progress) * standard_normal(key, shape)
        return state, state

    def restart(state, over):
        return jnp.where(over[:, None], 0.0, state)

    return Noise(init, draw, restart)


def silent(shape):
    """No noise, for a policy that explores by itself."""

    def draw(state, progress, key):
        del progress, key  # Nothing is drawn.
        return state, jnp.zeros(shape)

    return Noise(lambda: (), draw, lambda state, over: state)


def exploration(hyper, shape):
    """The process that the hyperparameters of DDPG or TD3 ask for. `shape` is `(E, A)`."""
    schedule = SCHEDULES[hyper.noise_schedule](hyper.exploration_noise, hyper.final_noise)
    if hyper.noise == "ou":
        return ornstein_uhlenbeck(schedule, hyper.ou_theta, shape)
    return gaussian(schedule, shape)
