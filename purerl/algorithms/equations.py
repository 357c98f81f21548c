"""The equations of the algorithms, one function each. Their arguments and results are arrays.

Letters in shapes: B batch size, N critics, M quantiles of a critic, K of a target, A action size, n steps of a window.

Sources: DDPG arXiv:1509.02971, TD3 arXiv:1802.09477, SAC arXiv:1812.05905, TQC arXiv:2005.04269,
REDQ arXiv:2101.05982.
"""

from functools import reduce

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from purerl.types import Params, Scalar


def td_target(
    reward: Float[Array, "*#batch"], discount: Float[Array, "*#batch"], next_value: Float[Array, "*#batch"]
) -> Float[Array, "*#batch"]:
    """y = r + γ (1 − d) V(s'), without gradient.  `discount` is γ (1 − d). All `[B]`."""
    return jax.lax.stop_gradient(reward + discount * next_value)


def critic_loss(q: Float[Array, "N B"], target: Float[Array, " B"]) -> Float[Array, ""]:
    """Σᵢ mean_b (Qᵢ − y)².  `q` `[N, B]`, `target` `[B]`."""
    # On a GPU, `jnp.sum` over so few numbers would be a separate kernel; these additions are not.
    return reduce(jnp.add, jnp.square(q - target).mean(axis=1))


def deterministic_policy_loss(q: Float[Array, " B"]) -> Float[Array, ""]:
    """−mean_b Q(s, μ(s)).  `q` `[B]`. DDPG eq. 6, as a loss."""
    return -q.mean()


def clipped_double_q(q: Float[Array, " N *batch"]) -> Float[Array, "*batch"]:
    """minᵢ Qᵢ(s', a').  `[N, ..., B]` -> `[..., B]`. TD3 §4.2."""
    return q.min(axis=0)


def smoothed(
    action: Float[Array, "*batch A"], epsilon: Float[Array, "*batch A"], clip: Scalar
) -> Float[Array, "*batch A"]:
    """clip(a + clip(ε, −c, c), −1, 1), ε ~ N(0, σ²).  `action` and `epsilon` `[..., A]`. TD3 §5.3."""
    return jnp.clip(action + jnp.clip(epsilon, -clip, clip), -1.0, 1.0)


def perturbed(action: Float[Array, "E A"], noise: Float[Array, "E A"]) -> Float[Array, "E A"]:
    """clip(a + ε, −1, 1).  Both `[E, A]`. DDPG §3, algorithm 1."""
    return jnp.clip(action + noise, -1.0, 1.0)


def soft_value(q: Float[Array, " N *batch"], log_prob: Float[Array, "*batch"], alpha: Scalar) -> Float[Array, "*batch"]:
    """minᵢ Qᵢ(s, a) − α log π(a|s).  `q` `[N, ..., B]`, `log_prob` `[..., B]` -> `[..., B]`. SAC eq. 3."""
    return q.min(axis=0) - alpha * log_prob


def entropy_policy_loss(q: Float[Array, "N B"], log_prob: Float[Array, " B"], alpha: Scalar) -> Float[Array, ""]:
    """mean_b (α log π(a|s) − minᵢ Qᵢ(s, a)).  `q` `[N, B]`, `log_prob` `[B]`. SAC eq. 7."""
    return -soft_value(q, log_prob, alpha).mean()


def temperature_loss(log_alpha: Scalar, log_prob: Float[Array, " B"], target_entropy: Scalar) -> Float[Array, ""]:
    """mean_b α (−log π(a|s) − H̄), α = exp(log α).  SAC eq. 18. There is no gradient to π."""
    return jnp.exp(log_alpha) * jax.lax.stop_gradient(-log_prob - target_entropy).mean()


def log_temperature_loss(log_alpha: Scalar, log_prob: Float[Array, " B"], target_entropy: Scalar) -> Float[Array, ""]:
    """mean_b log α (−log π(a|s) − H̄).  There is no gradient to π.

    The authors of TQC, REDQ and DroQ minimize it in place of `temperature_loss`. Its gradient has no factor α.
    """
    return log_alpha * jax.lax.stop_gradient(-log_prob - target_entropy).mean()


def mean_policy_loss(q: Float[Array, "N B ..."], log_prob: Float[Array, " B"], alpha: Scalar) -> Float[Array, ""]:
    """mean_b (α log π(a|s) − the mean of all Qᵢ(s, a)).  `q` `[N, B]`, or `[N, B, M]` with quantiles.

    REDQ algorithm 1; TQC algorithm 1.
    """
    return (alpha * log_prob).mean() - q.mean()


def truncated(quantiles: Float[Array, "N *batch M"], dropped: int) -> Float[Array, "*batch K"]:
    """Pool the quantiles of all critics, and keep the least of them, sorted.  TQC eq. 8.

    `[N, ..., M]` -> `[..., K]`, K = N (M − `dropped`).
    """
    pooled = jnp.moveaxis(quantiles, 0, -1).reshape(*quantiles.shape[1:-1], -1)
    kept = pooled.shape[-1] - len(quantiles) * dropped
    return -jax.lax.top_k(-pooled, kept)[0]


def quantile_huber_loss(quantiles: Float[Array, "N B M"], target: Float[Array, "B K"]) -> Float[Array, ""]:
    """mean |τₘ − 1{yₖ < θₘ}| H(yₖ − θₘ), over all critics, transitions, and pairs of a quantile θₘ and a target yₖ.

    τₘ = (2m − 1) / 2M, and H is the Huber loss with threshold 1. TQC eq. 6 and 7.
    """
    level = (jnp.arange(quantiles.shape[-1]) + 0.5) / quantiles.shape[-1]
    error = target[:, None, :] - quantiles[..., None]
    size = jnp.abs(error)
    huber = jnp.where(size <= 1.0, 0.5 * jnp.square(error), size - 0.5)
    return (jnp.abs(level[:, None] - (error < 0.0)) * huber).mean()


def polyak(online: Params, target: Params, tau: Scalar) -> Params:
    """θ' ← τ θ + (1 − τ) θ', leaf by leaf."""
    return jax.tree.map(lambda x, y: tau * x + (1.0 - tau) * y, online, target)


def n_step_return(
    reward: Float[Array, "n B"], terminated: Bool[Array, "n B"], truncated: Bool[Array, "n B"], gamma: Scalar
) -> tuple[Float[Array, " B"], Float[Array, " B"], Int[Array, " B"]]:
    """Σ_{j<k} γʲ r_j and γᵏ (1 − d), with the k ≤ n steps up to the first end of an episode.

    `[n, B]` each -> (`[B]`, `[B]`, and the index k − 1 of the last step, `[B]`). The target bootstraps after
    truncation, but not after termination. Sutton & Barto 2018, eq. 7.1.
    """
    over = terminated | truncated
    n = len(reward)
    total, discount = reward[-1], gamma * (1.0 - terminated[-1])
    last = jnp.full(reward.shape[1:], n - 1)
    for j in reversed(range(n - 1)):
        total = reward[j] + jnp.where(over[j], 0.0, gamma * total)
        discount = gamma * jnp.where(over[j], 1.0 - terminated[j], discount)
        last = jnp.where(over[j], j, last)
    return total, discount, last
