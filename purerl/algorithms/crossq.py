"""CrossQ (Bhatt et al. 2024, arXiv:1902.05605): SAC without target networks, with batch renormalization.

One pass of the critics evaluates (s, a) and (s', a') together, so that both are normalized by the same statistics.
A *training pass* uses the statistics of its batch and updates the running ones (`BatchRenorm`). Any other pass uses the
running statistics.

    critics, their own update    training pass
    actor, for a' in a target    running statistics
    actor, its own update        training pass
    critics, actor's update      running statistics
    actor, acting                running statistics
"""

from functools import partial
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float, PyTree

from purerl.algorithms import sac
from purerl.algorithms.batch_renorm import STATISTICS
from purerl.algorithms.equations import critic_loss, entropy_policy_loss, soft_value, td_target
from purerl.algorithms.networks import Critic, Critics, GaussianActor, SquashedGaussian, torso
from purerl.algorithms.optimization import Trained, descend, no_value
from purerl.settings.hyperparameters import CrossQ as Hyper
from purerl.settings.schema import Plan
from purerl.types import Algorithm, Batch, EnvSizes, Key, Metrics, Params, Policy, actor_part


def variables(trained: Trained) -> dict[str, Any]:
    """Return the variables of a network: parameters and running statistics."""
    return dict(trained.params, **trained.variables)


def training_pass(
    network: nn.Module | Critics, params: Params, trained: Trained, *inputs: Float[Array, "B _"]
) -> tuple[Any, PyTree]:
    """Return the output of `network` with `params`, and the new running statistics."""
    return network.apply(dict(params, **trained.variables), *inputs, mutable=[STATISTICS])


def init(model: sac.Model, key: Key) -> sac.State:
    return sac.init(model, key)._replace(target_critic=())


def policy(state: sac.State) -> Policy:
    return variables(state.actor)


def explore(
    model: sac.Model, state: sac.State, observation: Float[Array, "E obs"], noise: Float[Array, "E A"], key: Key
) -> Float[Array, "E A"]:
    del noise  # The policy itself is stochastic.
    return sac.pi(model, policy(state), observation).sample(key)


def joint_pass(
    model: sac.Model, state: sac.State, params: Params, batch: Batch, next_action: Float[Array, "B A"]
) -> tuple[Float[Array, "N B"], Float[Array, "N B"], PyTree]:
    """Return Qᵢ(s, a) and Qᵢ(s', a') of one training pass over both, and the new running statistics."""
    observation = jnp.concatenate([batch.observation, batch.next_observation])
    action = jnp.concatenate([batch.action, next_action])
    q, statistics = training_pass(model.critic, params, state.critic, observation, action)
    q, next_q = jnp.split(q, 2, axis=1)
    return q, next_q, statistics


def update_critic(
    model: sac.Model, state: sac.State, batch: Batch, value: PyTree, key: Key
) -> tuple[sac.State, Metrics]:
    """Move every critic toward y = r + γ (1 − d) (minᵢ Qᵢ(s', a') − α log π(a'|s')), of the live critics."""
    del value  # The target comes from the pass that is differentiated.
    next_action, log_prob = sac.pi(model, policy(state), batch.next_observation).sample_and_log_prob(key)

    def loss_fn(params: Params) -> tuple[Float[Array, ""], tuple[Float[Array, ""], PyTree]]:
        q, next_q, statistics = joint_pass(model, state, params, batch, next_action)
        next_value = soft_value(next_q, log_prob, sac.temperature(model, state))
        target = td_target(batch.reward, batch.discount, next_value)
        return critic_loss(q, target), (q.mean(), statistics)

    critic, loss, (q, _) = descend(model.critic_optimizer, state.critic, loss_fn, variables_of=lambda aux: aux[1])
    return state._replace(critic=critic), {"critic_loss": loss, "q": q}


def update_actor(model: sac.Model, state: sac.State, batch: Batch, key: Key) -> tuple[sac.State, Metrics]:
    """Update the actor by a training pass, on the minimum of the critics. Then update the temperature."""
    observation = actor_part(batch.observation, model.actor_obs_size)

    def loss_fn(params: Params) -> tuple[Float[Array, ""], tuple[Float[Array, " B"], PyTree]]:
        gaussian, statistics = training_pass(model.actor, params, state.actor, observation)
        action, log_prob = SquashedGaussian(*gaussian).sample_and_log_prob(key)
        q = model.critic.apply(variables(state.critic), batch.observation, action)
        return entropy_policy_loss(q, log_prob, sac.temperature(model, state)), (log_prob, statistics)

    actor, loss, (log_prob, _) = descend(model.actor_optimizer, state.actor, loss_fn, variables_of=lambda aux: aux[1])
    state = sac.temperature_step(model, state._replace(actor=actor), log_prob)
    return state, sac.policy_metrics(model, state, loss, log_prob)


def crossq(hyper: Hyper, plan: Plan, env: EnvSizes) -> Algorithm:
    """Return CrossQ for the observations and actions of `env`. Raises ValueError for batches of one transition."""
    if plan.batch_size < 2:
        raise ValueError("batch_size is 1, but CrossQ normalizes by the statistics of a batch; use 2 or more")
    critics = Critics(2, Critic(torso(plan, plan.critic_layers, renorm_warmup=hyper.renorm_warmup)))
    actor = GaussianActor(env.action_size, torso(plan, plan.actor_layers, renorm_warmup=hyper.renorm_warmup))
    model = sac.make_model(hyper, plan, env, critics, b1=hyper.adam_b1)._replace(actor=actor)  # in place of SAC's
    return sac.make_algorithm(model)._replace(
        init=partial(init, model),
        policy=policy,
        explore=partial(explore, model),
        next_value=no_value,
        update_critic=partial(update_critic, model),
        update_actor=partial(update_actor, model),
        terminal_observations=True,  # The statistics of the joint pass contain every s'.
    )
