"""The training loop: act, remember, learn, in one scan. It looks inside no algorithm.

A *row* is one step of every environment; rows are numbered from the start of the warm-up, and that number is the clock:
a scalar without a seed axis. Every random number comes from a key that is a function of (run key, purpose, time), so a
run that is resumed, cut into chunks or evaluated for more episodes draws what it would have drawn.

Letters: E environments, B batch, A action size.
"""

from functools import reduce
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from purerl.environments import episodes
from purerl.environments.base import Environment
from purerl.environments.episodes import Episodes
from purerl.learning import where
from purerl.normalizer import Normalizer, normalizer
from purerl.replay import Replay, replay
from purerl.settings import Cycle, Plan, cycle
from purerl.types import Algorithm, Array, Key

AGENT, START, WARMUP, POOL, COLLECT, LEARN, EVALUATION, REFILL, EXPLOIT = range(9)  # what a key is for


class Run(NamedTuple):
    """What stays the same while training."""

    plan: Plan
    algorithm: Algorithm
    env: Environment
    normalizer: Normalizer
    replay: Replay
    cycle: Cycle


class Carry(NamedTuple):
    """What training changes, and the key of the run, which it does not.

    `diverged` `[]` int32 is the number of rows there were when a number of this run was first not finite; -1: never.
    """

    agent: Any
    noise: Any
    episodes: Episodes
    ring: Any
    statistics: Any
    diverged: Array
    key: Key


def setup(plan, algorithm, env):
    """Raises ValueError where `plan` does not fit the algorithm's policy delay, or its ring the environment."""
    return Run(plan, algorithm, env, normalizer(plan), replay(plan, env), cycle(plan, algorithm.policy_delay))


def train(plan, algorithm, env, key):
    """One whole training run as a pure function of a key. Map it over keys with `jax.vmap`.

    Returns `(carry, curves)`; every leaf of `curves` is `[num_evals]`, the first from before training, where the means
    over an epoch (losses, q, alpha …) are NaN. The key is consumed.
    """
    run = setup(plan, algorithm, env)

    def evaluated(carry, index):
        values = evaluate(run, carry, index)
        return carry._replace(diverged=values["diverged"]), values

    def epoch_and_evaluation(carry, index):
        carry, metrics = epoch(run, carry, index)
        carry, values = evaluated(carry, index + 1)
        return carry, values | metrics

    carry, first = evaluated(begin(run, key), 0)
    carry, rest = jax.lax.scan(epoch_and_evaluation, carry, jnp.arange(plan.num_epochs))
    return carry, {
        name: jnp.concatenate([first.get(name, jnp.full(1, jnp.nan)).reshape(1), x]) for name, x in rest.items()
    }


def begin(run, key):
    """The carry after the warm-up: uniformly random actions, nothing learned."""
    return begin_from(run, key, starts(run, key, START, 0))


def starts(run, key, purpose, index):
    """States at the start of random episodes, `[P, ...]`, for a purpose, START, POOL or EVALUATION.

    As many for each of them, so that one program draws them all.
    """
    count = max(episodes.pool_size(run.plan.num_envs), run.plan.eval_episodes)
    return episodes.starts(run.env, count, key_for(key, purpose, index))


def begin_from(run, key, pool):
    """`begin` from states of the pool."""
    plan, env = run.plan, run.env
    carry = Carry(
        agent=run.algorithm.init(key_for(key, AGENT)),
        noise=run.algorithm.noise.init(),
        episodes=episodes.begin_from(episodes.first(pool, episodes.pool_size(plan.num_envs)), plan.num_envs),
        ring=None,
        statistics=run.normalizer.init(env.obs_size),
        diverged=jnp.int32(-1),
        key=key,
    )
    carry = _with_empty_ring(run, carry, 0)

    def warmup(carry, row):
        act_key, reset_key = jax.random.split(key_for(carry.key, WARMUP, row))
        action = jax.random.uniform(act_key, (plan.num_envs, env.action_size), minval=-1.0, maxval=1.0)
        return remember(run, carry, action, row, reset_key), None

    return jax.lax.scan(warmup, carry, jnp.arange(plan.warmup_rows))[0]


def refill(run, carry, index):
    """A carry of evaluation `index` (a Python int) whose ring was not kept, with one that its policy fills anew.

    Nothing is learned meanwhile, and the statistics of observations stay. What follows is not what would have followed.
    """
    row = _row(run, index)
    rows = row - min(row, run.plan.rows) + jnp.arange(min(row, run.plan.rows))
    acting = _with_empty_ring(run, carry, rows[0])._replace(key=key_for(carry.key, REFILL, index))
    acted = jax.lax.scan(lambda carry, row: (collect(run, carry, row), None), acting, rows)[0]
    return carry._replace(ring=acted.ring, episodes=acted.episodes, noise=acted.noise)


def epoch(run, carry, index):
    """Training between evaluations `index` and `index + 1`. Returns `(carry, metrics)`, the metrics' means."""
    states = starts(run, carry.key, POOL, index)
    return epoch_from(run, with_pool(carry, episodes.first(states, episodes.pool_size_of(carry.episodes))), index)


def with_pool(carry, pool):
    """`carry` whose episodes begin anew from states of another pool; those that are under way go on."""
    return carry._replace(episodes=carry.episodes._replace(pool=pool))


def epoch_from(run, carry, index):
    """`epoch` from the pool that is in `carry`.

    A cycle first learns, then acts. The row that is written depends on what was read, through the actor and its action,
    so that XLA cannot move the write before the read, and never has to copy the ring to keep the two apart.
    """
    collects, cycles = run.cycle.collects, run.cycle.per_epoch

    def one_cycle(carry, rows):
        carry, metrics = learn(run, carry, rows[0])
        return jax.lax.scan(lambda carry, row: (collect(run, carry, row), None), carry, rows)[0], metrics

    rows = _row(run, index) + jnp.arange(cycles * collects)
    carry, metrics = scan_mean(one_cycle, carry, rows.reshape(cycles, collects))
    return _watched(carry, _finite(carry.agent), rows[-1] + 1), metrics


def learn(run, carry, row):
    """The updates of one cycle, on what the ring holds before row number `row` is written.

    An agent stays as it is after the first round with a loss, or any other metric, that is not finite; such a loss
    itself moves nothing (`learning.descend`).
    """

    def draw(key):
        """Batches for the critic updates that precede one actor update, `[critic_updates, B, ...]`."""
        shape = (run.cycle.critic_updates, run.plan.batch_size)
        window = run.replay.sample(carry.ring, row, key, shape)
        window = window._replace(
            observation=run.normalizer.apply(carry.statistics, window.observation),
            next_observation=run.normalizer.apply(carry.statistics, window.next_observation),
        )
        return jax.vmap(run.algorithm.prepare, in_axes=1)(window)

    def one_round(state, keys):
        """`policy_delay` critic updates, then one of the actor, on the last of their batches."""
        agent, sound = state
        sample_key, value_key, actor_key = keys
        batches = draw(sample_key)
        values = run.algorithm.next_value(agent, batches, value_key)

        def update_critic(agent, batch_and_value):
            new, metrics = run.algorithm.update_critic(agent, *batch_and_value)
            return where(sound, new, agent), metrics

        agent, critic_metrics = jax.lax.scan(update_critic, agent, (batches, values), unroll=True)
        new, actor_metrics = run.algorithm.update_actor(agent, jax.tree.map(lambda x: x[-1], batches), actor_key)
        metrics = _mean(critic_metrics) | actor_metrics
        return (where(sound, new, agent), sound & _finite(metrics)), metrics

    keys = jax.random.split(key_for(carry.key, LEARN, row), (run.cycle.actor_updates, 3))
    (agent, sound), metrics = scan_mean(one_round, (carry.agent, carry.diverged < 0), keys)
    return _watched(carry._replace(agent=agent), sound, row), metrics


def collect(run, carry, row):
    """Act with the exploring policy in every environment, and remember."""
    noise_key, act_key, reset_key = jax.random.split(key_for(carry.key, COLLECT, row), 3)
    progress = row * (run.plan.num_envs / run.plan.total_steps)
    noise_state, noise = run.algorithm.noise.draw(carry.noise, progress, noise_key)
    observation = run.normalizer.apply(carry.statistics, episodes.observe(run.env, carry.episodes))
    action = run.algorithm.explore(carry.agent, observation, noise, act_key)
    return remember(run, carry._replace(noise=noise_state), action, row, reset_key)


def remember(run, carry, action, row, key):
    """Take `action` `[E, A]` and write what came of it as row number `row`."""
    now, transition = episodes.step(run.env, carry.episodes, action, key)
    carry = _watched(carry, _finite((transition.reward, transition.next_observation)), row + 1)
    statistics = run.normalizer.update(carry.statistics, transition.observation)
    return carry._replace(
        noise=run.algorithm.noise.restart(carry.noise, transition.terminated | transition.truncated),
        episodes=now,
        ring=run.replay.add(carry.ring, row, transition, episodes.observe(run.env, now)),
        statistics=where(carry.diverged < 0, statistics, carry.statistics),
    )


def evaluate(run, carry, index):
    """Whole episodes without exploration noise, in environments of their own: `{name: []}`.

    `return_mean` and `return_std` of the undiscounted, unscaled return over `eval_episodes`, the mean
    `episode_length`, and what `diverged` of the carry is to be: a return that is not finite tells, too. Changes
    nothing, training's random stream included.
    """
    return evaluate_from(run, carry, index, starts(run, carry.key, EVALUATION, index))


def evaluate_from(run, carry, index, states):
    """`evaluate` from the first of `states`."""
    policy = run.algorithm.policy(carry.agent)

    def act(observation):
        return run.algorithm.act(policy, run.normalizer.apply(carry.statistics, observation))

    total, length = episodes.play(run.env, act, episodes.first(states, run.plan.eval_episodes))
    judged = _watched(carry, _finite(total), _row(run, index))
    returns = {"return_mean": total.mean(), "return_std": total.std()}
    return returns | {"episode_length": length.mean(), "diverged": judged.diverged}


def env_steps(plan, index):
    """Environment steps done at evaluation `index`."""
    return 0 if index == 0 else plan.warmup_steps + index * (plan.total_steps - plan.warmup_steps) // plan.num_epochs


def updates(plan, index):
    """Critic updates done at evaluation `index`."""
    return (env_steps(plan, index) - plan.warmup_steps) // plan.num_envs * plan.updates_per_step if index else 0


def _row(run, index):
    """The number of the row that is written next at evaluation `index`."""
    return run.plan.warmup_rows + index * run.cycle.per_epoch * run.cycle.collects


def _with_empty_ring(run, carry, row):
    return carry._replace(ring=run.replay.empty(row, episodes.observe(run.env, carry.episodes)))


def _watched(carry, sound, rows):
    """`carry`, which has diverged if it had or if it is not `sound` any more, `rows` having been written."""
    return carry._replace(diverged=jnp.where((carry.diverged < 0) & ~sound, rows, carry.diverged))


def _finite(tree):
    """Whether every number in `tree` is, `[]`."""
    return reduce(jnp.logical_and, [jnp.isfinite(x).all() for x in jax.tree.leaves(tree)], jnp.bool_(True))


def key_for(key, purpose, time=0):
    """The key of a run, or of a sweep, for a purpose at a time."""
    return jax.random.fold_in(jax.random.fold_in(key, purpose), time)


def _mean(metrics):
    return jax.tree.map(lambda x: x.mean(axis=0), metrics)


def scan_mean(step, carry, xs):
    """`jax.lax.scan`, but for the mean of what each step puts out. Adding it up needs no kernel of its own."""
    step = jax.jit(step)  # Otherwise it would be traced twice.

    def summing(carry_and_total, x):
        carry, total = carry_and_total
        carry, out = step(carry, x)
        return (carry, jax.tree.map(jnp.add, total, out)), None

    first = jax.tree.map(lambda x: x[0], xs)
    zeros = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), jax.eval_shape(step, carry, first)[1])
    (carry, total), _ = jax.lax.scan(summing, (carry, zeros), xs)
    return carry, jax.tree.map(lambda x: x / len(jax.tree.leaves(xs)[0]), total)
