"""Many copies of an environment, with the time limit and a new random start for every episode.

Start number n of a run is `reset(fold_in(key, n))`, so no two episodes share a start. Starts are drawn in advance into
a pool, P at a time, so a step needs no reset. Before each step, `holds` returns whether the pool has enough starts. If
not, `draw` draws the next P. The starts do not depend on when the pool is filled.

Sizes: E environments, P starts in the pool, N episodes of an evaluation.
"""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Bool, Float, Int32, UInt32

from purerl.environments import base
from purerl.environments.base import Environment, State
from purerl.types import Array, IntScalar, Key, Transition

Act = Callable[[Float[Array, "N obs"]], Float[Array, "N A"]]

STRIDE = 50  # steps between checks whether any episode is still running. On a GPU the host waits for each check.


class Episodes(NamedTuple):
    """Running episodes.

    Attributes:
        state: states of the environments, `[E, ...]`.
        elapsed: steps since each episode started, `[E]` int32.
        begun: number of episodes started so far, `[]` uint32: the number of the next start. It wraps after 2^32.
        drawn: starts with a smaller number are in the pool or used, `[]` uint32.
        pool: starts, `[P, ...]`. Start number n is at index n modulo P.
    """

    state: State
    elapsed: Int32[Array, "*batch E"]
    begun: UInt32[Array, "*batch"]
    drawn: UInt32[Array, "*batch"]
    pool: State


class Play(NamedTuple):
    """Episodes that are played once, with the returns so far.

    Attributes:
        state: states of the environments, `[N, ...]`.
        alive: whether the episode is still running, `[N]` bool.
        total, lost: their sum is the undiscounted return, `[N]`. `lost` holds the rounding error of `total`.
        length: steps so far, `[N]` int32.
    """

    state: State
    alive: Bool[Array, "*batch N"]
    total: Float[Array, "*batch N"]
    lost: Float[Array, "*batch N"]
    length: Int32[Array, "*batch N"]

    @property
    def returns(self) -> Float[Array, "*batch N"]:
        """The undiscounted return of each episode, `[N]`."""
        return self.total + self.lost


def pool_size(most: int) -> int:
    """Return P, a power of two, for a pool from which up to `most` starts are taken between two checks."""
    return max(64, 1 << (2 * most - 1).bit_length())


def starts(env: Environment, count: int, key: Key, begun: int | UInt32[Array, ""] = 0) -> State:
    """Return the `count` starts from number `begun` on, `[count, ...]`. Start number n is at index n modulo `count`."""
    begun, slots = jnp.uint32(begun), jnp.arange(count, dtype=jnp.uint32)
    numbers = begun + (slots - begun) % jnp.uint32(count)
    return jax.vmap(lambda number: env.reset(jax.random.fold_in(key, number)))(numbers)


def begin(env: Environment, num_envs: int, key: Key) -> Episodes:
    """Return `num_envs` episodes at their start. Pass the same key to `draw`."""
    return from_starts(starts(env, pool_size(num_envs), key), num_envs)


def from_starts(pool: State, num_envs: int) -> Episodes:
    """Return `num_envs` episodes at the first starts of `pool`, which holds the numbers 0 to P - 1."""
    begun, drawn = jnp.uint32(num_envs), jnp.uint32(_length(pool))
    return Episodes(first(pool, num_envs), jnp.zeros(num_envs, jnp.int32), begun, drawn, pool)


def holds(episodes: Episodes, count: int) -> Bool[Array, "*batch"]:
    """Return whether the pool holds the next `count` starts, `[]` bool."""
    return episodes.drawn - episodes.begun >= count


def draw(env: Environment, episodes: Episodes, key: Key) -> Episodes:
    """Return `episodes` with the next P starts in the pool. `key` is the key of all starts of the run."""
    return with_pool(episodes, starts(env, _length(episodes.pool), key, episodes.begun))


def with_pool(episodes: Episodes, pool: State) -> Episodes:
    """Return `episodes` with `pool`, which holds the next P starts."""
    return episodes._replace(drawn=episodes.begun + jnp.uint32(_length(pool, episodes.begun.ndim)), pool=pool)


def first(states: State, count: int, axis: int = 0) -> State:
    """Return the first `count` entries along an axis of `states`, a tree of arrays `[..., N, ...]`."""
    if _length(states, axis) == count:
        return states
    return jax.tree.map(lambda x: jax.lax.slice_in_dim(x, 0, count, axis=axis), states)


def _length(states: State, axis: int = 0) -> int:
    return jax.tree.leaves(states)[0].shape[axis]


def observe(env: Environment, episodes: Episodes) -> Float[Array, "E obs"]:
    """Return the observations, `[E, obs_size]`."""
    return jax.vmap(env.observe)(episodes.state)


def step(env: Environment, episodes: Episodes, action: Float[Array, "E A"]) -> tuple[Episodes, Transition]:
    """Step every environment with actions in [-1, 1]. Returns `(episodes, Transition [E, ...])`.

    The pool must hold the next E starts. Where an episode ended, the returned `episodes` are at a new start.
    `next_observation` is still the last observation of the old episode. Reaching the time limit is a truncation.
    """
    state, outcome = jax.vmap(partial(base.act, env))(episodes.state, action)
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
    ends = jnp.cumsum(over.astype(jnp.uint32))
    place = (episodes.begun + ends - 1) % _length(episodes.pool)  # index of the next start, where an episode ended
    state = _where(over, jax.tree.map(lambda x: x[place], episodes.pool), state)
    elapsed = jnp.where(over, 0, elapsed)
    return episodes._replace(state=state, elapsed=elapsed, begun=episodes.begun + ends[-1]), transition


@jax.custom_batching.custom_vmap
def anywhere(flag: Bool[Array, ""]) -> Bool[Array, ""]:
    """Return whether `flag` `[]` is True in any of the runs that `vmap` maps over: one value for all of them."""
    return flag


@anywhere.def_vmap
def _anywhere_of_many(
    axis_size: int, in_batched: list[bool], flag: Bool[Array, "*batch"]
) -> tuple[Bool[Array, ""], bool]:
    del axis_size
    return anywhere(flag.any(axis=0) if in_batched[0] else flag), False


def begin_play(states: State) -> Play:
    """Return the `Play` with one episode from each of `states`, `[N, ...]`."""
    count = _length(states)
    zeros = jnp.zeros(count)
    return Play(states, jnp.ones(count, bool), zeros, zeros, jnp.zeros(count, jnp.int32))


def play(
    env: Environment, act: Act, states: State, limit: int | None = None
) -> tuple[Float[Array, " N"], Int32[Array, " N"]]:
    """Play one whole episode from each of `states`, with actions from `act`.

    `act` is `(observation [N, obs_size]) -> action [N, action_size]` in [-1, 1]. Returns the undiscounted return and
    the length of each episode, `[N]`. The loop ends soon after the longest episode, or after `limit` steps.
    """
    limit = env.episode_length if limit is None else limit
    played = play_on(env, act, begin_play(states), -(-limit // STRIDE), limit)
    return played.returns, played.length


def play_on(env: Environment, act: Act, play: Play, count: IntScalar, limit: int) -> Play:
    """Return `play` after up to `count` more strides of `STRIDE` steps. Stops early if all episodes have ended.

    No episode is longer than the environment's time limit or `limit` steps.
    """
    limit = min(limit, env.episode_length)

    def one_step(play: Play, _: None) -> tuple[Play, None]:
        state, outcome = jax.vmap(partial(base.act, env))(play.state, act(jax.vmap(env.observe)(play.state)))
        counts = play.alive & ~(outcome.terminated & ~jnp.isfinite(outcome.reward))
        total, lost = add(play.total, play.lost, jnp.where(counts, outcome.reward, 0.0))
        length = play.length + play.alive
        over = outcome.terminated | outcome.truncated | (length >= limit)
        return Play(state, play.alive & ~over, total, lost, length), None

    def stride(turn_and_play: tuple[Int32[Array, ""], Play]) -> tuple[Int32[Array, ""], Play]:
        turn, play = turn_and_play
        return turn + 1, jax.lax.scan(one_step, play, None, min(STRIDE, limit))[0]

    def goes_on(turn_and_play: tuple[Int32[Array, ""], Play]) -> Bool[Array, ""]:
        turn, play = turn_and_play
        return (turn < count) & anywhere(play.alive.any())

    return jax.lax.while_loop(goes_on, stride, (jnp.int32(0), play))[1]


def add(
    total: Float[Array, "*batch"], lost: Float[Array, "*batch"], x: Float[Array, "*batch"]
) -> tuple[Float[Array, "*batch"], Float[Array, "*batch"]]:
    """Return `total + lost + x` as two numbers: the rounded sum and its rounding error.

    Compensated summation (Kahan 1965), with the exact error of a sum (Knuth 1969, §4.2.2, theorem B).
    """
    x = x + lost
    rounded = total + x
    added = rounded - total
    return rounded, (total - (rounded - added)) + (x - added)


def _where(over: Bool[Array, " E"], a: State, b: State) -> State:
    return jax.tree.map(lambda x, y: jnp.where(over.reshape(-1, *[1] * (y.ndim - 1)), x, y), a, b)
