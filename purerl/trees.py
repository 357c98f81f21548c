"""What several packages do with trees of arrays."""

import jax
import jax.numpy as jnp


def select(condition, new, old):
    """`new` or `old`, trees of arrays. What did not change costs nothing."""
    return jax.tree.map(lambda x, y: y if x is y else jnp.where(condition, x, y), new, old)
