"""Environments in gymnax's style behind `Environment`. gymnax itself is not needed.

Their `step` begins a new episode by itself and may lose the last observation; what it is made of, `step_env`, does not,
and is what is called here. Both of gymnax's ways to end an episode are known: up to 0.0.9 `done` means either, from 1.0
on `terminated` comes from `step_env` and truncation from `is_truncated`. Six values, truncation among them, do as well.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from purerl.environments.base import Environment, Outcome, physics, same_structure, scaled, strong
from purerl.errors import attempt, needs

NO_LIMIT = 2**30  # Steps; the time limit is `Environment.episode_length`, and ends no episode of theirs.


class State(NamedTuple):
    """Their state, what it observes `[obs_size]`, and the key of what is random in the next step."""

    state: Any
    observation: jax.Array
    key: jax.Array


def is_one(kind):
    """Whether a class is of gymnax's style."""
    return all(callable(getattr(kind, name, None)) for name in ("reset_env", "step_env", "action_space"))


def make(name, backend=None, episode_length=None):
    """What gymnax registers as `name`, with its own parameters. Raises ValueError where there is no such thing."""
    gymnax = needs("gymnax", "gymnax", f"gymnax:{name}")
    if backend is not None:
        raise ValueError(f"gymnax:{name} has no backend {backend!r}; leave the backend out")
    env, params = attempt(f"making gymnax:{name}", lambda: gymnax.make(name))
    return from_gymnax(env, params, episode_length, f"gymnax:{name}")


def from_gymnax(env, params=None, episode_length=None, name=None):
    """An environment in gymnax's style as an `Environment`; `params` None takes its own.

    `episode_length` None takes the `max_steps_in_episode` of `params`, or 1000. Actions must be a vector within finite
    bounds, observations one array, which is flattened. Raises ValueError where they are not, or where it breaks.
    """
    name = name or type(env).__name__
    params = attempt(f"{name}: default_params", lambda: env.default_params) if params is None else params
    limit = getattr(params, "max_steps_in_episode", None)
    if limit is not None:
        params = params.replace(max_steps_in_episode=NO_LIMIT)
    space = attempt(f"{name}: action_space(params)", lambda: env.action_space(params))
    action_range, shape = _action_range(space, name)

    @physics
    def reset(key):
        reset_key, key = jax.random.split(key)
        observation, state = env.reset_env(reset_key, params)
        return strong(State(state, jnp.ravel(observation).astype(jnp.float32), jax.random.key_data(key)))

    @physics
    def step(state, action):
        step_key, key = jax.random.split(jax.random.wrap_key_data(state.key))
        action = scaled(action, action_range).reshape(shape)
        observation, after, reward, terminated, *truncated, _ = env.step_env(step_key, state.state, action, params)
        if not truncated and hasattr(env, "is_truncated"):
            truncated = [env.is_truncated(after, params)]
        over = [jnp.asarray(end).astype(bool).reshape(()) for end in (terminated, *truncated, False)]
        after = State(after, jnp.ravel(observation).astype(jnp.float32), jax.random.key_data(key))
        return strong(after), Outcome(jnp.asarray(reward, jnp.float32).reshape(()), over[0], over[1] & ~over[0])

    state = attempt(f"{name}: reset_env(key, params)", lambda: jax.eval_shape(reset, jax.random.key(0)))
    action = jax.ShapeDtypeStruct((int(np.prod(shape)),), jnp.float32)
    after, _ = attempt(f"{name}: step_env(key, state, action, params)", lambda: jax.eval_shape(step, state, action))
    same_structure(state, after, name)
    obs_size, action_size = state.observation.shape[0], action.shape[0]
    length = next(n for n in (episode_length, limit, 1000) if n is not None)
    return Environment(
        reset, step, lambda state: state.observation, obs_size, action_size, int(length), name, True, action_range
    )


def _action_range(space, name):
    """`((low, high), shape)` of a box of actions, the bounds `[action_size]`."""
    try:
        shape = tuple(space.shape)
        low, high = (np.broadcast_to(np.asarray(x, np.float32), shape).ravel() for x in (space.low, space.high))
    except (AttributeError, TypeError, ValueError):
        raise ValueError(f"{name}: its actions are {space!r}; DDPG, TD3 and SAC need a box of numbers") from None
    if not (np.isfinite(low).all() and np.isfinite(high).all() and (low < high).all() and len(low)):
        raise ValueError(f"{name}: its actions lie in [{low}, {high}]; the bounds must be finite, with low below high")
    return (low, high), shape
