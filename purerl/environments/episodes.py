"""Many copies of an environment, the time limit, and fresh random starts where an episode ended.

Starting states come from a pool, drawn anew every epoch: resetting at every step would cost a reset per step.
Letters: E environments, P states in the pool.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from purerl.types import Array, Transition

STRIDE = 50  # steps between looks at whether any episode still goes on: on a GPU, the host waits for each look


class Episodes(NamedTuple):
    """Attributes:
    state: the environments', `[E, ...]`.
    elapsed: steps since each episode began, `[E]` int32.
    pool: states at the start of random episodes, `[P, ...]`.
    """

    state: Any
    elapsed: Array
    pool: Any


def pool_size(num_envs):
    """P ≥ E, so that episodes that end together go on from different states."""
    return max(64, num_envs)


def pool_size_of(episodes, axis=0):
    """P of the `episodes`, the axis of whose pool it is."""
    return _length(episodes.pool, axis)


def starts(env, count, key):
    """`count` states at the start of random episodes. The first of them do not depend on how many there are."""
    return jax.vmap(env.reset)(jax.random.split(key, count))


def begin(env, num_envs, key):
    """`num_envs` episodes at their start, each from its own random state."""
    return begin_from(starts(env, pool_size(num_envs), key), num_envs)


def begin_from(pool, num_envs):
    """`num_envs` episodes at their start, each from its own state of the pool."""
    return Episodes(first(pool, num_envs), jnp.zeros(num_envs, jnp.int32), pool)


def refresh(env, episodes, key):
    """A new pool; the episodes go on."""
    return episodes._replace(pool=starts(env, pool_size_of(episodes), key))


def first(states, count, axis=0):
    """The first `count` along an axis of `states`, a tree of arrays `[..., N, ...]`."""
    if _length(states, axis) == count:
        return states
    return jax.tree.map(lambda x: jax.lax.slice_in_dim(x, 0, count, axis=axis), states)


def _length(states, axis=0):
    return jax.tree.leaves(states)[0].shape[axis]


def observe(env, episodes):
    """`[E, obs_size]`."""
    return jax.vmap(env.observe)(episodes.state)


def step(env, episodes, action, key):
    """One step of every environment: `(episodes, Transition [E, ...])`.

    `episodes` has begun a new episode wherever one ended; `next_observation` has not. Running out of time truncates.
    """
    state, outcome = jax.vmap(env.step)(episodes.state, action)
    elapsed = episodes.elapsed + 1
    truncated = (outcome.truncated | (elapsed >= env.episode_length)) & ~outcome.terminated
    transition = Transition(
        observe(env, episodes),
        action,
        outcome.reward,
        outcome.terminated,
        truncated,
        jax.vmap(env.observe)(state),
    )
    over = outcome.terminated | truncated
    state = _where(over, _draw(episodes.pool, len(over), key), state)
    return Episodes(state, jnp.where(over, 0, elapsed), episodes.pool), transition


def play(env, act, state):
    """Whole episodes of `act`, `(observation [N, obs_size]) -> action [N, action_size]`, one from each `state`.

    Returns the undiscounted return and the length of each, `[N]`. Ends soon after the longest.
    """

    def one_step(x, _):
        state, alive, total, length = x
        state, outcome = jax.vmap(env.step)(state, act(jax.vmap(env.observe)(state)))
        total, length = total + jnp.where(alive, outcome.reward, 0.0), length + alive
        over = outcome.terminated | outcome.truncated | (length >= env.episode_length)
        return (state, alive & ~over, total, length), None

    def stride(x):
        return jax.lax.scan(one_step, x, None, min(STRIDE, env.episode_length))[0]

    nothing = jnp.zeros(_length(state))
    start = (state, nothing == 0.0, nothing, nothing)
    _, _, total, length = jax.lax.while_loop(lambda x: x[1].any(), stride, start)
    return total, length


def _draw(pool, count, key):
    """`count` different states of the pool: neighbours, from a random place on."""
    size = _length(pool)
    index = (jax.random.randint(key, (), 0, size) + jnp.arange(count)) % size
    return jax.tree.map(lambda x: x[index], pool)


def _where(over, a, b):
    return jax.tree.map(lambda x, y: jnp.where(over.reshape(-1, *[1] * (y.ndim - 1)), x, y), a, b)
