"""The training loop: learn, act, store transitions, in one loop. It does not depend on a particular algorithm.

A *row* is one step of every environment. Rows are numbered from the start of the warm-up. The row number is the time of
the loop, a scalar without an axis over seeds. Every random number comes from a key that is a function of (run key,
purpose, time). Therefore a run draws the same numbers if it is resumed, split into parts, or evaluated for more
episodes.

Letters: E environments, B batch size, A action size.
"""

from collections.abc import Callable
from functools import reduce
from typing import Any, NamedTuple, TypeVar

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Num, PyTree

from purerl.environments import episodes
from purerl.environments.base import Environment
from purerl.environments.episodes import Episodes, Play
from purerl.settings.schema import Cycle, Plan, cycle
from purerl.training.normalizer import Normalizer, normalizer
from purerl.training.replay import Replay, replay
from purerl.trees import select
from purerl.types import Agent, Algorithm, Batch, IntScalar, Key, Metrics, Transition, actor_obs_size, actor_part

AGENT, START, WARMUP, COLLECT, LEARN, EVALUATION, REFILL, EXPLOIT, CRITIC = range(9)  # purposes of keys

UNROLLED = 2  # rounds with up to this many critic updates are unrolled; larger rounds are a loop, compiled once

LONGEST_EVALUATION = 1_000_000  # maximum steps of an evaluated episode, if there is no other limit

T = TypeVar("T")
Index = TypeVar("Index", int, Int[Array, ""])
Evaluation = dict[str, Num[Array, ""]]  # metrics of an evaluation, by name


class Run(NamedTuple):
    """The parts that training does not change."""

    plan: Plan
    algorithm: Algorithm
    env: Environment
    normalizer: Normalizer
    replay: Replay
    cycle: Cycle


class Carry(NamedTuple):
    """The parts that training changes, and the key of the run, which is constant.

    Attributes:
        agent: the algorithm's state.
        noise: the state of the exploration noise.
        episodes: the state of the environments.
        ring: the replay buffer, or None.
        statistics: running statistics of the observations.
        sums: `{metric: []}`, sums of the metrics of all cycles since the last evaluation.
        diverged: `[]` int32, the number of rows when a number of this run was first not finite; -1: never.
        environment_nan: `[]` int32, the same if that number came from the environment; otherwise -1.
        dropped: `[]` int32, transitions that were not stored because their reward was not finite.
        key: the key of the run.
    """

    agent: Agent
    noise: PyTree
    episodes: Episodes
    ring: PyTree
    statistics: PyTree
    sums: Metrics
    diverged: Int[Array, ""]
    environment_nan: Int[Array, ""]
    dropped: Int[Array, ""]
    key: Key


Turn = tuple[Int[Array, ""], Carry]  # the number of the next row, and the carry before it
Work = Callable[[Run, Carry, IntScalar, IntScalar], Turn]  # from one row to another, or until the pool runs low
Acting = Callable[[Run, Carry, IntScalar], tuple[PyTree, Float[Array, "E A"]]]  # (state of the noise, action) of a row


def setup(plan: Plan, algorithm: Algorithm, env: Environment) -> Run:
    """Return the `Run`. Raises ValueError if `plan` does not fit the policy delay, or its `ring` what it must keep."""
    buffer = replay(plan, env, algorithm.terminal_observations)
    return Run(plan, algorithm, env, normalizer(plan), buffer, cycle(plan, algorithm.policy_delay))


def train(
    plan: Plan, algorithm: Algorithm, env: Environment, key: Key
) -> tuple[Carry, dict[str, Num[Array, " num_evals"]]]:
    """Train one complete run, a pure function of a key. Use `jax.vmap` to map it over keys.

    Returns `(carry, curves)`. Every leaf of `curves` is `[num_evals]`. The first entry is from before training, where
    the means over an epoch (losses, q, alpha …) are NaN. The key is consumed.
    """
    run = setup(plan, algorithm, env)

    def evaluated(carry: Carry, index: Index) -> tuple[Carry, Evaluation]:
        values = evaluate(run, carry, index)
        return carry._replace(**{name: values[name] for name in JUDGED}), values

    def epoch_and_evaluation(carry: Carry, index: Int[Array, ""]) -> tuple[Carry, Evaluation]:
        carry, metrics = epoch(run, carry, index)
        carry, values = evaluated(carry, index + 1)
        return carry, values | metrics

    carry, first = evaluated(warmed_up(run, key), 0)
    carry, rest = jax.lax.scan(epoch_and_evaluation, carry, jnp.arange(plan.num_epochs))
    return carry, {
        name: jnp.concatenate([first.get(name, jnp.full(1, jnp.nan)).reshape(1), x]) for name, x in rest.items()
    }


def warmed_up(run: Run, key: Key) -> Carry:
    """Return the carry after the warm-up, which uses uniformly random actions and no learning."""
    return _with_pools(run, initial_carry(run, key, starts(run, key, START)), warm_up, 0, run.plan.warmup_rows)


def starts(run: Run, key: Key, purpose: IntScalar, index: IntScalar = 0, begun: IntScalar = 0) -> PyTree:
    """Return random initial states of episodes, `[P, ...]`: a pool, starting at number `begun`.

    `purpose` is START, or EVALUATION with its `index`. P is the same for both, so that one program draws all pools.
    """
    most = max(run.cycle.collects * run.plan.num_envs, -(-run.plan.eval_episodes // 2))
    return episodes.starts(run.env, episodes.pool_size(most), key_for(key, purpose, index), begun)


def _with_pools(run: Run, carry: Carry, work: Work, first: IntScalar, end: IntScalar) -> Carry:
    """Return the carry after `work` (`warm_up` or `cycles`) from row `first` to `end`, drawing pools as needed."""

    def one_pool(turn: Turn) -> Turn:
        row, carry = turn
        return work(run, _with_pool(run, carry), row, end)

    return jax.lax.while_loop(lambda turn: turn[0] < end, one_pool, (jnp.int32(first), carry))[1]


def _with_pool(run: Run, carry: Carry) -> Carry:
    """Return `carry` with the next initial states in its pool."""
    pool = starts(run, carry.key, START, begun=carry.episodes.begun)
    return carry._replace(episodes=episodes.with_pool(carry.episodes, pool))


def _while_starts_last(
    run: Run,
    body: Callable[[Int[Array, ""], Carry], Carry],
    first: IntScalar,
    end: IntScalar,
    carry: Carry,
    rows: int = 1,
) -> Turn:
    """Apply `body(row, carry)` for every `rows`-th row from `first` up to `end`, or until the pool runs low.

    Returns `(row, carry)`. `first` and `end` may be traced. All runs of a `vmap` stop at the same row, which has no
    axis over runs.
    """

    def goes_on(turn: Turn) -> Bool[Array, ""]:
        row, carry = turn
        low = ~episodes.holds(carry.episodes, run.cycle.collects * run.plan.num_envs)
        return (row < end) & ~episodes.anywhere(low)

    def one_turn(turn: Turn) -> Turn:
        row, carry = turn
        return row + rows, body(row, carry)

    return jax.lax.while_loop(goes_on, one_turn, (jnp.asarray(first, jnp.int32), carry))


def initial_carry(run: Run, key: Key, pool: PyTree) -> Carry:
    """Return the carry before the warm-up, with the first initial states from `pool`."""
    plan, env = run.plan, run.env
    carry = Carry(
        agent=run.algorithm.init(key_for(key, AGENT)),
        noise=run.algorithm.noise.init(),
        episodes=episodes.from_starts(pool, plan.num_envs),
        ring=None,
        statistics=run.normalizer.init(env.obs_size),
        sums={name: jnp.zeros(()) for name in run.algorithm.metrics},
        diverged=jnp.int32(-1),
        environment_nan=jnp.int32(-1),
        dropped=jnp.int32(0),
        key=key,
    )
    observed = _finite(episodes.observe(env, carry.episodes))
    return _watched(_with_empty_ring(run, carry, 0), observed, 0, by_environment=True)


def warm_up(run: Run, carry: Carry, first: IntScalar, end: IntScalar) -> Turn:
    """Run the warm-up from row `first` up to row `end`, or until the pool runs low. Returns `(row, carry)`."""
    return collecting(at_random)(run, carry, first, end)


def collecting(acting: Acting) -> Work:
    """Return the work that collects rows with the actions of `acting`, and does not learn."""

    def collected(run: Run, carry: Carry, first: IntScalar, end: IntScalar) -> Turn:
        return _while_starts_last(run, lambda row, carry: collect(run, carry, row, acting), first, end, carry)

    return collected


def begin_refill(run: Run, carry: Carry, row: int) -> Carry:
    """Return a carry with an empty ring, which `refill` fills. It replaces a ring that was not saved.

    `row`, a Python int, is the number of rows. Refilling does not learn, and does not change the statistics of
    observations. The continued run differs from one that kept its ring.
    """
    key = key_for(carry.key, REFILL, row)
    return _with_empty_ring(run, carry, first_refilled(run.plan, row))._replace(key=key)


def first_refilled(plan: Plan, row: int) -> int:
    """Return the number of the first row that the ring holds after `row` rows."""
    return max(0, row - plan.rows)


def refill(run: Run, carry: Carry, first: IntScalar, end: IntScalar) -> Turn:
    """Collect rows with the exploring policy from `first` up to `end`, or until the pool runs low.

    Returns `(row, carry)`.
    """
    return collecting(exploring)(run, carry, first, end)


REFILLED = ("ring", "episodes", "noise", "diverged", "environment_nan", "dropped")  # fields taken from `refill`


def epoch(run: Run, carry: Carry, index: IntScalar) -> tuple[Carry, Metrics]:
    """Train from evaluation `index` to `index + 1`. Returns `(carry, means of the metrics)`."""
    first = row_of(run.plan, run.cycle, jnp.asarray(index))
    end = first + run.cycle.per_epoch * run.cycle.collects
    carry = _with_pools(run, carry, cycles, first, end)
    return carry, means(run.cycle, carry)


def means(cycle: Cycle, carry: Carry) -> dict[str, Float[Array, "*R"]]:
    """Return `{metric: mean}` over the epoch that `carry`, of one run or several, has just completed."""
    return {name: total / cycle.per_epoch for name, total in carry.sums.items()}


def cycles(run: Run, carry: Carry, first: IntScalar, end: IntScalar) -> Turn:
    """Train in whole cycles from row `first` up to row `end`, or until the pool runs low. Returns `(row, carry)`."""
    collects = run.cycle.collects
    return _while_starts_last(run, lambda row, carry: one_cycle(run, carry, row), first, end, carry, collects)


def one_cycle(run: Run, carry: Carry, row: IntScalar) -> Carry:
    """Run the cycle that begins at row number `row`: first learn, then act.

    The written row depends on the sampled batches, through the actor and its action. Therefore XLA cannot move the
    write before the read, and never has to copy the ring.
    """
    rows = row + jnp.arange(run.cycle.collects)
    carry = learned(run, carry, row)
    return jax.lax.scan(lambda carry, row: (collect(run, carry, row, exploring), None), carry, rows)[0]


LEARNED = ("agent", "diverged", "environment_nan", "sums")  # the only fields of a carry that `learned` changes


def one_loop(warming_up: Acting) -> Work:
    """Return `warm_up` and `cycles` as one loop over rows, so that one program has the environment's step.

    `warming_up` selects the actions of the warm-up. The updates are in a conditional. It stays one under `jax.vmap`,
    because the row has no axis over runs. On a GPU it would copy the agent in every cycle.
    """

    def acting(run: Run, carry: Carry, row: IntScalar) -> tuple[PyTree, Float[Array, "E A"]]:
        warms_up = jnp.asarray(row < run.plan.warmup_rows)
        return select(warms_up, warming_up(run, carry, row), exploring(run, carry, row))

    def one_row(run: Run, carry: Carry, row: IntScalar) -> Carry:
        def after(carry: Carry) -> dict[str, PyTree]:
            return {name: getattr(carry, name) for name in LEARNED}

        trained = row - run.plan.warmup_rows
        learns = (trained >= 0) & (trained % run.cycle.collects == 0)
        changed = jax.lax.cond(learns, lambda: after(learned(run, carry, row)), lambda: after(carry))
        return collect(run, carry._replace(**changed), row, acting)

    def warm_up_and_cycles(run: Run, carry: Carry, first: IntScalar, end: IntScalar) -> Turn:
        return _while_starts_last(run, lambda row, carry: one_row(run, carry, row), first, end, carry)

    return warm_up_and_cycles


def learned(run: Run, carry: Carry, row: IntScalar) -> Carry:
    """Return `carry` after the updates of the cycle that begins at row number `row`, with their metrics in `sums`."""
    carry, metrics = learn(run, carry, row)
    begun = (row - run.plan.warmup_rows) % (run.cycle.per_epoch * run.cycle.collects) == 0
    sums = {name: jnp.where(begun, 0.0, total) + metrics[name] for name, total in carry.sums.items()}
    return carry._replace(sums=sums)


def learn(run: Run, carry: Carry, row: IntScalar) -> tuple[Carry, Metrics]:
    """Make the updates of one cycle, with the contents of the ring before row number `row` is written.

    After the first round with a metric that is not finite, the agent is frozen. A loss that is not finite changes no
    parameters (`optimization.descend`).
    """

    def draw(key: Key) -> Batch:
        """Return batches for the critic updates of one round, `[critic_updates, B, ...]`."""
        shape = (run.cycle.critic_updates, run.plan.batch_size)
        window = run.replay.sample(carry.ring, row, key, shape)
        window = window._replace(
            observation=run.normalizer.apply(carry.statistics, window.observation),
            next_observation=run.normalizer.apply(carry.statistics, window.next_observation),
        )
        return jax.vmap(run.algorithm.to_batch, in_axes=1)(window)

    def one_round(state: tuple[Agent, Bool[Array, ""]], keys: PyTree) -> tuple[tuple[Agent, Bool[Array, ""]], Metrics]:
        """Make `policy_delay` critic updates, then one actor update with the last of their batches."""
        agent, sound = state
        (sample_key, value_key, actor_key), critic_keys = keys
        batches = draw(sample_key)
        values = run.algorithm.next_value(agent, batches, value_key)

        def update_critic(agent: Agent, batch_value_key: tuple[Batch, PyTree, Key]) -> tuple[Agent, Metrics]:
            new, metrics = run.algorithm.update_critic(agent, *batch_value_key)
            return select(sound, new, agent), metrics

        agent, critic_metrics = critic_updates(update_critic, agent, (batches, values, critic_keys))
        new, actor_metrics = run.algorithm.update_actor(agent, jax.tree.map(lambda x: x[-1], batches), actor_key)
        metrics = _mean(critic_metrics) | actor_metrics
        return (select(sound, new, agent), sound & _finite(metrics)), metrics

    rounds = run.cycle.actor_updates
    keys = jax.random.split(key_for(carry.key, LEARN, row), (rounds, 3))
    critic_keys = jax.random.split(key_for(carry.key, CRITIC, row), (rounds, run.cycle.critic_updates))
    (agent, sound), metrics = scan_mean(one_round, (carry.agent, carry.diverged < 0), (keys, critic_keys))
    return _watched(carry._replace(agent=agent), sound, row), metrics


def critic_updates(
    update: Callable[[Agent, Any], tuple[Agent, Metrics]], agent: Agent, xs: PyTree
) -> tuple[Agent, dict[str, Float[Array, " C"]]]:
    """Apply `jax.lax.scan` to the critic updates of a round. Few updates are unrolled, so that XLA fuses them."""
    return jax.lax.scan(update, agent, xs, unroll=len(jax.tree.leaves(xs)[0]) <= UNROLLED)


def exploring(run: Run, carry: Carry, row: IntScalar) -> tuple[PyTree, Float[Array, "E A"]]:
    """Return `(state of the noise, action)` of the exploring policy."""
    noise_key, act_key = jax.random.split(key_for(carry.key, COLLECT, row))
    progress = row * (run.plan.num_envs / run.plan.total_steps)
    noise_state, noise = run.algorithm.noise.draw(carry.noise, progress, noise_key)
    observation = for_actor(run, carry, episodes.observe(run.env, carry.episodes))
    return noise_state, run.algorithm.explore(carry.agent, observation, noise, act_key)


def at_random(run: Run, carry: Carry, row: IntScalar) -> tuple[PyTree, Float[Array, "E A"]]:
    """Return `(state of the noise, action)` with uniformly random actions, which use no noise."""
    shape = (run.plan.num_envs, run.env.action_size)
    return carry.noise, jax.random.uniform(key_for(carry.key, WARMUP, row), shape, minval=-1.0, maxval=1.0)


def collect(run: Run, carry: Carry, row: IntScalar, acting: Acting) -> Carry:
    """Act in every environment with the actions of `acting`, and store the transitions as row number `row`."""
    noise, action = acting(run, carry, row)
    return remember(run, carry._replace(noise=noise), action, row)


def for_actor(run: Run, carry: Carry, observation: Float[Array, "*batch obs"]) -> Float[Array, "*batch seen"]:
    """Return the part of an observation that the actor reads, normalized."""
    return actor_part(run.normalizer.apply(carry.statistics, observation), actor_obs_size(run.env))


def remember(run: Run, carry: Carry, action: Float[Array, "E A"], row: IntScalar) -> Carry:
    """Step the environments with `action` `[E, A]`, and store the transitions as row number `row`."""
    now, transition = episodes.step(run.env, carry.episodes, action)
    transition, stored = repaired(transition)
    following = episodes.observe(run.env, now)
    numbers = (transition.reward, transition.next_observation, following)
    carry = _watched(carry, _finite(numbers), row + 1, by_environment=_finite(action))
    statistics = run.normalizer.update(carry.statistics, transition.observation)
    return carry._replace(
        noise=run.algorithm.noise.restart(carry.noise, transition.terminated | transition.truncated),
        episodes=now,
        ring=run.replay.add(carry.ring, row, transition, following, stored),
        statistics=select(carry.diverged < 0, statistics, carry.statistics),
        dropped=carry.dropped + (~stored).sum(dtype=jnp.int32),
    )


def repaired(transition: Transition) -> tuple[Transition, Bool[Array, " E"]]:
    """Return `(transition, stored)`, `[E, ...]`, repaired where an episode terminated in a state that is not finite.

    Many tasks terminate in such a state. Its observation is not used: s replaces s', and the target is r. If r is not
    finite either, the transition is not stored.
    """
    terminated = transition.terminated
    stored = ~(terminated & ~jnp.isfinite(transition.reward))
    broken = terminated & ~jnp.isfinite(transition.next_observation).all(axis=-1)
    return transition._replace(
        reward=jnp.where(stored, transition.reward, 0.0),
        next_observation=jnp.where(broken[:, None], transition.observation, transition.next_observation),
    ), stored


def evaluate(run: Run, carry: Carry, index: Index) -> Evaluation:
    """Play complete episodes without exploration noise in separate environments. Returns `{name: []}` as in `judged`.

    Evaluation does not change training, nor the random numbers of training.
    """
    play = initial_play(run, starts(run, carry.key, EVALUATION, index))
    play = evaluate_on(run, carry, play, -(-longest(run.plan, run.env) // episodes.STRIDE))
    return judged(run, carry, play, row_of(run.plan, run.cycle, index))


def initial_play(run: Run, states: PyTree) -> Play:
    """Return the episodes of an evaluation at their start, from the first of `states`."""
    return episodes.begin_play(episodes.first(states, run.plan.eval_episodes))


def evaluate_on(run: Run, carry: Carry, play: Play, count: IntScalar) -> Play:
    """Play `count` more strides of an evaluation, or fewer if all episodes have ended. `count` may be traced."""
    policy = run.algorithm.policy(carry.agent)

    def act(observation: Float[Array, "N obs"]) -> Float[Array, "N A"]:
        return run.algorithm.act(policy, for_actor(run, carry, observation))

    return episodes.play_on(run.env, act, play, count, longest(run.plan, run.env))


def longest(plan: Plan, env: Environment) -> int:
    """Return the maximum length of an evaluated episode [steps]."""
    return min(env.episode_length, plan.eval_length or LONGEST_EVALUATION)


JUDGED = ("diverged", "environment_nan")  # the fields of a carry that an evaluation updates


def judged(run: Run, carry: Carry, play: Play, row: IntScalar) -> Evaluation:
    """Return the results `{name: []}` of a complete evaluation of a carry with `row` rows.

    - `return_mean` and `return_std` of the undiscounted, unscaled return over `eval_episodes`
    - `episode_length`, the mean length, and `dropped`, the number of dropped transitions
    - the new values of the fields `JUDGED` of the carry: a run also diverges if parameters or returns are not finite
    """
    sound_agent = _finite(carry.agent)
    carry = _watched(carry, sound_agent & _finite(play.returns), row, by_environment=sound_agent)
    returns = {"return_mean": play.returns.mean(), "return_std": play.returns.std()}
    returns |= {"episode_length": play.length.mean(), "dropped": carry.dropped}
    return returns | {name: getattr(carry, name) for name in JUDGED}


def row_of(plan: Plan, cycle: Cycle, index: Index) -> Index:
    """Return the number of the row that is written next after evaluation `index`."""
    return plan.warmup_rows + index * cycle.per_epoch * cycle.collects


def env_steps(plan: Plan, index: int) -> int:
    """Return the number of environment steps at evaluation `index`."""
    return 0 if index == 0 else plan.warmup_steps + index * (plan.total_steps - plan.warmup_steps) // plan.num_epochs


def updates(plan: Plan, index: int) -> int:
    """Return the number of critic updates at evaluation `index`."""
    return (env_steps(plan, index) - plan.warmup_steps) // plan.num_envs * plan.updates_per_step if index else 0


def _with_empty_ring(run: Run, carry: Carry, row: IntScalar) -> Carry:
    return carry._replace(ring=run.replay.empty(row, episodes.observe(run.env, carry.episodes)))


def _watched(
    carry: Carry, sound: Bool[Array, ""], rows: IntScalar, by_environment: bool | Bool[Array, ""] = False
) -> Carry:
    """Return `carry`, marked as diverged after `rows` rows if it is not `sound`. An earlier mark does not change.

    `by_environment`: the number that is not finite came from the environment.
    """
    now = (carry.diverged < 0) & ~sound
    return carry._replace(
        diverged=jnp.where(now, rows, carry.diverged),
        environment_nan=jnp.where(now & by_environment, rows, carry.environment_nan),
    )


def _finite(tree: PyTree) -> Bool[Array, ""]:
    """Return whether every number in `tree` is finite, `[]`."""
    return reduce(jnp.logical_and, [jnp.isfinite(x).all() for x in jax.tree.leaves(tree)], jnp.bool_(True))


def key_for(key: Key, purpose: IntScalar, time: IntScalar = 0) -> Key:
    """Return the key for a purpose at a time, from the key of a run or of a sweep."""
    return jax.random.fold_in(jax.random.fold_in(key, purpose), time)


def _mean(metrics: dict[str, Float[Array, " C"]]) -> Metrics:
    return jax.tree.map(lambda x: x.mean(axis=0), metrics)


def scan_mean(step: Callable[[T, Any], tuple[T, Metrics]], carry: T, xs: PyTree) -> tuple[T, Metrics]:
    """Apply `jax.lax.scan`, and return the mean of the outputs instead of all outputs. It needs no extra kernel."""
    step = jax.jit(step)  # Otherwise it would be traced twice.

    def summing(carry_and_total: tuple[T, Metrics], x: PyTree) -> tuple[tuple[T, Metrics], None]:
        carry, total = carry_and_total
        carry, out = step(carry, x)
        return (carry, jax.tree.map(jnp.add, total, out)), None

    first = jax.tree.map(lambda x: x[0], xs)
    zeros = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), jax.eval_shape(step, carry, first)[1])
    (carry, total), _ = jax.lax.scan(summing, (carry, zeros), xs)
    return carry, jax.tree.map(lambda x: x / len(jax.tree.leaves(xs)[0]), total)
