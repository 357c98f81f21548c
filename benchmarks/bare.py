"""The updates of an algorithm and nothing else: no environment, replay buffer or divergence guard.

The speed of the training loop is compared with that of these updates.

Letters: S seeds, C critic updates per actor update, B batch.
"""

import dataclasses

import jax
import jax.numpy as jnp

from purerl.training import loop
from purerl.types import Batch


def updates(plan, build, env, hyper, rounds):
    """Return a function `(numbers, agents [S, ...], batches [S, C, B, ...], keys [S]) -> (agents, mean metrics [S])`.

    A round is C critic updates and then one actor update on the last of their batches, as in `loop.learn`. All rounds
    use the same batches.
    """

    def run(numbers, agent, batches, key):
        algorithm = build(dataclasses.replace(hyper, **numbers), plan, env)

        def update_critic(agent, batch_value_key):
            return algorithm.update_critic(agent, *batch_value_key)

        def one_round(agent, number):
            value_key, actor_key, critic_key = jax.random.split(jax.random.fold_in(key, number), 3)
            values = algorithm.next_value(agent, batches, value_key)
            critic_keys = jax.random.split(critic_key, len(batches.reward))
            agent, metrics = loop.critic_updates(update_critic, agent, (batches, values, critic_keys))
            agent, more = algorithm.update_actor(agent, jax.tree.map(lambda x: x[-1], batches), actor_key)
            return agent, jax.tree.map(jnp.mean, metrics | more)

        return loop.scan_mean(one_round, agent, jnp.arange(rounds))

    return jax.vmap(run, in_axes=(None, 0, 0, 0))


def agents(plan, build, env, hyper, keys):
    """Return untrained agents, `[S, ...]`."""
    return jax.vmap(build(hyper, plan, env).init)(keys)


def batches(plan, env, delay, keys):
    """Return random batches, `[S, C, B, ...]`."""

    def draw(key):
        *keys, reward_key = jax.random.split(key, 4)
        shape, sizes = (delay, plan.batch_size), (env.obs_size, env.action_size, env.obs_size)
        observation, action, next_observation = (
            jax.random.uniform(key, (*shape, size), minval=-1.0) for key, size in zip(keys, sizes, strict=True)
        )
        reward = jax.random.normal(reward_key, shape)
        return Batch(observation, action, reward, jnp.full(shape, 0.99), next_observation)

    return jax.vmap(draw)(keys)
