"""Optimization shared by the algorithms: parameters with optimizer state, gradient steps and critic steps."""

from collections.abc import Callable, Mapping
from functools import reduce
from typing import Any, NamedTuple, Protocol, TypeVar, runtime_checkable

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int, PyTree

from purerl.algorithms.equations import critic_loss, n_step_return, td_target
from purerl.algorithms.networks import Critics
from purerl.settings.hyperparameters import Learning
from purerl.trees import select
from purerl.types import Batch, Key, Metrics, Params, Scalar, Transition

Rate = Scalar | optax.Schedule  # a learning rate, or a function from the number of updates to it

SCHEDULES: dict[str, Callable[[Scalar, int], Rate]] = {
    "constant": lambda rate, steps: rate,
    "linear": lambda rate, steps: optax.linear_schedule(rate, 0.0, steps),
    "cosine": optax.cosine_decay_schedule,
}


COUNTED = 2**31 - 1  # the largest number of updates that the counters of optax reach


class Trained(NamedTuple):
    """Parameters with their optimizer state.

    Attributes:
        params: the parameters that the optimizer changes: the result of Flax's `init` without `variables`.
        opt_state: the state of the optimizer.
        variables: other variables of a network that each pass computes, for example running statistics of batch
            normalization; `()` if there are none.
    """

    params: Params
    opt_state: optax.OptState
    variables: PyTree = ()


@runtime_checkable
class CriticModel(Protocol):
    """The parts of an algorithm with critics that training does not change."""

    @property
    def critic(self) -> Critics: ...
    @property
    def critic_optimizer(self) -> optax.GradientTransformation: ...


@runtime_checkable
class CriticState(Protocol):
    """The parts of an algorithm with critics that training changes: a NamedTuple."""

    @property
    def critic(self) -> Trained: ...
    def _replace(self, **changes: Any) -> Any: ...


State = TypeVar("State", bound=CriticState)


def adam(learning_rate: Scalar, hyper: Learning, num_updates: int, **moments: Any) -> optax.GradientTransformation:
    """Return Adam (arXiv:1412.6980) with the learning rate schedule, gradient clipping and weight decay of `hyper`.

    `moments` are arguments of `optax.adam`: `b1`, `b2`, `eps`.
    """
    schedule, parts = SCHEDULES[hyper.lr_schedule], []
    by_share = schedule(learning_rate, 1)
    if hyper.max_grad_norm is not None:
        parts.append(optax.clip_by_global_norm(hyper.max_grad_norm))
    if callable(by_share) and num_updates > COUNTED:
        parts += [_adam(1.0, hyper, moments), scale_by_share(by_share, num_updates)]
    else:
        parts.append(_adam(schedule(learning_rate, num_updates), hyper, moments))
    return optax.chain(*parts) if len(parts) > 1 else parts[0]


def _adam(learning_rate: Rate, hyper: Learning, moments: dict[str, Any]) -> optax.GradientTransformation:
    if hyper.weight_decay is None:
        return optax.adam(learning_rate, **moments)
    return optax.adamw(learning_rate, weight_decay=hyper.weight_decay, **moments)


class LongCount(NamedTuple):
    """A number of updates that may exceed int32: `high` · 2³⁰ + `low`, each `[]` int32."""

    high: Int[Array, ""]
    low: Int[Array, ""]


def scale_by_share(schedule: optax.Schedule, num_updates: int) -> optax.GradientTransformation:
    """Multiply updates by `schedule(share)`, where `share` is the completed share of `num_updates`."""

    def init(params: Params) -> LongCount:
        del params
        return LongCount(jnp.int32(0), jnp.int32(0))

    def update(updates: PyTree, state: PyTree, params: PyTree = None) -> tuple[PyTree, LongCount]:
        del params
        rate = schedule(state.high * (2.0**30 / num_updates) + state.low * (1.0 / num_updates))
        low = state.low + 1
        count = LongCount(state.high + low // 2**30, low % 2**30)
        return jax.tree.map(lambda x: rate * x, updates), count

    return optax.GradientTransformation(init, update)


def create_trained(optimizer: optax.GradientTransformation, params: Params, variables: PyTree = ()) -> Trained:
    """Return the `Trained` before the first update."""
    return Trained(params, optimizer.init(params), variables)


def create_network(optimizer: optax.GradientTransformation, found: Mapping[str, PyTree]) -> Trained:
    """Return the `Trained` of a network whose Flax variables are `found`, before the first update.

    The optimizer changes only the collection "params". Other collections become `Trained.variables`.
    """
    others = {name: found[name] for name in found if name != "params"}
    return create_trained(optimizer, {"params": found["params"]}, others or ())


def descend(
    optimizer: optax.GradientTransformation,
    trained: Trained,
    loss_fn: Callable[[Params], tuple[Float[Array, ""], Any]],
    variables_of: Callable[[Any], PyTree] | None = None,
) -> tuple[Trained, Float[Array, ""], Any]:
    """Make one gradient step on `loss_fn(params) -> (loss, aux)`. If the loss is not finite, nothing changes.

    `variables_of(aux)` returns the new `Trained.variables`; without it they do not change. Returns
    `(trained, loss, aux)`.
    """
    (loss, aux), grads = jax.value_and_grad(loss_fn, has_aux=True)(trained.params)
    updates, opt_state = optimizer.update(grads, trained.opt_state, trained.params)
    variables = trained.variables if variables_of is None else variables_of(aux)
    moved = Trained(optax.apply_updates(trained.params, updates), opt_state, variables)
    return select(jnp.isfinite(loss), moved, trained), loss, aux


def to_batch(hyper: Learning, window: Transition) -> Batch:
    """Return the `Batch` `[B, ...]` of a `Transition` window `[n, B, ...]`, with scaled, discounted, summed rewards."""
    reward, discount, last = n_step_return(
        hyper.reward_scale * window.reward, window.terminated, window.truncated, hyper.gamma
    )
    next_observation = window.next_observation[0]
    for j in range(1, len(window.reward)):
        next_observation = jnp.where((last >= j)[:, None], window.next_observation[j], next_observation)
    return Batch(window.observation[0], window.action[0], reward, discount, next_observation)


def critic_step(
    model: CriticModel,
    state: State,
    batch: Batch,
    loss_of: Callable[[Float[Array, "N B ..."]], tuple[Float[Array, ""], Metrics]],
    **passing: Any,
) -> tuple[State, Metrics]:
    """Make one gradient step of the critics on a loss. Returns `(state, metrics)`.

    `loss_of(q) -> (loss [], {name: metric []})`, where `q` `[N, B, ...]` holds the outputs of the critics for the
    batch. The metric `q` is the mean over critics, batch and outputs. `passing` is passed to `Critics.apply`, for
    example `rngs` for dropout. For a network with other variables (`mutable`), use `descend` with `variables_of`.
    """

    def loss_fn(params: Params) -> tuple[Float[Array, ""], Metrics]:
        q = model.critic.apply(params, batch.observation, batch.action, **passing)
        loss, metrics = loss_of(q)
        return loss, metrics | {"q": reduce(jnp.add, q.reshape(len(q), -1).mean(axis=1)) / len(q)}

    critic, loss, metrics = descend(model.critic_optimizer, state.critic, loss_fn)
    return state._replace(critic=critic), {"critic_loss": loss} | metrics


def no_value(state: Any, batches: Batch, key: Key) -> tuple[()]:
    """Return the `next_value` of an algorithm whose critic updates compute their own targets: nothing."""
    del state, batches, key
    return ()


def td_step(
    model: CriticModel, state: State, batch: Batch, next_value: Float[Array, " B"], key: Key
) -> tuple[State, Metrics]:
    """Make one gradient step of every critic toward y = r + γ (1 − d) V(s').

    DDPG, TD3, SAC and REDQ differ only in `next_value`, V(s') `[B]`.
    """
    del key  # Only `next_value` may be random.
    target = td_target(batch.reward, batch.discount, next_value)
    return critic_step(model, state, batch, lambda q: (critic_loss(q, target), {}))
