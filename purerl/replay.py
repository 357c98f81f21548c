"""A circular replay buffer of fixed size, held in one device array.

The ring is made of rows: one row is one step of all environments, so a write never wraps. It does not count: the clock
`added`, the rows written so far, is the caller's, one scalar for all seeds. At an index without a seed axis XLA writes
in place; at an index with one, the write would be a scatter.

Letters: E environments, F the numbers in a transition.
"""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Ring:
    """Attributes:
    data: `[rows, E, F]` float32, the fields of a transition side by side: one write and one read for all of them.
    example: one transition, as `jax.ShapeDtypeStruct`s: how the F numbers are to be read.
    """

    data: jax.Array
    example: Any = dataclasses.field(metadata={"static": True})


def empty(example, rows, num_envs):
    """A ring of `rows` rows for transitions like `example` (one, without leading axes; floats and bools)."""
    example = jax.tree.map(lambda x: jax.ShapeDtypeStruct(jnp.shape(x), jnp.result_type(x)), example)
    width = sum(int(np.prod(x.shape)) for x in jax.tree.leaves(example))
    return Ring(jnp.zeros((rows, num_envs, width)), example)


def add(ring, added, transition):
    """Write one row, `[E, ...]`, over the oldest. `added` rows were written before it."""
    fields = jax.tree.leaves(transition)
    row = jnp.concatenate([x.reshape(len(x), -1).astype(ring.data.dtype) for x in fields], axis=1)
    data = jax.lax.dynamic_update_index_in_dim(ring.data, row, added % len(ring.data), axis=0)
    return dataclasses.replace(ring, data=data)


def sample(ring, added, key, shape, n_step=1):
    """Windows of `n_step` consecutive transitions, `[n_step, *shape, ...]`, uniformly and with replacement.

    The first transition of a window is drawn from all that have been written and not overwritten, less the newest
    `n_step - 1` rows, whose windows are not complete yet. `added >= n_step` rows must have been written. The key is
    consumed.
    """
    rows, num_envs, _ = ring.data.shape
    complete = jnp.minimum(added, rows) - (n_step - 1)
    draw = jax.random.randint(key, shape, 0, complete * num_envs)
    age, env = draw // num_envs + (n_step - 1), draw % num_envs
    row = (added - 1 - age + jnp.arange(n_step).reshape(-1, *[1] * len(shape))) % rows
    return _fields(ring.example, ring.data[row, env])


def contents(ring):
    """All that the ring holds, as transitions `[rows, E, ...]`; rows that were never written are zero."""
    return _fields(ring.example, ring.data)


def _fields(example, data):
    """`[..., F]` as a transition `[..., each field's shape]`."""
    leaves, structure = jax.tree.flatten(example)
    ends = np.cumsum([int(np.prod(x.shape)) for x in leaves])[:-1]
    parts = jnp.split(data, ends, axis=-1)
    shaped = [part.reshape(*data.shape[:-1], *x.shape).astype(x.dtype) for part, x in zip(parts, leaves, strict=True)]
    return jax.tree.unflatten(structure, shaped)
