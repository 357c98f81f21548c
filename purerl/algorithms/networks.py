"""The three networks: a deterministic actor, a Gaussian actor, and an ensemble of critics.

Hidden layers begin uniform in ±1/√fan_in, output layers uniform in ±3e-3 with zero bias, so that the first actions and
values are near zero and no tanh is saturated (DDPG arXiv:1509.02971, §7; PyTorch's default, which the authors of TD3
use, has the same hidden kernels). Biases begin at zero, where both draw them.
"""

import dataclasses
from functools import partial
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, DTypeLike, Float

from purerl.settings.schema import Plan
from purerl.types import Key, Params

LOG_STD_RANGE = (-20.0, 2.0)

# How a layer's product is rounded: tf32 keeps 10 bits of its factors where a GPU has it, and is float32 elsewhere; bf16
# keeps 7, of what lies between the layers too. Parameters stay float32, and so does what the last layer puts out.
PRECISIONS: dict[str, dict[str, Any]] = {
    "float32": {"precision": "highest"},
    "tf32": {"precision": "tensorfloat32"},
    "bf16": {"precision": "default", "dtype": jnp.bfloat16},
}

Factors = tuple[Float[Array, "*batch n"], Float[Array, "n m"]]  # of a layer's product, or their gradients

hidden_init = nn.initializers.variance_scaling(1 / 3, "fan_in", "uniform")


def output_init(key: Key, shape: tuple[int, ...], dtype: DTypeLike = jnp.float32) -> Float[Array, "..."]:
    """Uniform in ±3e-3."""
    return nn.initializers.uniform(6e-3)(key, shape, dtype) - 3e-3


@partial(jax.custom_vjp, nondiff_argnums=(2, 3))
def product(
    x: Float[Array, "*batch n"],
    kernel: Float[Array, "n m"],
    dimension_numbers: jax.lax.DotDimensionNumbers,
    precision: jax.lax.PrecisionLike,
) -> Float[Array, "*batch m"]:
    """`x @ kernel` as Flax asks for it, `[..., n]` and `[n, m]` -> `[..., m]`.

    JAX makes the gradient for the kernel as `[m, n]` and transposes it; here it comes out as `[n, m]`. Of one seed on a
    CPU XLA leaves the transposition to those who read it, which are all of Adam's passes: a seventh of TD3's time.
    """
    return jax.lax.dot_general(x, kernel, dimension_numbers, precision)


def _forward(
    x: Float[Array, "*batch n"], kernel: Float[Array, "n m"], *how: Any
) -> tuple[Float[Array, "*batch m"], Factors]:
    return product(x, kernel, *how), (x, kernel)


def _backward(
    dimension_numbers: jax.lax.DotDimensionNumbers,
    precision: jax.lax.PrecisionLike,
    factors: Factors,
    grad: Float[Array, "*batch m"],
) -> Factors:
    x, kernel = factors
    last, leading = x.ndim - 1, tuple(range(x.ndim - 1))
    return (
        jax.lax.dot_general(grad, kernel, (((last,), (1,)), ((), ())), precision),
        jax.lax.dot_general(x, grad, ((leading, leading), ((), ())), precision),
    )


product.defvjp(_forward, _backward)


def dense(size: int, kernel_init: nn.initializers.Initializer, precision: str) -> nn.Dense:
    """A layer of `size` units."""
    return nn.Dense(size, kernel_init=kernel_init, dot_general=product, **PRECISIONS[precision])


def head(size: int, torso: "MLP", x: Float[Array, "*batch n"]) -> Float[Array, "*batch {size}"]:
    """The last layer, after `torso`: `[..., n]` -> `[..., size]`, float32 at least."""
    x = dense(size, output_init, torso.precision)(x)
    return x.astype(jnp.promote_types(x.dtype, jnp.float32))


class MLP(nn.Module):
    """Hidden layers: `[..., n]` -> `[..., widths[-1]]`.

    `activation` names a function of `flax.linen`, `precision` one of `PRECISIONS`.
    """

    widths: tuple[int, ...]
    activation: str
    layer_norm: bool
    precision: str = "float32"

    @nn.compact
    def __call__(self, x: Float[Array, "*batch n"]) -> Float[Array, "*batch width"]:
        for width in self.widths:
            x = dense(width, hidden_init, self.precision)(x)
            if self.layer_norm:
                x = nn.LayerNorm(dtype=x.dtype)(x)
            x = getattr(nn, self.activation)(x)
        return x


class Actor(nn.Module):
    """μ(s): `[..., obs_size]` -> `[..., action_size]` in (-1, 1)."""

    action_size: int
    torso: MLP

    @nn.compact
    def __call__(self, observation: Float[Array, "*batch obs"]) -> Float[Array, "*batch A"]:
        return jnp.tanh(head(self.action_size, self.torso, self.torso(observation)))


class GaussianActor(nn.Module):
    """The mean and the standard deviation of a Gaussian before tanh, each `[..., action_size]`.

    One head puts out both, the mean first. The deviation depends on the state; its logarithm is clipped to [-20, 2]
    (SAC arXiv:1801.01290, the authors' code).
    """

    action_size: int
    torso: MLP

    @nn.compact
    def __call__(
        self, observation: Float[Array, "*batch obs"]
    ) -> tuple[Float[Array, "*batch A"], Float[Array, "*batch A"]]:
        mean, log_std = jnp.split(head(2 * self.action_size, self.torso, self.torso(observation)), 2, axis=-1)
        return mean, jnp.exp(jnp.clip(log_std, *LOG_STD_RANGE))


class SquashedGaussian(NamedTuple):
    """The distribution of tanh(u), u = m + σ ξ, ξ ~ N(0, I), over actions `[..., action_size]`.

    SAC arXiv:1812.05905, appendix C. Its arrays are flat meanwhile: a CPU makes no vectors of a last axis as short as
    an action, which cost a seventh of SAC's time. Each of the two densities is summed up by itself: their sum would be
    two more kernels on a GPU.
    """

    mean: Float[Array, "*batch A"]
    std: Float[Array, "*batch A"]

    def sample(self, seed: Key) -> Float[Array, "*batch A"]:
        return self.sample_and_log_prob(seed)[0]

    def sample_and_log_prob(self, seed: Key) -> tuple[Float[Array, "*batch A"], Float[Array, "*batch"]]:
        """tanh(u) and its log-density `[...]`, log N(u; m, σ) − Σ log(1 − tanh² u): exact where tanh is saturated."""
        import distrax  # Here, because it brings tensorflow-probability, which takes a second and which only SAC needs.

        u, log_prob = distrax.Normal(self.mean.ravel(), self.std.ravel()).sample_and_log_prob(seed=seed)
        action, log_det = distrax.Tanh().forward_and_log_det(u)
        action, log_prob, log_det = (jnp.reshape(x, self.mean.shape) for x in (action, log_prob, log_det))
        return action, log_prob.sum(axis=-1) - log_det.sum(axis=-1)


class Critic(nn.Module):
    """Q(s, a): one value, -> `[...]`, or several `outputs`, for example quantiles, -> `[..., outputs]`."""

    torso: MLP
    outputs: int | None = None

    @nn.compact
    def __call__(
        self, observation: Float[Array, "*batch obs"], action: Float[Array, "*batch A"]
    ) -> Float[Array, "*batch"] | Float[Array, "*batch outputs"]:
        x = self.torso(jnp.concatenate([observation, action], axis=-1))
        x = head(self.outputs or 1, self.torso, x)
        return x.squeeze(-1) if self.outputs is None else x


class Critics:
    """`count` independent copies of the module `critic` as one: -> `[count, ...]`.

    `critic` maps `(observation, action)` to an array. Its variables, whatever their collection, have a leading axis
    over critics, and each critic has its own random numbers.

    Every critic is given its own copy of (s, a), so that the products of a layer are one batched product; of a shared
    input XLA would make one wide product, and transpose what goes in and what comes out.
    """

    def __init__(self, count: int, critic: nn.Module) -> None:
        self.count, self.critic = count, critic
        lifted = nn.vmap(type(critic), variable_axes={True: 0}, split_rngs={True: True})
        self.ensemble = lifted(**_fields(critic))

    def init(self, key: Key, observation: Float[Array, "*batch obs"], action: Float[Array, "*batch A"]) -> Params:
        return self.ensemble.init(key, *self._copies(observation, action))

    def apply(
        self, params: Params, observation: Float[Array, "*batch obs"], action: Float[Array, "*batch A"], **passing: Any
    ) -> Any:
        """-> `[count, ...]`. `passing` goes to `flax.linen.Module.apply`: `rngs`, `mutable`."""
        if self.count == 1 and not passing:
            return self.first(params, observation, action)[None]
        return self.ensemble.apply(params, *self._copies(observation, action), **passing)

    def first(
        self, params: Params, observation: Float[Array, "*batch obs"], action: Float[Array, "*batch A"]
    ) -> Float[Array, "..."]:
        """Q₁(s, a): -> `[...]`."""
        return forward(self.critic, jax.tree.map(lambda x: x[0], params), observation, action)

    def _copies(self, *inputs: Float[Array, "..."]) -> list[Float[Array, "N ..."]]:
        return [jnp.broadcast_to(x, (self.count, *x.shape)) for x in inputs]


def forward(network: nn.Module, params: Params, *inputs: Float[Array, "..."]) -> Any:
    """What `network` puts out; by its types, Flax's `apply` might put out variables with it."""
    return network.apply(params, *inputs)


def _fields(module: nn.Module) -> dict[str, Any]:
    """The arguments that a Flax module was made with."""
    names = (field.name for field in dataclasses.fields(module) if field.name not in ("parent", "name"))
    return {name: getattr(module, name) for name in names}


def torso(plan: Plan) -> MLP:
    """The hidden layers that `plan` asks for."""
    return MLP(plan.widths, plan.activation, plan.layer_norm, plan.precision)


def critics_of(plan: Plan, count: int, outputs: int | None = None) -> Critics:
    """`count` critics with the hidden layers that `plan` asks for, of one value or of several `outputs`."""
    return Critics(count, Critic(torso(plan), outputs))
