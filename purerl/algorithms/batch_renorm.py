"""Batch renormalization (Ioffe 2017, arXiv:1702.03275), as the authors of CrossQ use it (arXiv:1902.05605)."""

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

STATISTICS = "batch_stats"  # Flax's name of the collection that holds running statistics


class BatchRenorm(nn.Module):
    """Normalize each feature: `[..., n]` -> `[..., n]`, by statistics over all leading axes, or by running statistics.

    A pass is a training pass if the collection of statistics is mutable: `apply(..., mutable=["batch_stats"])`. It uses
    the statistics of the batch, lets gradients flow through them, and updates the running statistics. Any other pass
    uses the running statistics and changes nothing.

    Before `warmup` training passes of this layer, a training pass is that of batch normalization. Later, the
    corrections r and d bring its result close to that of the running statistics. r and d are clipped, and have no
    gradient.

    Attributes:
        warmup: training passes before r and d are used.
        momentum: weight of the old running statistics in each update.
        epsilon: added to variances.
        r_max: r is clipped to [1 / r_max, r_max].
        d_max: d is clipped to [-d_max, d_max].
    """

    warmup: int = 100_000
    momentum: float = 0.99
    epsilon: float = 1e-3
    r_max: float = 3.0
    d_max: float = 5.0

    @nn.compact
    def __call__(self, x: Float[Array, "*batch n"]) -> Float[Array, "*batch n"]:
        size = x.shape[-1:]
        running_mean = self.variable(STATISTICS, "mean", jnp.zeros, size, jnp.float32)
        running_variance = self.variable(STATISTICS, "var", jnp.ones, size, jnp.float32)
        passes = self.variable(STATISTICS, "passes", jnp.zeros, (), jnp.int32)
        mean, variance = running_mean.value, running_variance.value
        if self.is_mutable_collection(STATISTICS) and not self.is_initializing():
            wide = x.astype(jnp.promote_types(x.dtype, jnp.float32))
            batch_mean, batch_variance = moments(wide)
            mean, variance = self.corrected(batch_mean, batch_variance, mean, variance, passes.value)
            running_mean.value = self.moved(running_mean.value, batch_mean)
            running_variance.value = self.moved(running_variance.value, batch_variance)
            passes.value = jnp.minimum(passes.value + 1, self.warmup)  # It stays there, so that it cannot overflow.
        scale = self.param("scale", nn.initializers.ones, size)
        bias = self.param("bias", nn.initializers.zeros, size)
        normalized = (x - mean) / jnp.sqrt(variance + self.epsilon) * scale + bias
        return normalized.astype(x.dtype)

    def corrected(
        self,
        mean: Float[Array, " n"],
        variance: Float[Array, " n"],
        running_mean: Float[Array, " n"],
        running_variance: Float[Array, " n"],
        passes: Int[Array, ""],
    ) -> tuple[Float[Array, " n"], Float[Array, " n"]]:
        """Return the mean and the variance that normalize a training batch with this `mean` and `variance`.

        They are d σ / r below the mean, and variance / r², so that (x − mean) / σ becomes r (x − mean) / σ + d.
        """
        running_deviation = jnp.sqrt(running_variance + self.epsilon)
        r = jax.lax.stop_gradient(jnp.sqrt(variance + self.epsilon) / running_deviation)
        r = jnp.clip(r, 1.0 / self.r_max, self.r_max)
        d = jnp.clip(jax.lax.stop_gradient((mean - running_mean) / running_deviation), -self.d_max, self.d_max)
        warm = passes >= self.warmup
        return (
            jnp.where(warm, mean - d * deviation(variance) / r, mean),
            jnp.where(warm, variance / jnp.square(r), variance),
        )

    def moved(self, running: Float[Array, " n"], batch: Float[Array, " n"]) -> Float[Array, " n"]:
        """Return the running statistic after a batch with this statistic."""
        return self.momentum * running + (1.0 - self.momentum) * jax.lax.stop_gradient(batch)


def moments(x: Float[Array, "*batch n"]) -> tuple[Float[Array, " n"], Float[Array, " n"]]:
    """Return the mean and the biased variance of each feature, over all leading axes."""
    x = x.reshape(-1, x.shape[-1])
    return x.mean(axis=0), x.var(axis=0)


def deviation(variance: Float[Array, " n"]) -> Float[Array, " n"]:
    """Return √variance. Where the variance is 0, as of a unit that is never active, the gradient is 0 and not NaN."""
    positive = variance > 0.0
    return jnp.where(positive, jnp.sqrt(jnp.where(positive, variance, 1.0)), 0.0)
