"""DroQ (Hiraoka et al. 2022, arXiv:2110.02034): REDQ with two critics that use dropout and layer normalization.

Dropout is on in every pass of the critics: in the target, in their own update, and in the actor's update. Each pass has
new random numbers. Every critic and every transition has its own mask.
"""

from functools import partial

import jax
from jaxtyping import Array, Float, PyTree

from purerl.algorithms import sac
from purerl.algorithms.equations import critic_loss, log_temperature_loss, mean_policy_loss, soft_value, td_target
from purerl.algorithms.networks import Critic, Critics, gaussian_actor, torso
from purerl.algorithms.optimization import critic_step, no_value
from purerl.algorithms.own_networks import Factory
from purerl.settings.hyperparameters import DroQ as Hyper
from purerl.settings.schema import Plan
from purerl.types import Algorithm, Batch, EnvSizes, Key, Metrics


def dropout_critics(plan: Plan, rate: float) -> Critics:
    """Return two critics whose hidden layers are matrix product, dropout, layer normalization, activation.

    Layer normalization is on, unless `plan.critic_layer_norm` is False. Its epsilon is that of PyTorch.
    """
    layers = plan.critic_layers._replace(layer_norm=plan.critic_layer_norm is not False)
    return Critics(2, Critic(torso(plan, layers, dropout=rate, norm_epsilon=1e-5)))


def next_value(model: sac.Model, state: sac.State, batch: Batch, key: Key) -> Float[Array, " B"]:
    """Return minᵢ Q'ᵢ(s', a') − α log π(a'|s'), a' ~ π(·|s'), over both target critics, with dropout."""
    action_key, dropout_key = jax.random.split(key)
    action, log_prob = sac.pi(model, state.actor.params, batch.next_observation).sample_and_log_prob(action_key)
    q = model.critic.apply(state.target_critic, batch.next_observation, action, rngs={"dropout": dropout_key})
    return soft_value(q, log_prob, sac.temperature(model, state))


def update_critic(
    model: sac.Model, state: sac.State, batch: Batch, value: PyTree, key: Key
) -> tuple[sac.State, Metrics]:
    """Move both critics toward the same target, with dropout. Then move the target critics."""
    del value  # Each update computes its own target.
    target_key, dropout_key = jax.random.split(key)
    target = td_target(batch.reward, batch.discount, next_value(model, state, batch, target_key))
    rngs = {"dropout": dropout_key}
    state, metrics = critic_step(model, state, batch, lambda q: (critic_loss(q, target), {}), rngs=rngs)
    return sac.target_step(model, state), metrics


def update_actor(model: sac.Model, state: sac.State, batch: Batch, key: Key) -> tuple[sac.State, Metrics]:
    """Update the actor on the mean of both critics, with dropout in the critics. Then update the temperature."""
    action_key, dropout_key = jax.random.split(key)
    rngs = {"dropout": dropout_key}
    return sac.policy_step(model, state, batch, action_key, mean_policy_loss, log_temperature_loss, rngs=rngs)


def droq(hyper: Hyper, plan: Plan, env: EnvSizes, actor: Factory = gaussian_actor) -> Algorithm:
    """Return DroQ for the observations and actions of `env`. `actor` makes the network of the actor, as in SAC."""
    model = sac.make_model(hyper, plan, env, dropout_critics(plan, hyper.dropout_rate), actor)
    return sac.make_algorithm(model)._replace(
        next_value=no_value,
        update_critic=partial(update_critic, model),
        update_actor=partial(update_actor, model),
    )
