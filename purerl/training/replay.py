"""Circular replay buffers ("rings") of fixed size in device arrays, as NamedTuples of functions.

A ring consists of rows. A row is one step of all environments, so a write never wraps around. The caller counts the
written rows: `added` is one scalar for all seeds. XLA writes in place at an index without a seed axis. At an index with
a seed axis, the write would be a scatter.

The plain ring stores whole transitions. The compact ring stores every observation once: s' is the observation before
the next row. Where an episode was truncated, s' is stored in a small table instead.

Letters: E environments, F numbers per transition, W words per observation, K entries of the table of truncations.
"""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, PyTree, Shaped

from purerl.environments.base import Environment
from purerl.settings.schema import Plan
from purerl.types import IntScalar, Key, Transition

Size = tuple[int, ...]  # of a sample
Stored = bool | Bool[Array, " E"]


class Replay(NamedTuple):
    """A kind of replay buffer.

    Attributes:
        empty: `(added, observation [E, obs_size]) -> ring`. `added` is the number of the first row, and `observation`
            is the observation before that row.
        add: `(ring, added, transition [E, ...], observation [E, obs_size], stored [E] = True) -> ring` writes one row
            over the oldest, after `added` earlier rows. `observation` is the observation before the next row. Where
            `stored` is false, the transition is never sampled. It must be finite nevertheless.
        sample: `(ring, added, key, shape) -> Transition [n_step, *shape, ...]` draws windows of consecutive steps of
            one environment, uniformly and with replacement. A window may start at every stored row except the newest
            `n_step - 1`, whose windows are not complete yet. There must be at least `n_step` rows. A transition that is
            not stored is replaced by another of the same sample. A window that reaches it ends before it, as if
            truncated. The key is consumed.
        read: `(ring, row [n, E], env [E]) -> (Transition [n, E, ...], missing [n, E])` returns the rows with these
            numbers, and which of their transitions are not stored. The rows must still be in the ring.
    """

    empty: Callable[[IntScalar, Float[Array, "E obs"]], PyTree]
    add: Callable[[PyTree, IntScalar, Transition, Float[Array, "E obs"], Bool[Array, " E"]], PyTree]
    sample: Callable[[PyTree, IntScalar, Key, Size], Transition]
    read: Callable[[PyTree, Int[Array, "n E"], Int[Array, " E"]], tuple[Transition, Bool[Array, "n E"]]]


class Shape(NamedTuple):
    """The sizes of a ring, as Python ints, and the dtype of the stored observations."""

    rows: int
    n_step: int
    obs_size: int
    action_size: int
    episode_length: int
    dtype: str

    @property
    def words(self) -> int:
        """W, the number of float32 words per observation."""
        return -(-self.obs_size * jnp.dtype(self.dtype).itemsize // 4)


def replay(plan: Plan, env: Environment, terminal_observations: bool) -> Replay:
    """Return the replay buffer that `plan` selects.

    `terminal_observations` is the field of the algorithm. Raises ValueError if `plan` selects a compact ring that
    cannot hold what `env` returns, or does not keep what the algorithm reads.
    """
    shape = Shape(plan.rows, plan.n_step, env.obs_size, env.action_size, env.episode_length, plan.ring_dtype)
    if plan.ring == "compact" and env.truncates:
        raise ValueError(
            f"ring 'compact' cannot hold {env.name}, which may truncate an episode before its time limit; "
            f"use ring 'plain' or 'auto'"
        )
    if plan.ring == "compact" and terminal_observations:
        raise ValueError(
            "ring 'compact' does not keep s' of terminated transitions, which this algorithm reads; "
            "use ring 'plain' or 'auto'"
        )
    kind = plain if plan.ring == "plain" or env.truncates or terminal_observations else compact
    return kind(shape)


def plain(shape: Shape) -> Replay:
    """Return the ring that stores whole transitions, `[rows, E, F]`."""
    add, sample, read = partial(_plain_add, shape), partial(_plain_sample, shape), partial(_plain_read, shape)
    return Replay(partial(_plain_empty, shape), add, sample, read)


def compact(shape: Shape) -> Replay:
    """Return the ring that stores every observation once. Episodes may be truncated only by the time limit.

    For a terminated transition, it returns the first observation of the next episode as s'. The value of s' is not used
    there.
    """
    add, sample, read = partial(_compact_add, shape), partial(_compact_sample, shape), partial(_compact_read, shape)
    return Replay(partial(_compact_empty, shape), add, sample, read)


def copied(
    source: Replay, ring: PyTree, added: int, target: Replay, count: int, observation: Float[Array, "E obs"]
) -> PyTree:
    """Return a new ring of `target` with the newest `count` rows of the `ring` of `source`, as its rows 0 to `count`.

    `added` is the number of rows that were added to `ring`, and `observation` is the observation before the next row of
    the new ring. The last row is marked as not stored, because another episode follows it.
    """
    envs = jnp.arange(len(observation))
    rows = jnp.broadcast_to(jnp.arange(added - count, added)[:, None], (count, len(envs)))
    found, missing = source.read(ring, rows, envs)
    following = jnp.concatenate([found.observation[1:], observation[None]])
    stored = (~missing).at[-1].set(False)

    def add(new: PyTree, row: tuple[Int[Array, ""], Transition, Array, Array]) -> tuple[PyTree, None]:
        return target.add(new, *row), None

    numbered = (jnp.arange(count), found, following, stored)
    return jax.lax.scan(add, target.empty(0, found.observation[0]), numbered)[0]


class Compact(NamedTuple):
    """The state of a compact ring.

    Attributes:
        data: `[rows + 1, E, F]`: action, reward and end of each row, and the observation after it.
        last: `[K, E, W]`: the last observations of truncated episodes. An environment truncates at most once in
            `episode_length` rows, so there is one entry for each `episode_length` rows.
    """

    data: Float[Array, "rows+1 E F"]
    last: Float[Array, "K E W"]


def _plain_empty(shape: Shape, added: IntScalar, observation: Float[Array, "E obs"]) -> Float[Array, "rows E F"]:
    del added
    return jnp.zeros((shape.rows, len(observation), 2 * shape.words + shape.action_size + 2))


def _plain_add(
    shape: Shape,
    data: Float[Array, "rows E F"],
    added: IntScalar,
    transition: Transition,
    observation: Float[Array, "E obs"],
    stored: Stored = True,
) -> Float[Array, "rows E F"]:
    del observation
    done = _done(transition, stored)
    row = [_words(shape, transition.observation), *done, _words(shape, transition.next_observation)]
    return jax.lax.dynamic_update_index_in_dim(data, jnp.concatenate(row, axis=1), added % shape.rows, axis=0)


def _plain_sample(shape: Shape, data: Float[Array, "rows E F"], added: IntScalar, key: Key, size: Size) -> Transition:
    return _without(*_plain_read(shape, data, *_draw(shape, data.shape[1], added, key, size)))


def _plain_read(
    shape: Shape, data: Float[Array, "rows E F"], row: Int[Array, " n *size"], env: Int[Array, "*size"]
) -> tuple[Transition, Bool[Array, " n *size"]]:
    found = _read_once(data[row % shape.rows, env])
    observation, done, next_observation = _split(found, shape.words, -shape.words)
    return _transition(shape, observation, done, next_observation)


def _compact_empty(shape: Shape, added: IntScalar, observation: Float[Array, "E obs"]) -> Compact:
    num_envs = len(observation)
    stretches = -(-shape.rows // shape.episode_length) + 1
    data = jnp.zeros((shape.rows + 1, num_envs, shape.words + shape.action_size + 2))
    last = jnp.zeros((stretches, num_envs, shape.words))
    return Compact(data.at[added % (shape.rows + 1), :, : shape.words].set(_words(shape, observation)), last)


def _compact_add(
    shape: Shape,
    ring: Compact,
    added: IntScalar,
    transition: Transition,
    observation: Float[Array, "E obs"],
    stored: Stored = True,
) -> Compact:
    row = jnp.concatenate([_words(shape, observation), *_done(transition, stored)], axis=1)
    data = jax.lax.dynamic_update_index_in_dim(ring.data, row, (added + 1) % (shape.rows + 1), axis=0)
    place = added // shape.episode_length % len(ring.last)
    before = jax.lax.dynamic_index_in_dim(ring.last, place, keepdims=False)
    last = jnp.where(transition.truncated[:, None], _words(shape, transition.next_observation), before)
    return Compact(data, jax.lax.dynamic_update_index_in_dim(ring.last, last, place, axis=0))


def _compact_sample(shape: Shape, ring: Compact, added: IntScalar, key: Key, size: Size) -> Transition:
    return _without(*_compact_read(shape, ring, *_draw(shape, ring.data.shape[1], added, key, size)))


def _compact_read(
    shape: Shape, ring: Compact, row: Int[Array, " n *size"], env: Int[Array, "*size"]
) -> tuple[Transition, Bool[Array, " n *size"]]:
    around = jnp.concatenate([row[:1], row + 1])  # the observation before row r is stored with the action of row r - 1
    found = _read_once(ring.data[around % (shape.rows + 1), env])
    observation, done = _split(found, shape.words)
    last = ring.last[row // shape.episode_length % len(ring.last), env]
    next_observation = jnp.where(done[1:, ..., -1:] == TRUNCATED, last, observation[1:])
    return _transition(shape, observation[:-1], done[1:], next_observation)


def _draw(
    shape: Shape, num_envs: int, added: IntScalar, key: Key, size: Size
) -> tuple[Int[Array, " n *size"], Int[Array, "*size"]]:
    """Return the row numbers `[n_step, *size]` and the environments `[*size]` of random windows."""
    complete = jnp.minimum(added, shape.rows) - (shape.n_step - 1)
    draw = jax.random.randint(key, size, 0, complete * num_envs)
    age, env = draw // num_envs + (shape.n_step - 1), draw % num_envs
    return added - 1 - age + jnp.arange(shape.n_step).reshape(-1, *[1] * len(size)), env


TERMINATED, TRUNCATED, MISSING = 1.0, 2.0, 3.0


def _done(
    transition: Transition, stored: Stored
) -> tuple[Float[Array, "E A"], Float[Array, "E 1"], Float[Array, "E 1"]]:
    """Return action `[E, A]`, reward `[E, 1]`, and a code for the end of the episode `[E, 1]`."""
    end = TERMINATED * transition.terminated + TRUNCATED * transition.truncated
    end = jnp.where(stored, end, MISSING)
    return transition.action, transition.reward[:, None], end[:, None]


def _transition(
    shape: Shape,
    observation: Float[Array, " n *size W"],
    done: Float[Array, " n *size {shape.action_size+2}"],
    next_observation: Float[Array, " n *size W"],
) -> tuple[Transition, Bool[Array, " n *size"]]:
    """Return `(transitions, which of them were not stored)`."""
    action, reward, end = _split(done, shape.action_size, shape.action_size + 1)
    window = Transition(
        _observation(shape, observation),
        action,
        reward[..., 0],
        end[..., 0] == TERMINATED,
        end[..., 0] == TRUNCATED,
        _observation(shape, next_observation),
    )
    return window, end[..., 0] == MISSING


def _without(window: Transition, missing: Bool[Array, " n *size"]) -> Transition:
    """Return `window` `[n, *size, ...]` without the transitions that are `missing` `[n, *size]`."""
    cut = jnp.concatenate([missing[1:], jnp.zeros_like(missing[:1])]) & ~window.terminated
    window = window._replace(truncated=window.truncated | cut)
    none = missing[0].all()  # Then the whole sample is missing: the target is a reward of 0.
    window = window._replace(terminated=window.terminated | none)
    place = jnp.argmin(missing[0])  # the first window of the sample whose first transition is stored

    def replaced(x: Shaped[Array, "n ..."]) -> Shaped[Array, "n ..."]:
        other = x.reshape(len(x), missing[0].size, *x.shape[missing.ndim :])[:, place]
        other = other.reshape(len(x), *[1] * (missing.ndim - 1), *x.shape[missing.ndim :])
        return jnp.where(missing[0].reshape(missing[0].shape + (1,) * (x.ndim - missing.ndim)), other, x)

    return jax.tree.map(replaced, window)


def _read_once(found: Float[Array, "*batch F"]) -> Float[Array, "*batch F"]:
    """Return the rows that were found in a ring. XLA for GPUs stores them, and reads random places of the ring once.

    Otherwise every kernel that uses a field would read the ring again: nine kernels of TD3, and seven of DDPG. XLA for
    CPUs removes the barrier first, so that its programs do not change.
    """
    return jax.lax.optimization_barrier(found)


def _split(data: Float[Array, "*batch D"], *ends: int) -> list[Float[Array, "*batch _"]]:
    return jnp.split(data, [end % data.shape[-1] for end in ends], axis=-1)


def _words(shape: Shape, observation: Float[Array, "E obs"]) -> Float[Array, "E W"]:
    """Return observations `[E, obs_size]` as float32 words `[E, W]`, each with one float32 or two 16-bit numbers.

    No arithmetic is applied to the words.
    """
    if shape.dtype == "float32":
        return observation
    padded = jnp.pad(observation, ((0, 0), (0, 2 * shape.words - shape.obs_size)))
    most = float(jnp.finfo(shape.dtype).max)  # Clip larger numbers: an infinity would make the seed diverge.
    beyond = (jnp.abs(padded) > most) & jnp.isfinite(padded)
    padded = jnp.where(beyond, jnp.copysign(most, padded), padded)
    pairs = padded.astype(shape.dtype).reshape(len(observation), shape.words, 2)
    return jax.lax.bitcast_convert_type(pairs, jnp.float32)


def _observation(shape: Shape, words: Float[Array, "*batch W"]) -> Float[Array, "*batch obs"]:
    """Return words `[..., W]` as observations `[..., obs_size]`."""
    if shape.dtype == "float32":
        return words
    pairs = jax.lax.bitcast_convert_type(words, jnp.dtype(shape.dtype))
    return pairs.reshape(*words.shape[:-1], -1)[..., : shape.obs_size].astype(jnp.float32)
