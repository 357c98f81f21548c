"""Randomized ensembled double Q-learning (Chen et al. 2021, arXiv:2101.05982): SAC with many critics and many updates.

A target is the minimum over a few critics, which are drawn anew for each critic update.
"""

from functools import partial

import jax
from jaxtyping import Array, Float, PyTree

from purerl.algorithms import sac
from purerl.algorithms.equations import log_temperature_loss, mean_policy_loss, soft_value
from purerl.algorithms.networks import gaussian_actor, value_critic
from purerl.algorithms.optimization import no_value, td_step
from purerl.algorithms.own_networks import Factory, make_critics
from purerl.settings.hyperparameters import REDQ as Hyper
from purerl.settings.schema import Plan
from purerl.types import Algorithm, Batch, EnvSizes, Key, Metrics, Params


def random_subset(critics: Params, count: int, key: Key) -> Params:
    """Return the parameters of `count` different critics of an ensemble, `[N, ...]` -> `[count, ...]`."""
    total = len(jax.tree.leaves(critics)[0])
    chosen = jax.random.choice(key, total, (count,), replace=False)
    return jax.tree.map(lambda x: x[chosen], critics)


def next_value(hyper: Hyper, model: sac.Model, state: sac.State, batch: Batch, key: Key) -> Float[Array, " B"]:
    """Return minᵢ Q'ᵢ(s', a') − α log π(a'|s'), a' ~ π(·|s'), over a random subset of the target critics."""
    action_key, subset_key = jax.random.split(key)
    action, log_prob = sac.pi(model, state.actor.params, batch.next_observation).sample_and_log_prob(action_key)
    critics = random_subset(state.target_critic, hyper.subset_size, subset_key)
    q = model.critic.apply(critics, batch.next_observation, action)
    return soft_value(q, log_prob, sac.temperature(model, state))


def update_critic(
    hyper: Hyper, model: sac.Model, state: sac.State, batch: Batch, value: PyTree, key: Key
) -> tuple[sac.State, Metrics]:
    """Move every critic toward the same target, with an action and a subset of this update. Then move the targets."""
    del value  # Each update computes its own target.
    state, metrics = td_step(model, state, batch, next_value(hyper, model, state, batch, key), key)
    return sac.target_step(model, state), metrics


def redq(
    hyper: Hyper, plan: Plan, env: EnvSizes, actor: Factory = gaussian_actor, critic: Factory = value_critic
) -> Algorithm:
    """Return REDQ for the observations and actions of `env`. `actor` and `critic` make the networks, as in SAC."""
    model = sac.make_model(hyper, plan, env, make_critics(critic, plan, env, hyper.num_critics), actor)
    return sac.make_algorithm(model)._replace(
        next_value=no_value,
        update_critic=partial(update_critic, hyper, model),
        update_actor=partial(
            sac.policy_step, model, policy_loss=mean_policy_loss, loss_of_temperature=log_temperature_loss
        ),
    )
