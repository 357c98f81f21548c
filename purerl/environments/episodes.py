"""Many copies of an environment, the time limit, and a fresh random start for every episode.

Start number n of a run is `reset(fold_in(key, n))`: no two episodes share a start. The starts are drawn ahead, P at a
time, into a pool, so that a step costs no reset. Before each step `holds` tells whether the pool has enough of them;
where it does not, `draw` draws the next P. When that is done changes no start.
Letters: E environments, P starts in the pool, N episodes of an evaluation.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Bool, Float, Int32, UInt32

from purerl.environments.base import Environment, State
from purerl.types import Array, IntScalar, Key, Transition

Act = Callable[[Float[Array, "N obs"]], Float[Array, "N A"]]

STRIDE = 50  # steps between looks at whether any episode still goes on: on a GPU, the host waits for each look


class Episodes(NamedTuple):
    """Episodes under way.

    Attributes:
        state: the environments', `[E, ...]`.
        elapsed: steps since each episode began, `[E]` int32.
        begun: episodes begun so far, `[]` uint32: the number of the next start. It wraps after 2^32 episodes.
        drawn: the starts before this number are in the pool, or used, `[]` uint32.
        pool: starts, `[P, ...]`; start number n lies at n modulo P.
    """

    state: State
    elapsed: Int32[Array, "*batch E"]
    begun: UInt32[Array, "*batch"]
    drawn: UInt32[Array, "*batch"]
    pool: State


class Play(NamedTuple):
    """Whole episodes that are played once, and what each has come to.

    Attributes:
        state: the environments', `[N, ...]`.
        alive: whether the episode still goes on, `[N]` bool.
        total, lost: the undiscounted return is their sum, `[N]`; `lost` holds the digits that `total` cannot.
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
    """P, a power of two, of a pool from which `most` starts may be taken before it is looked at again."""
    return max(64, 1 << (2 * most - 1).bit_length())


def starts(env: Environment, count: int, key: Key, begun: int | UInt32[Array, ""] = 0) -> State:
    """The `count` starts from number `begun` on, `[count, ...]`; start number n lies at n modulo `count`."""
    begun, slots = jnp.uint32(begun), jnp.arange(count, dtype=jnp.uint32)
    numbers = begun + (slots - begun) % jnp.uint32(count)
    return jax.vmap(lambda number: env.reset(jax.random.fold_in(key, number)))(numbers)


def begin(env: Environment, num_envs: int, key: Key) -> Episodes:
    """`num_envs` episodes at their start. `draw` takes the same key."""
    return from_starts(starts(env, pool_size(num_envs), key), num_envs)


def from_starts(pool: State, num_envs: int) -> Episodes:
    """`num_envs` episodes at the first of the starts in `pool`, which are numbers 0 to P - 1."""
    begun, drawn = jnp.uint32(num_envs), jnp.uint32(_length(pool))
    return Episodes(first(pool, num_envs), jnp.zeros(num_envs, jnp.int32), begun, drawn, pool)


def holds(episodes: Episodes, count: int) -> Bool[Array, "*batch"]:
    """Whether the pool holds the next `count` starts, `[]` bool."""
    return episodes.drawn - episodes.begun >= count


def draw(env: Environment, episodes: Episodes, key: Key) -> Episodes:
    """`episodes` whose pool holds the next P starts. `key` is that of all starts of the run, always the same one."""
    return with_pool(episodes, starts(env, _length(episodes.pool), key, episodes.begun))


def with_pool(episodes: Episodes, pool: State) -> Episodes:
    """`episodes` with the pool of the next P starts."""
    return episodes._replace(drawn=episodes.begun + jnp.uint32(_length(pool, episodes.begun.ndim)), pool=pool)


def first(states: State, count: int, axis: int = 0) -> State:
    """The first `count` along an axis of `states`, a tree of arrays `[..., N, ...]`."""
    if _length(states, axis) == count:
        return states
    return jax.tree.map(lambda x: jax.lax.slice_in_dim(x, 0, count, axis=axis), states)


def _length(states: State, axis: int = 0) -> int:
    return jax.tree.leaves(states)[0].shape[axis]


def observe(env: Environment, episodes: Episodes) -> Float[Array, "E obs"]:
    """`[E, obs_size]`."""
    return jax.vmap(env.observe)(episodes.state)


def step(env: Environment, episodes: Episodes, action: Float[Array, "E A"]) -> tuple[Episodes, Transition]:
    """One step of every environment: `(episodes, Transition [E, ...])`. The pool must hold the next E starts.

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
    ends = jnp.cumsum(over.astype(jnp.uint32))
    place = (episodes.begun + ends - 1) % _length(episodes.pool)  # of the next start, where an episode ended
    state = _where(over, jax.tree.map(lambda x: x[place], episodes.pool), state)
    elapsed = jnp.where(over, 0, elapsed)
    return episodes._replace(state=state, elapsed=elapsed, begun=episodes.begun + ends[-1]), transition


@jax.custom_batching.custom_vmap
def anywhere(flag: Bool[Array, ""]) -> Bool[Array, ""]:
    """Whether `flag` `[]` holds in any of the runs that `vmap` maps over: one answer for all of them."""
    return flag


@anywhere.def_vmap
def _anywhere_of_many(
    axis_size: int, in_batched: list[bool], flag: Bool[Array, "*batch"]
) -> tuple[Bool[Array, ""], bool]:
    del axis_size
    return anywhere(flag.any(axis=0) if in_batched[0] else flag), False


def begin_play(states: State) -> Play:
    """The `Play` of an episode from each of `states`, `[N, ...]`."""
    count = _length(states)
    zeros = jnp.zeros(count)
    return Play(states, jnp.ones(count, bool), zeros, zeros, jnp.zeros(count, jnp.int32))


def play(
    env: Environment, act: Act, states: State, limit: int | None = None
) -> tuple[Float[Array, " N"], Int32[Array, " N"]]:
    """Whole episodes of `act`, `(observation [N, obs_size]) -> action [N, action_size]`, one from each of `states`.

    Returns the undiscounted return and the length of each, `[N]`. Ends soon after the longest, or after `limit` steps.
    """
    limit = env.episode_length if limit is None else limit
    played = play_on(env, act, begin_play(states), -(-limit // STRIDE), limit)
    return played.returns, played.length


def play_on(env: Environment, act: Act, play: Play, count: IntScalar, limit: int) -> Play:
    """`play` after at most `count` strides of `STRIDE` steps more; fewer where all its episodes have ended.

    No episode lasts longer than the environment's time limit, nor than `limit` steps.
    """
    limit = min(limit, env.episode_length)

    def one_step(play: Play, _: None) -> tuple[Play, None]:
        state, outcome = jax.vmap(env.step)(play.state, act(jax.vmap(env.observe)(play.state)))
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
    """`total + lost + x` as two numbers, `lost` being what rounding takes from `total`.

    Compensated summation (Kahan 1965), with the exact error of a sum (Knuth 1969, §4.2.2, theorem B).
    """
    x = x + lost
    rounded = total + x
    added = rounded - total
    return rounded, (total - (rounded - added)) + (x - added)


def _where(over: Bool[Array, " E"], a: State, b: State) -> State:
    return jax.tree.map(lambda x, y: jnp.where(over.reshape(-1, *[1] * (y.ndim - 1)), x, y), a, b)
