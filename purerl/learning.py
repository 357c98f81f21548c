"""What every learner does to its parameters: keep them with their optimiser state, and descend."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from purerl.equations import critic_loss, n_step_return, td_target
from purerl.types import Batch, Params

SCHEDULES = {
    "constant": lambda rate, steps: rate,
    "linear": lambda rate, steps: optax.linear_schedule(rate, 0.0, steps),
    "cosine": optax.cosine_decay_schedule,
}


class Trained(NamedTuple):
    """Parameters and the state of the optimiser that trains them."""

    params: Params
    opt_state: optax.OptState


def adam(learning_rate, hyper, num_updates):
    """Adam (arXiv:1412.6980), with the schedule, gradient clipping and weight decay that `hyper` asks for."""
    learning_rate = SCHEDULES[hyper.lr_schedule](learning_rate, num_updates)
    descent = optax.adam(learning_rate)
    if hyper.weight_decay is not None:
        descent = optax.adamw(learning_rate, weight_decay=hyper.weight_decay)
    if hyper.max_grad_norm is not None:
        descent = optax.chain(optax.clip_by_global_norm(hyper.max_grad_norm), descent)
    return descent


def begin(optimizer, params):
    return Trained(params, optimizer.init(params))


def descend(optimizer, trained, loss_fn):
    """One gradient step on `loss_fn(params) -> (loss, aux)`, none where the loss is not finite.

    Returns `(trained, loss, aux)`.
    """
    (loss, aux), grads = jax.value_and_grad(loss_fn, has_aux=True)(trained.params)
    updates, opt_state = optimizer.update(grads, trained.opt_state, trained.params)
    moved = Trained(optax.apply_updates(trained.params, updates), opt_state)
    return where(jnp.isfinite(loss), moved, trained), loss, aux


def where(condition, new, old):
    """`new` or `old`, trees of arrays. What did not change costs nothing."""
    return jax.tree.map(lambda x, y: y if x is y else jnp.where(condition, x, y), new, old)


def prepare(hyper, window):
    """A `Transition` window `[n, B, ...]` as a `Batch` `[B, ...]`: rewards scaled, summed and discounted."""
    reward, discount, last = n_step_return(
        hyper.reward_scale * window.reward, window.terminated, window.truncated, hyper.gamma
    )
    next_observation = window.next_observation[0]
    for j in range(1, len(window.reward)):
        next_observation = jnp.where((last >= j)[:, None], window.next_observation[j], next_observation)
    return Batch(window.observation[0], window.action[0], reward, discount, next_observation)


def critic_step(model, state, batch, next_value):
    """Move every critic toward y = r + γ (1 − d) V(s'). All three algorithms differ only in V, `[B]`."""
    target = td_target(batch.reward, batch.discount, next_value)

    def loss_fn(params):
        q = model.critic.apply(params, batch.observation, batch.action)
        return critic_loss(q, target), sum(q.mean(axis=1)) / len(q)

    critic, loss, q = descend(model.critic_optimizer, state.critic, loss_fn)
    return state._replace(critic=critic), {"critic_loss": loss, "q": q}
