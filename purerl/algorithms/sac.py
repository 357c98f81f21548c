"""Soft actor-critic (Haarnoja et al. 2018, arXiv:1812.05905), with a learned or fixed temperature."""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float

from purerl.algorithms import exploration
from purerl.algorithms.equations import entropy_policy_loss, polyak, soft_value, temperature_loss
from purerl.algorithms.networks import Critics, SquashedGaussian, forward, gaussian_actor, value_critic
from purerl.algorithms.optimization import (
    Trained,
    adam,
    create_network,
    create_trained,
    descend,
    td_step,
    to_batch,
)
from purerl.algorithms.own_networks import Factory, make_critics, make_gaussian_actor
from purerl.settings.hyperparameters import SAC as Hyper
from purerl.settings.schema import Plan
from purerl.types import (
    Algorithm,
    Batch,
    EnvSizes,
    Key,
    Metrics,
    Noise,
    Params,
    Policy,
    Scalar,
    actor_obs_size,
    actor_part,
)

TemperatureLoss = Callable[[Float[Array, ""], Float[Array, " B"], Scalar], Float[Array, ""]]
PolicyLoss = Callable[[Float[Array, "N B ..."], Float[Array, " B"], Scalar], Float[Array, ""]]


class Model(NamedTuple):
    """The parts that training does not change."""

    hyper: Hyper
    obs_size: int
    actor_obs_size: int
    action_size: int
    actor: nn.Module
    critic: Critics
    actor_optimizer: optax.GradientTransformation
    critic_optimizer: optax.GradientTransformation
    alpha_optimizer: optax.GradientTransformation
    target_entropy: Scalar
    noise: Noise


class State(NamedTuple):
    """The parts that training changes. SAC has no target actor."""

    actor: Trained
    critic: Trained
    log_alpha: Trained
    target_critic: Params


def make_model(
    hyper: Hyper, plan: Plan, env: EnvSizes, critic: Critics, actor: Factory = gaussian_actor, **moments: Any
) -> Model:
    """Return the `Model`. `moments` are arguments of Adam for actor and critics: `b1`, `b2`, `eps`."""
    return Model(
        hyper,
        env.obs_size,
        actor_obs_size(env),
        env.action_size,
        make_gaussian_actor(actor, plan, env),
        critic,
        adam(hyper.actor_lr, hyper, plan.num_updates // hyper.policy_delay, **moments),
        adam(hyper.critic_lr, hyper, plan.num_updates, **moments),
        optax.adam(hyper.alpha_lr) if hyper.alpha is None else optax.set_to_zero(),
        -float(env.action_size) if hyper.target_entropy is None else hyper.target_entropy,
        exploration.silent((plan.num_envs, env.action_size)),
    )


def init(model: Model, key: Key) -> State:
    actor_key, critic_key = jax.random.split(key)
    observation, action = jnp.zeros(model.obs_size), jnp.zeros(model.action_size)
    critic = model.critic.init(critic_key, observation, action)
    alpha = model.hyper.initial_alpha if model.hyper.alpha is None else model.hyper.alpha
    actor = model.actor.init(actor_key, actor_part(observation, model.actor_obs_size))
    return State(
        create_network(model.actor_optimizer, actor),
        create_network(model.critic_optimizer, critic),
        create_trained(model.alpha_optimizer, jnp.log(jnp.asarray(alpha, jnp.float32))),
        target_critic=jax.tree.map(jnp.copy, critic),
    )


def pi(model: Model, params: Params, observation: Float[Array, "*batch obs"]) -> SquashedGaussian:
    """Return π(·|s), a distribution over actions in (-1, 1)."""
    return SquashedGaussian(*forward(model.actor, params, actor_part(observation, model.actor_obs_size)))


def policy(state: State) -> Policy:
    return state.actor.params


def act(model: Model, policy: Policy, observation: Float[Array, "*batch obs"]) -> Float[Array, "*batch A"]:
    return jnp.tanh(pi(model, policy, observation).mean)


def explore(
    model: Model, state: State, observation: Float[Array, "E obs"], noise: Float[Array, "E A"], key: Key
) -> Float[Array, "E A"]:
    del noise  # The policy itself is stochastic.
    return pi(model, state.actor.params, observation).sample(key)


def temperature(model: Model, state: State) -> Float[Array, ""]:
    """Return α `[]`: the learned value, or the fixed value of the current hyperparameters."""
    if model.hyper.alpha is None:
        return jnp.exp(state.log_alpha.params)
    return jnp.asarray(model.hyper.alpha, state.log_alpha.params.dtype)


def next_value(model: Model, state: State, batch: Batch, key: Key) -> Float[Array, "*C B"]:
    """Return minᵢ Q'ᵢ(s', a') − α log π(a'|s'), a' ~ π(·|s'), `[C, B]`."""
    action, log_prob = pi(model, state.actor.params, batch.next_observation).sample_and_log_prob(key)
    q = model.critic.apply(state.target_critic, batch.next_observation, action)
    return soft_value(q, log_prob, temperature(model, state))


def actor_step(
    model: Model, state: State, batch: Batch, key: Key, policy_loss: PolicyLoss, **passing: Any
) -> tuple[State, Float[Array, ""], Float[Array, " B"]]:
    """Make one gradient step on `policy_loss(q, log_prob, α)`, with constant critics.

    `passing` is passed to `Critics.apply`, for example `rngs` for dropout. Returns
    `(state, loss [], log π(a|s) [B])`.
    """

    def loss_fn(params: Params) -> tuple[Float[Array, ""], Float[Array, " B"]]:
        action, log_prob = pi(model, params, batch.observation).sample_and_log_prob(key)
        q = model.critic.apply(state.critic.params, batch.observation, action, **passing)
        return policy_loss(q, log_prob, temperature(model, state)), log_prob

    actor, loss, log_prob = descend(model.actor_optimizer, state.actor, loss_fn)
    return state._replace(actor=actor), loss, log_prob


def temperature_step(
    model: Model, state: State, log_prob: Float[Array, " B"], loss_of: TemperatureLoss = temperature_loss
) -> State:
    """Raise α if the policy's entropy is below the target, and lower it if it is above. A fixed α does not change."""
    if model.hyper.alpha is not None:
        return state

    def loss_fn(log_alpha: Float[Array, ""]) -> tuple[Float[Array, ""], None]:
        return loss_of(log_alpha, log_prob, model.target_entropy), None

    log_alpha, _, _ = descend(model.alpha_optimizer, state.log_alpha, loss_fn)
    return state._replace(log_alpha=log_alpha)


def target_step(model: Model, state: State) -> State:
    """Update the target critics by Polyak averaging."""
    return state._replace(target_critic=polyak(state.critic.params, state.target_critic, model.hyper.tau))


def policy_step(
    model: Model,
    state: State,
    batch: Batch,
    key: Key,
    policy_loss: PolicyLoss = entropy_policy_loss,
    loss_of_temperature: TemperatureLoss = temperature_loss,
    **passing: Any,
) -> tuple[State, Metrics]:
    """Make a step of the actor, then one of the temperature with the log-densities of the actor's step."""
    state, loss, log_prob = actor_step(model, state, batch, key, policy_loss, **passing)
    state = temperature_step(model, state, log_prob, loss_of_temperature)
    return state, policy_metrics(model, state, loss, log_prob)


def policy_metrics(model: Model, state: State, loss: Float[Array, ""], log_prob: Float[Array, " B"]) -> Metrics:
    """Return the metrics of an actor update, with the new temperature."""
    return {"actor_loss": loss, "alpha": temperature(model, state), "entropy": -log_prob.mean()}


def update_actor(
    model: Model, state: State, batch: Batch, key: Key, policy_loss: PolicyLoss = entropy_policy_loss
) -> tuple[State, Metrics]:
    state, metrics = policy_step(model, state, batch, key, policy_loss)
    return target_step(model, state), metrics


def make_algorithm(model: Model) -> Algorithm:
    return Algorithm(
        init=partial(init, model),
        policy=policy,
        act=partial(act, model),
        explore=partial(explore, model),
        to_batch=partial(to_batch, model.hyper),
        next_value=partial(next_value, model),
        update_critic=partial(td_step, model),
        update_actor=partial(update_actor, model),
        noise=model.noise,
        policy_delay=model.hyper.policy_delay,
        metrics=("critic_loss", "q", "actor_loss", "alpha", "entropy"),
    )


def sac(
    hyper: Hyper,
    plan: Plan,
    env: EnvSizes,
    actor: Factory = gaussian_actor,
    critic: Factory = value_critic,
) -> Algorithm:
    """Return SAC for the observations and actions of `env`.

    `actor` and `critic` are functions of `(plan, env)` that return networks (`own_networks`). The default networks
    have the hidden layers of `plan`.
    """
    return make_algorithm(make_model(hyper, plan, env, make_critics(critic, plan, env, 2), actor))
