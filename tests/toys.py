"""Environments and algorithms whose correct results are known by hand, small enough to compile in a second."""

from dataclasses import replace
from typing import NamedTuple

import jax
import jax.numpy as jnp

from purerl import environments
from purerl.environments.base import Environment, Outcome
from purerl.settings.registry import ALGORITHMS

BUILD = {name: spec.build for name, spec in ALGORITHMS.items()}
HYPERS = {name: spec.hyperparameters for name, spec in ALGORITHMS.items()}


def construct(monkeypatch, build, name="td3"):
    """Let `build` make the algorithm called `name`."""
    monkeypatch.setitem(ALGORITHMS, name, replace(ALGORITHMS[name], constructor=build))


def learner(name, plan, env, **changes):
    """Return an `Algorithm` with its default hyperparameters, except for `changes`."""
    return BUILD[name](HYPERS[name](**changes), plan, env)


class Contents(NamedTuple):
    observation: jax.Array
    action: jax.Array


def contents(ring, obs_size):
    """Return the observations and actions that a plain replay buffer holds, `[rows, E, ...]`."""
    return Contents(ring[..., :obs_size], ring[..., obs_size : -obs_size - 2])


class Count(NamedTuple):
    """The state of `counting`.

    `key` [2] is the key data that reset got, `start` [] its random number in [0, 1), `step` [] the steps since then.
    """

    key: jax.Array
    start: jax.Array
    step: jax.Array


def after(steps):
    """Return a condition that is true from step number `steps` on."""
    return lambda state: state.step >= steps


never = after(10**6)


def counting(episode_length=1000, terminates=never, truncates=never, reward=None, action_size=1):
    """Return an environment that observes `(start, step)`: the identity of the episode and its age.

    `terminates` and `truncates` are conditions on the state after the step. `reward(state, action)` is 1 if None.
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
    """Return an environment in which the next state depends on the action, as in any real environment.

    The action moves `start`, and the episode terminates if `start` is above 0.9.
    """

    def reward(state, action):
        return state.start * action[0]

    env = counting(episode_length, lambda state: state.start > 0.9, reward=reward)

    def step(state, action):
        return env.step(state._replace(start=state.start + 0.1 * action[0]), action)

    return env._replace(step=step, name="steered")


class Probe(NamedTuple):
    """A family of environments with known values. All fields are `[]` floats, so that probes may be a batch axis.

    Attributes:
        life: steps until the episode terminates.
        every, last: reward of every step, and additional reward of the last step.
        fixed, shown: weights of −(a − 0.5)² and −(a − context)² in the reward; the context is observed.
        sees_step: 1 if the number of the step is observed, 0 if it is hidden.
    """

    life: float = 1.0
    every: float = 0.0
    last: float = 0.0
    fixed: float = 0.0
    shown: float = 0.0
    sees_step: float = 1.0


PROBE_LIMIT = 5  # steps


def probe(values):
    """Return the environment of `values`, a `Probe`.

    It observes `(context in ±0.8, step / 5)`. Episodes are truncated after 5 steps.
    """

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


def hidden_context(scale, episode_length=10):
    """Return an environment whose reward depends on something that the actor does not see.

    A context of ±1 is drawn for each episode. The reward of each step is `scale` · context − (a − 0.8 · target)². The
    actor sees `(target, time)`. The critic sees the context, too.
    """

    def reset(key):
        target, context = jax.random.uniform(key, (2,), minval=-1.0, maxval=1.0)
        return {"target": target, "context": jnp.sign(context), "steps": jnp.float32(0.0)}

    def step(state, action):
        reward = scale * state["context"] - (action[0] - 0.8 * state["target"]) ** 2
        after = state | {"steps": state["steps"] + 1.0}
        return after, Outcome(reward, after["steps"] >= episode_length, jnp.bool_(False))

    def observe(state):
        seen = jnp.stack([state["target"], state["steps"] / episode_length])
        return {"seen": seen, "privileged_state": state["context"][None]}

    return environments.make(Environment(reset, step, observe, 3, 1, episode_length, "hidden context", truncates=False))


def symmetric(env):
    """Return `env` with a critic that reads no more than the actor."""
    size = env.actor_obs_size
    return env._replace(observe=lambda state: env.observe(state)[:size], obs_size=size, actor_obs_size=None)
