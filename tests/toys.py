"""Environments and learners whose right answers are known by hand, small enough to compile in a second."""

from dataclasses import replace
from typing import NamedTuple

import jax
import jax.numpy as jnp

from purerl.environments.base import Environment, Outcome
from purerl.settings.registry import ALGORITHMS

BUILD = {name: spec.build for name, spec in ALGORITHMS.items()}
HYPERS = {name: spec.hyperparameters for name, spec in ALGORITHMS.items()}


def construct(monkeypatch, build, name="td3"):
    """Let `build` make the algorithm called `name`."""
    monkeypatch.setitem(ALGORITHMS, name, replace(ALGORITHMS[name], constructor=build))


def learner(name, plan, env, **changes):
    """An `Algorithm` with its default hyperparameters but for `changes`."""
    return BUILD[name](HYPERS[name](**changes), plan, env)


class Contents(NamedTuple):
    observation: jax.Array
    action: jax.Array


def contents(ring, obs_size):
    """What a plain ring holds of what went into its transitions, `[rows, E, ...]`."""
    return Contents(ring[..., :obs_size], ring[..., obs_size : -obs_size - 2])


class Count(NamedTuple):
    """`key` [2] is the key data that reset got, `start` [] its random number in [0, 1), `step` [] the steps since."""

    key: jax.Array
    start: jax.Array
    step: jax.Array


def after(steps):
    """A condition: true from step number `steps` on."""
    return lambda state: state.step >= steps


never = after(10**6)


def counting(episode_length=1000, terminates=never, truncates=never, reward=None, action_size=1):
    """Observes `(start, step)`: which episode this is, and how old. The conditions see the state after the step.

    `reward(state, action)` is 1 if None.
    """

    def reset(key):
        return Count(jax.random.key_data(key), jax.random.uniform(key), jnp.float32(0.0))

    def step(state, action):
        state = state._replace(step=state.step + 1.0)
        gain = jnp.float32(1.0) if reward is None else reward(state, action)
        return state, Outcome(gain, jnp.asarray(terminates(state)), jnp.asarray(truncates(state)))

    def observe(state):
        return jnp.stack([state.start, state.step])

    return Environment(reset, step, observe, 2, action_size, episode_length, "counting")


def steered(episode_length=5):
    """As in any real environment, what comes next depends on the action: it moves `start`; above 0.9 terminates."""

    def reward(state, action):
        return state.start * action[0]

    env = counting(episode_length, lambda state: state.start > 0.9, reward=reward)

    def step(state, action):
        return env.step(state._replace(start=state.start + 0.1 * action[0]), action)

    return env._replace(step=step, name="steered")


class Probe(NamedTuple):
    """A family of environments with known values. All fields are `[]` floats, so that probes may be an axis.

    Attributes:
        life: steps until the episode terminates.
        every, last: reward of every step, and of the last one besides.
        fixed, shown: weights of −(a − 0.5)² and −(a − context)² in the reward, context being observed.
        sees_step: 1 where the number of the step is observed, 0 where it is hidden.
    """

    life: float = 1.0
    every: float = 0.0
    last: float = 0.0
    fixed: float = 0.0
    shown: float = 0.0
    sees_step: float = 1.0


PROBE_LIMIT = 5  # steps


def probe(values):
    """The environment of `values`, a `Probe`. Observes `(context in ±0.8, step / 5)`; time runs out after 5 steps."""

    def reset(key):
        return jax.random.uniform(key, minval=-0.8, maxval=0.8), jnp.float32(0.0)

    def step(state, action):
        context, time = state[0], state[1] + 1.0
        terminated = time >= values.life
        reward = values.every + values.last * terminated
        reward -= values.fixed * (action[0] - 0.5) ** 2 + values.shown * (action[0] - context) ** 2
        return (context, time), Outcome(reward, terminated, jnp.zeros((), bool))

    def observe(state):
        context, time = state
        return jnp.stack([context, values.sees_step * time / PROBE_LIMIT])

    return Environment(reset, step, observe, 2, 1, PROBE_LIMIT, "probe")
