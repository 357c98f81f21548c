"""Deep deterministic policy gradient (Lillicrap et al. 2015, arXiv:1509.02971)."""

from functools import partial
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float

from purerl.algorithms import exploration
from purerl.algorithms.equations import deterministic_policy_loss, perturbed, polyak
from purerl.algorithms.networks import Critics, deterministic_actor, forward, value_critic
from purerl.algorithms.optimization import Trained, adam, create_trained, descend, td_step, to_batch
from purerl.algorithms.own_networks import Factory, make_actor, make_critics
from purerl.settings.hyperparameters import DDPG as Hyper
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
    actor_obs_size,
    actor_part,
)


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
    noise: Noise


class State(NamedTuple):
    """The parts that training changes."""

    actor: Trained
    critic: Trained
    target_actor: Params
    target_critic: Params


def make_model(hyper: Hyper, plan: Plan, env: EnvSizes, critic: Critics, actor: Factory = deterministic_actor) -> Model:
    return Model(
        hyper,
        env.obs_size,
        actor_obs_size(env),
        env.action_size,
        make_actor(actor, plan, env),
        critic,
        adam(hyper.actor_lr, hyper, plan.num_updates // hyper.policy_delay),
        adam(hyper.critic_lr, hyper, plan.num_updates),
        exploration.exploration(hyper, (plan.num_envs, env.action_size)),
    )


def init(model: Model, key: Key) -> State:
    actor_key, critic_key = jax.random.split(key)
    observation, action = jnp.zeros(model.obs_size), jnp.zeros(model.action_size)
    actor = model.actor.init(actor_key, actor_part(observation, model.actor_obs_size))
    critic = model.critic.init(critic_key, observation, action)
    return State(
        create_trained(model.actor_optimizer, actor),
        create_trained(model.critic_optimizer, critic),
        target_actor=jax.tree.map(jnp.copy, actor),
        target_critic=jax.tree.map(jnp.copy, critic),
    )


def policy(state: State) -> Policy:
    return state.actor.params


def act(model: Model, policy: Policy, observation: Float[Array, "*batch obs"]) -> Float[Array, "*batch A"]:
    return forward(model.actor, policy, actor_part(observation, model.actor_obs_size))


def explore(
    model: Model, state: State, observation: Float[Array, "E obs"], noise: Float[Array, "E A"], key: Key
) -> Float[Array, "E A"]:
    del key  # The policy is deterministic; only `noise` is random.
    return perturbed(act(model, policy(state), observation), noise)


def next_value(model: Model, state: State, batch: Batch, key: Key) -> Float[Array, "*C B"]:
    """Return Q'(s', μ'(s')), `[C, B]`."""
    del key  # DDPG's target is not random.
    action = act(model, state.target_actor, batch.next_observation)
    return model.critic.first(state.target_critic, batch.next_observation, action)


def actor_step(model: Model, state: State, batch: Batch) -> tuple[State, Metrics]:
    """Make one gradient step that increases Q₁(s, μ(s)), with a constant critic."""

    def loss_fn(params: Params) -> tuple[Float[Array, ""], None]:
        action = act(model, params, batch.observation)
        return deterministic_policy_loss(model.critic.first(state.critic.params, batch.observation, action)), None

    actor, loss, _ = descend(model.actor_optimizer, state.actor, loss_fn)
    return state._replace(actor=actor), {"actor_loss": loss}


def target_step(model: Model, state: State) -> State:
    """Update both target networks by Polyak averaging."""
    return state._replace(
        target_actor=polyak(state.actor.params, state.target_actor, model.hyper.tau),
        target_critic=polyak(state.critic.params, state.target_critic, model.hyper.tau),
    )


def update_actor(model: Model, state: State, batch: Batch, key: Key) -> tuple[State, Metrics]:
    del key
    state, metrics = actor_step(model, state, batch)
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
        metrics=("critic_loss", "q", "actor_loss"),
    )


def ddpg(
    hyper: Hyper,
    plan: Plan,
    env: EnvSizes,
    actor: Factory = deterministic_actor,
    critic: Factory = value_critic,
) -> Algorithm:
    """Return DDPG for the observations and actions of `env`.

    `actor` and `critic` are functions of `(plan, env)` that return networks (`own_networks`). The default networks
    have the hidden layers of `plan`.
    """
    return make_algorithm(make_model(hyper, plan, env, make_critics(critic, plan, env, 1), actor))
