"""What an algorithm may ask of the loop beyond DDPG, TD3 and SAC."""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from toys import counting

from purerl.algorithms.optimization import Trained, create_trained, descend
from purerl.settings.schema import Plan
from purerl.training import loop
from purerl.types import Algorithm, Batch, Noise

TAU = 0.5
SMALL = {"num_envs": 4, "batch_size": 8, "buffer_size": 64, "warmup_steps": 8, "num_evals": 3}


class Agent(NamedTuple):
    """`critic` counts its updates, `target` follows it, `actor` notes the target that it met."""

    critic: jax.Array
    target: jax.Array
    actor: jax.Array


def follower(plan, delay):
    """Its target moves after each critic update, none of which shares a value with another."""

    def update_critic(agent, batch, value, key):
        assert value == () and batch.reward.shape == (plan.batch_size,)
        critic = agent.critic + 1.0
        return agent._replace(critic=critic, target=TAU * critic + (1 - TAU) * agent.target), {"count": critic}

    def update_actor(agent, batch, key):
        return agent._replace(actor=agent.target), {}

    zero = jnp.zeros(())
    return Algorithm(
        init=lambda key: Agent(zero, zero, zero),
        policy=lambda agent: {},
        act=lambda policy, observation: jnp.zeros((*observation.shape[:-1], 1)),
        explore=lambda agent, observation, noise, key: jnp.zeros((plan.num_envs, 1)),
        to_batch=lambda window: Batch(*(x[0] for x in window[:4]), window.next_observation[0]),
        next_value=lambda agent, batch, key: (),
        update_critic=update_critic,
        update_actor=update_actor,
        noise=Noise(lambda: (), lambda state, progress, key: (state, 0.0), lambda state, over: state),
        policy_delay=delay,
        metrics=("count",),
    )


@pytest.mark.parametrize(("delay", "updates"), [(1, 1), (2, 2), (3, 3), (20, 20), (20, 5), (3, 6)])
def test_targets_may_move_with_each_critic_update(delay, updates):
    collects = max(1, delay // updates)
    steps = 4 * (2 + 4 * collects)
    plan = Plan(total_steps=steps, updates_per_step=updates, **SMALL)
    run = loop.setup(plan, follower(plan, delay), counting())
    begun = jax.jit(partial(loop.warmed_up, run))(jax.random.key(0))
    carry, metrics = jax.jit(partial(loop.epoch, run))(begun, 0)
    made, target = 2 * max(delay, updates), 0.0
    for count in range(1, made + 1):
        target = TAU * count + (1 - TAU) * target
    assert carry.agent.critic == made
    np.testing.assert_allclose(carry.agent.target, target, rtol=1e-6)
    np.testing.assert_allclose(carry.agent.actor, target, rtol=1e-6)
    np.testing.assert_allclose(metrics["count"], np.arange(1, made + 1).mean(), rtol=1e-6)


def compiled_size(delay):
    """The length of the HLO of an epoch."""
    plan = Plan(total_steps=4 * 42, updates_per_step=delay, **SMALL)
    run = loop.setup(plan, follower(plan, delay), counting())
    carry = jax.eval_shape(partial(loop.warmed_up, run), jax.random.key(0))
    return len(jax.jit(partial(loop.epoch, run)).lower(carry, 0).as_text().splitlines())


def test_a_program_does_not_grow_with_the_critic_updates_of_a_round():
    assert compiled_size(20) == compiled_size(40) < 1.2 * compiled_size(3)


@pytest.mark.parametrize(("target", "moves"), [(1.0, True), (jnp.nan, False)])
def test_what_a_network_keeps_besides_parameters_moves_with_them(target, moves):
    """Statistics that a pass computes are kept, unless its loss is not finite."""
    optimizer = optax.sgd(0.1)
    trained = create_trained(optimizer, {"w": jnp.ones(())}, {"mean": jnp.zeros(())})

    def loss_fn(params):
        return (params["w"] - target) ** 2 + params["w"], {"mean": jnp.ones(())}

    after, _, _ = descend(optimizer, trained, loss_fn, variables_of=lambda aux: aux)
    assert isinstance(after, Trained) and (after.params["w"] != 1.0) == moves
    assert after.variables["mean"] == float(moves)
    stays, _, _ = descend(optimizer, trained, loss_fn)
    assert stays.variables["mean"] == 0.0
