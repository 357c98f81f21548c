"""The three networks: a deterministic actor, a Gaussian actor, and an ensemble of critics.

Their initial weights are drawn as one of `INITIALIZERS` says.
"""

import dataclasses
import math
from functools import partial
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, DTypeLike, Float

from purerl.algorithms.batch_renorm import BatchRenorm
from purerl.errors import closest
from purerl.settings.schema import HiddenLayers, Plan
from purerl.types import EnvSizes, Key, Params

LOG_STD_RANGE = (-20.0, 2.0)

# Rounding of a layer's matrix product. tf32 keeps 10 bits of the factors on GPUs that support it, and is float32
# elsewhere. bf16 keeps 7 bits, also of the values between layers. Parameters and the output of the last layer stay
# float32.
PRECISIONS: dict[str, dict[str, Any]] = {
    "float32": {"precision": "highest"},
    "tf32": {"precision": "tensorfloat32"},
    "bf16": {"precision": "default", "dtype": jnp.bfloat16},
}

Factors = tuple[Float[Array, "*batch n"], Float[Array, "n m"]]  # factors of a layer's product, or their gradients


def uniform(bound: float) -> nn.initializers.Initializer:
    """Return an initializer that draws uniformly from ±`bound`."""

    def draw(key: Key, shape: tuple[int, ...], dtype: DTypeLike = jnp.float32) -> Float[Array, "..."]:
        return nn.initializers.uniform(2 * bound)(key, shape, dtype) - bound

    return draw


class Initializers(NamedTuple):
    """How a network begins: the initializers of hidden kernels, of output kernels, and whether biases are 0.

    Other biases are uniform in ±1/√fan_in.
    """

    hidden: nn.initializers.Initializer
    output: nn.initializers.Initializer
    zero_bias: bool = True


fan_in = nn.initializers.variance_scaling(1 / 3, "fan_in", "uniform")  # uniform in ±1/√fan_in
glorot, lecun = nn.initializers.glorot_uniform(), nn.initializers.lecun_normal()

INITIALIZERS = {
    # First actions and values are near zero, and no tanh is saturated (DDPG arXiv:1509.02971, §7, where biases are
    # drawn as kernels are).
    "small": Initializers(fan_in, uniform(3e-3)),
    "pytorch": Initializers(fan_in, fan_in, zero_bias=False),  # PyTorch's default: the TD3 authors' code
    "glorot": Initializers(glorot, glorot),  # the SAC, REDQ and DroQ authors' code
    "lecun": Initializers(lecun, lecun),  # Flax's default: the CrossQ authors' code
}


@partial(jax.custom_vjp, nondiff_argnums=(2, 3))
def product(
    x: Float[Array, "*batch n"],
    kernel: Float[Array, "n m"],
    dimension_numbers: jax.lax.DotDimensionNumbers,
    precision: jax.lax.PrecisionLike,
) -> Float[Array, "*batch m"]:
    """Return `x @ kernel`, `[..., n]` and `[n, m]` -> `[..., m]`, with the arguments that Flax passes.

    JAX computes the gradient for the kernel as `[m, n]` and transposes it. Here it is computed directly as `[n, m]`.
    For one seed on a CPU, XLA repeats the transposition in every pass of Adam, which takes a seventh of TD3's time.
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


def dense(size: int, torso: "MLP", x: Float[Array, "*batch n"], *, output: bool = False) -> Float[Array, "*batch m"]:
    """Apply a layer of `size` units, of `torso` or after it: `[..., n]` -> `[..., size]`."""
    how = INITIALIZERS[torso.initialization]
    kernel = how.output if output else how.hidden
    bias = nn.initializers.zeros_init() if how.zero_bias else uniform(1 / math.sqrt(x.shape[-1]))
    layer = nn.Dense(size, kernel_init=kernel, bias_init=bias, dot_general=product, **PRECISIONS[torso.precision])
    return layer(x)


def head(size: int, torso: "MLP", x: Float[Array, "*batch n"]) -> Float[Array, "*batch {size}"]:
    """Apply the last layer, after `torso`: `[..., n]` -> `[..., size]`, at least float32."""
    x = dense(size, torso, x, output=True)
    return x.astype(jnp.promote_types(x.dtype, jnp.float32))


class MLP(nn.Module):
    """Hidden layers: `[..., n]` -> `[..., widths[-1]]`.

    Attributes:
        widths: units of each layer.
        activation: the name of a function in `flax.linen`.
        layer_norm: whether layer normalization precedes each activation.
        precision: a name in `PRECISIONS`.
        dropout: the share of units that dropout sets to 0 after each matrix product. If it is not 0, every pass needs
            random numbers: `apply(..., rngs={"dropout": key})`.
        norm_epsilon: epsilon of layer normalization.
        renorm_warmup: the number of training passes after which batch normalization of the input and of the output of
            each activation becomes batch renormalization (`BatchRenorm`); None: no batch normalization.
        initialization: a name in `INITIALIZERS`.

    Raises ValueError for an unknown activation, precision or initialization.
    """

    widths: tuple[int, ...]
    activation: str
    layer_norm: bool
    precision: str = "float32"
    dropout: float = 0.0
    norm_epsilon: float = 1e-6
    renorm_warmup: int | None = None
    initialization: str = "small"

    def __post_init__(self) -> None:
        for name, known in (("precision", PRECISIONS), ("initialization", INITIALIZERS)):
            given = getattr(self, name)
            if not isinstance(given, str) or given not in known:
                raise ValueError(f"{name} is {given!r}{closest(given, known)}")
        function = getattr(nn, self.activation, None) if isinstance(self.activation, str) else None
        if isinstance(function, type) or not callable(function):
            raise ValueError(f"activation is {self.activation!r}, which is not a function in flax.linen, as relu is")
        super().__post_init__()

    @nn.compact
    def __call__(self, x: Float[Array, "*batch n"]) -> Float[Array, "*batch width"]:
        if self.renorm_warmup is not None:
            x = BatchRenorm(self.renorm_warmup)(x)
        for width in self.widths:
            x = dense(width, self, x)
            if self.dropout:
                x = nn.Dropout(self.dropout, deterministic=False)(x)
            if self.layer_norm:
                x = nn.LayerNorm(epsilon=self.norm_epsilon, dtype=x.dtype)(x)
            x = getattr(nn, self.activation)(x)
            if self.renorm_warmup is not None:
                x = BatchRenorm(self.renorm_warmup)(x)
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

    One output layer returns both, the mean first. The standard deviation depends on the state. Its logarithm is clipped
    to [-20, 2] (SAC arXiv:1801.01290, the authors' code).
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

    SAC arXiv:1812.05905, appendix C. Arrays are flattened during the computation: on a CPU, a last axis as short as an
    action is not vectorized, which cost a seventh of SAC's time. The two log-densities are summed separately: summing
    them together would add two kernels on a GPU.
    """

    mean: Float[Array, "*batch A"]
    std: Float[Array, "*batch A"]

    def sample(self, seed: Key) -> Float[Array, "*batch A"]:
        return self.sample_and_log_prob(seed)[0]

    def sample_and_log_prob(self, seed: Key) -> tuple[Float[Array, "*batch A"], Float[Array, "*batch"]]:
        """Return tanh(u) and its log-density `[...]`, log N(u; m, σ) − Σ log(1 − tanh² u).

        The log-density is exact also where tanh is saturated.
        """
        import distrax  # Imported here, because TD3 and DDPG do not need it, and tensorflow-probability takes a second.

        u, log_prob = distrax.Normal(self.mean.ravel(), self.std.ravel()).sample_and_log_prob(seed=seed)
        action, log_det = distrax.Tanh().forward_and_log_det(u)
        action, log_prob, log_det = (jnp.reshape(x, self.mean.shape) for x in (action, log_prob, log_det))
        return action, log_prob.sum(axis=-1) - log_det.sum(axis=-1)


class Critic(nn.Module):
    """Q(s, a): one value, `[...]`, or several `outputs`, `[..., outputs]`, for example quantiles."""

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
    """An ensemble of `count` independent copies of the module `critic`: -> `[count, ...]`.

    `critic` maps `(observation, action)` to an array. All its variables have a leading axis over critics, and each
    critic has its own random numbers.

    Every critic gets its own copy of (s, a), so that the products of a layer become one batched product. From a shared
    input, XLA would make one wide product and transpose its input and output.
    """

    def __init__(self, count: int, critic: nn.Module) -> None:
        self.count, self.critic = count, critic
        lifted = nn.vmap(type(critic), variable_axes={True: 0}, split_rngs={True: True})
        self.ensemble = lifted(**_fields(critic))

    def init(self, key: Key, observation: Float[Array, "*batch obs"], action: Float[Array, "*batch A"]) -> Params:
        return self.ensemble.init(key, *_copies(self.count, observation, action))

    def apply(
        self, params: Params, observation: Float[Array, "*batch obs"], action: Float[Array, "*batch A"], **passing: Any
    ) -> Any:
        """Return the outputs of the critics in `params`, `[count, ...]`. They may be only some of the ensemble.

        `passing` is passed to `flax.linen.Module.apply`: `rngs`, `mutable`.
        """
        count = len(jax.tree.leaves(params)[0])
        if count == 1 and not passing:
            return self.first(params, observation, action)[None]
        return self.ensemble.apply(params, *_copies(count, observation, action), **passing)

    def first(
        self, params: Params, observation: Float[Array, "*batch obs"], action: Float[Array, "*batch A"]
    ) -> Float[Array, "..."]:
        """Return Q₁(s, a), `[...]`."""
        return forward(self.critic, jax.tree.map(lambda x: x[0], params), observation, action)


def _copies(count: int, *inputs: Float[Array, "..."]) -> list[Float[Array, "N ..."]]:
    return [jnp.broadcast_to(x, (count, *x.shape)) for x in inputs]


def forward(network: nn.Module, params: Params, *inputs: Float[Array, "..."]) -> Any:
    """Return the output of `network`. By its types, Flax's `apply` may also return variables."""
    return network.apply(params, *inputs)


def _fields(module: nn.Module) -> dict[str, Any]:
    """Return the arguments with which a Flax module was created."""
    fields = dataclasses.fields(module)
    names = (field.name for field in fields if field.init and field.name not in ("parent", "name"))
    return {name: getattr(module, name) for name in names}


def torso(plan: Plan, layers: HiddenLayers, **other: Any) -> MLP:
    """Return the hidden `layers`, with the precision and the initial weights of `plan`. `other` goes to `MLP`."""
    return MLP(*layers, plan.precision, initialization=plan.initialization, **other)


def actor_torso(plan: Plan) -> MLP:
    """Return the hidden layers of the actor."""
    return torso(plan, plan.actor_layers)


def critic_torso(plan: Plan) -> MLP:
    """Return the hidden layers of a critic."""
    return torso(plan, plan.critic_layers)


def critics_of(plan: Plan, count: int, outputs: int | None = None) -> Critics:
    """Return `count` critics with the hidden layers of `plan`, and one value or several `outputs` each."""
    return Critics(count, Critic(critic_torso(plan), outputs))


def deterministic_actor(plan: Plan, env: EnvSizes) -> Actor:
    return Actor(env.action_size, actor_torso(plan))


def gaussian_actor(plan: Plan, env: EnvSizes) -> GaussianActor:
    return GaussianActor(env.action_size, actor_torso(plan))


def value_critic(plan: Plan, env: EnvSizes) -> Critic:
    del env  # Flax finds the sizes of inputs.
    return Critic(critic_torso(plan))
