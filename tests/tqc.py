"""Truncated quantile critics (Kuznetsov et al. 2020, arXiv:2005.04269), as a user of purerl would add them: `tqc:tqc`.

N critics give M quantiles each. The greatest of the N·M quantiles of a next state are left out of the target.
"""

from dataclasses import dataclass
from functools import partial
from typing import Annotated

import jax.numpy as jnp
from pydantic import Field

from purerl.algorithms import sac
from purerl.algorithms.equations import td_target
from purerl.algorithms.networks import critics_of
from purerl.algorithms.optimization import critic_step
from purerl.settings.hyperparameters import SAC
from purerl.settings.kinds import Count, WholeNumber
from purerl.settings.registry import AlgorithmSpec


@dataclass(frozen=True, kw_only=True)
class Hyper(SAC):
    """Hyperparameters of TQC, with the values of the paper."""

    num_critics: Annotated[Count, Field(description="critics of the ensemble")] = 5
    num_quantiles: Annotated[Count, Field(description="quantiles that each critic estimates")] = 25
    dropped: Annotated[
        WholeNumber, Field(ge=0, description="greatest quantiles left out of the target, per critic")
    ] = 2


def quantile_huber_loss(q, target):
    """Return the loss (eq. 7) of quantiles `[N, B, M]` and target samples `[B, K]`, over all pairs."""
    level = (jnp.arange(q.shape[-1]) + 0.5) / q.shape[-1]
    error = target[:, None, :] - q[..., None]
    huber = jnp.where(jnp.abs(error) <= 1.0, 0.5 * error**2, jnp.abs(error) - 0.5)
    return (jnp.abs(level[:, None] - (error < 0)) * huber).mean()


def truncated(q, dropped):
    """Return the quantiles `[N, ..., M]` of all critics, sorted, without the N · `dropped` greatest: `[..., K]`."""
    pooled = jnp.sort(jnp.moveaxis(q, 0, -2).reshape(*q.shape[1:-1], -1))
    return pooled[..., : pooled.shape[-1] - len(q) * dropped]


def next_value(model, state, batch, key):
    """Return samples of the soft return from s', `[C, B, K]`."""
    action, log_prob = sac.pi(model, state.actor.params, batch.next_observation).sample_and_log_prob(key)
    q = model.critic.apply(state.target_critic, batch.next_observation, action)
    return truncated(q, model.hyper.dropped) - sac.temperature(model, state) * log_prob[..., None]


def update_critic(model, state, batch, value, key):
    del key
    target = td_target(batch.reward[:, None], batch.discount[:, None], value)
    spread = {"quantile_spread": (value.max(axis=-1) - value.min(axis=-1)).mean()}
    return critic_step(model, state, batch, lambda q: (quantile_huber_loss(q, target), spread))


def policy_loss(q, log_prob, alpha):
    """mean (α log π(a|s) − the mean of all quantiles)."""
    return (alpha * log_prob).mean() - q.mean()


def build(hyper, plan, env):
    critic = critics_of(plan, hyper.num_critics, hyper.num_quantiles)
    model = sac.make_model(hyper, plan, env, critic)
    made = sac.make_algorithm(model)
    return made._replace(
        next_value=partial(next_value, model),
        update_critic=partial(update_critic, model),
        update_actor=partial(sac.update_actor, model, policy_loss=policy_loss),
        metrics=(*made.metrics, "quantile_spread"),
    )


tqc = AlgorithmSpec(Hyper, build, colour="#cc79a7", presets={"tuned": {"num_evals": 11, "hyper": {"dropped": 3}}})
