"""The environment of `benchmarks.training.walk`, as one of Brax."""

from types import SimpleNamespace

import jax
import jax.numpy as jnp
from brax import envs


class Walk(envs.Env):
    """The environment. EvoRL reads the range of actions from `sys`."""

    observation_size, action_size, backend = 17, 6, "none"
    sys = SimpleNamespace(actuator=SimpleNamespace(ctrl_range=[[-1.0, 1.0]] * 6))

    def reset(self, rng):
        zero = jnp.float32(0.0)
        return envs.State(None, jax.random.normal(rng, (17,)), zero, zero, {}, {})

    def step(self, state, action):
        obs = 0.9 * state.obs + 0.1 * jnp.resize(action, (17,))
        return state.replace(obs=obs, reward=obs.sum())
