"""The whole carry of a run on disk, so that it goes on as if it had never stopped. Orbax writes it whole or not at all.

A checkpoint is numbered by the evaluation it follows. It holds arrays only, by their path in the carry; the structure
comes from the program. Nothing in it is ever executed.
"""

from pathlib import Path

import jax
import jax.numpy as jnp
import orbax.checkpoint as ocp


def manager(path, keep):
    """The checkpoints of the run in `path`, the last `keep` of them kept."""
    options = ocp.CheckpointManagerOptions(max_to_keep=keep, enable_async_checkpointing=False)
    return ocp.CheckpointManager((Path(path) / "checkpoints").absolute(), options=options)


def save(checkpoints, index, carry):
    """Write `carry` as it is after evaluation `index`."""
    checkpoints.save(index, args=ocp.args.StandardSave(_arrays(carry)))


def restore(checkpoints, index, like):
    """The carry after evaluation `index`; `like` is a carry of `jax.ShapeDtypeStruct`s."""
    abstract = jax.eval_shape(_arrays, like)
    arrays = checkpoints.restore(index, args=ocp.args.StandardRestore(abstract))
    leaves, structure = jax.tree_util.tree_flatten_with_path(like)
    return jax.tree.unflatten(structure, [_leaf(arrays, path, leaf) for path, leaf in leaves])


def _arrays(carry):
    """`{path: array}`, random keys as their data. Orbax refuses empty arrays, which hold nothing to be kept."""
    leaves = jax.tree_util.tree_leaves_with_path(carry)
    return {jax.tree_util.keystr(path): jax.random.key_data(x) if _is_key(x) else x for path, x in leaves if x.size}


def _leaf(arrays, path, like):
    if not like.size:
        return jnp.zeros(like.shape, like.dtype)
    array = arrays[jax.tree_util.keystr(path)]
    return jax.random.wrap_key_data(array) if _is_key(like) else array


def _is_key(x):
    return jnp.issubdtype(x.dtype, jax.dtypes.prng_key)
