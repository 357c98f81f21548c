"""A circular replay buffer of fixed size, held in device arrays.

The ring is made of rows: one row is one step of all environments, so a write never wraps. It does not count: the clock
`added`, the rows written so far, is the caller's, one scalar for all seeds. At an index without a seed axis XLA writes
in place; at an index with one, the write would be a scatter.
"""

import jax
import jax.numpy as jnp


def empty(example, rows, num_envs):
    """A ring of `rows` rows: every field of `example` (one transition, no leading axes) as `[rows, E, ...]`."""
    return jax.tree.map(lambda x: jnp.zeros((rows, num_envs, *jnp.shape(x)), jnp.result_type(x)), example)


def add(ring, added, transition):
    """Write one row, `[E, ...]`, over the oldest. `added` rows were written before it."""

    def write(data, x):
        return jax.lax.dynamic_update_index_in_dim(data, x.astype(data.dtype), added % len(data), axis=0)

    return jax.tree.map(write, ring, transition)


def sample(ring, added, key, shape, n_step=1):
    """Windows of `n_step` consecutive transitions, `[n_step, *shape, ...]`, uniformly and with replacement.

    The first transition of a window is drawn from all that have been written and not overwritten, less the newest
    `n_step - 1` rows, whose windows are not complete yet. `added >= n_step` rows must have been written. The key is
    consumed.
    """
    rows, num_envs = jax.tree.leaves(ring)[0].shape[:2]
    complete = jnp.minimum(added, rows) - (n_step - 1)
    draw = jax.random.randint(key, shape, 0, complete * num_envs)
    age, env = draw // num_envs + (n_step - 1), draw % num_envs
    row = (added - 1 - age + jnp.arange(n_step).reshape(-1, *[1] * len(shape))) % rows
    return jax.tree.map(lambda data: data[row, env], ring)
