"""Truncated quantile critics (Kuznetsov et al. 2020, arXiv:2005.04269): SAC with critics that estimate quantiles.

The greatest quantiles of all critics together are left out of the target, which reduces its overestimation.
"""

from functools import partial

from jaxtyping import Array, Float, PyTree

from purerl.algorithms import sac
from purerl.algorithms.equations import (
    log_temperature_loss,
    mean_policy_loss,
    quantile_huber_loss,
    td_target,
    truncated,
)
from purerl.algorithms.networks import critics_of, gaussian_actor
from purerl.algorithms.optimization import critic_step, no_value
from purerl.algorithms.own_networks import Factory
from purerl.settings.hyperparameters import TQC as Hyper
from purerl.settings.schema import Plan
from purerl.types import Algorithm, Batch, EnvSizes, Key, Metrics


def next_quantiles(dropped: int, model: sac.Model, state: sac.State, batch: Batch, key: Key) -> Float[Array, "B K"]:
    """Return the kept quantiles of all target critics at (s', a'), each minus α log π(a'|s'), a' ~ π(·|s')."""
    action, log_prob = sac.pi(model, state.actor.params, batch.next_observation).sample_and_log_prob(key)
    quantiles = model.critic.apply(state.target_critic, batch.next_observation, action)
    return truncated(quantiles, dropped) - (sac.temperature(model, state) * log_prob)[:, None]


def update_critic(
    hyper: Hyper, model: sac.Model, state: sac.State, batch: Batch, value: PyTree, key: Key
) -> tuple[sac.State, Metrics]:
    """Fit the quantiles of every critic to the same pooled target. Then move the target critics."""
    del value  # Each update computes its own target.
    kept = next_quantiles(hyper.dropped_quantiles, model, state, batch, key)
    target = td_target(batch.reward[:, None], batch.discount[:, None], kept)
    state, metrics = critic_step(model, state, batch, lambda q: (quantile_huber_loss(q, target), {}))
    return sac.target_step(model, state), metrics


def tqc(hyper: Hyper, plan: Plan, env: EnvSizes, actor: Factory = gaussian_actor) -> Algorithm:
    """Return TQC for the observations and actions of `env`. `actor` makes the network of the actor, as in SAC."""
    model = sac.make_model(hyper, plan, env, critics_of(plan, hyper.num_critics, hyper.num_quantiles), actor)
    return sac.make_algorithm(model)._replace(
        next_value=no_value,
        update_critic=partial(update_critic, hyper, model),
        update_actor=partial(
            sac.policy_step, model, policy_loss=mean_policy_loss, loss_of_temperature=log_temperature_loss
        ),
    )
