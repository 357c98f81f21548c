"""What several packages do with trees of arrays."""

from typing import TypeVar

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool

Tree = TypeVar("Tree")


def select(condition: Bool[Array, ""], new: Tree, old: Tree) -> Tree:
    """`new` or `old`, trees of arrays. What did not change costs nothing."""
    return jax.tree.map(lambda x, y: y if x is y else jnp.where(condition, x, y), new, old)
