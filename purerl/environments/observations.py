"""Observations that are dicts: joined to one vector, of which the actor reads the first part and the critic all.

The entry `privileged_state` is for the critic alone (asymmetric actor-critic, Pinto et al. 2017, arXiv:1710.06542). It
is the last part of the vector. The other entries come before it, in the sorted order of their names.
"""

from collections.abc import Callable, Mapping
from math import prod
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Float32

from purerl.types import Array

PRIVILEGED = "privileged_state"

Part = Callable[[Any], Float32[Array, " n"]]  # converts one entry


def joined(observation: Any, part: Part, only: str | None = None) -> Float32[Array, " obs"]:
    """Return an observation as one vector: the entries of the actor, then `privileged_state`.

    `part` converts one entry, or an observation that is no dict. If the dict has the entry `only`, it is the only one
    that the actor reads. Raises ValueError, in one line, if the observation is not a dict of arrays with names.
    """
    if not isinstance(observation, Mapping):
        return part(observation)
    return jnp.concatenate([_entry(observation, name, part) for name in _names(observation, only)])


def actor_size(observation: Any, only: str | None = None) -> int | None:
    """Return how many numbers of `joined` the actor reads, or None if it reads all. Arrays may be abstract."""
    if not isinstance(observation, Mapping) or PRIVILEGED not in observation:
        return None
    return sum(prod(observation[name].shape) for name in _names(observation, only)[:-1])


def sizes(observation: Any, only: str | None = None) -> str:
    """Return a text with the entries of a dict and their sizes: "place 2, privileged_state 5"."""
    return ", ".join(f"{name} {prod(observation[name].shape)}" for name in _names(observation, only))


def _names(observation: Mapping[Any, Any], only: str | None) -> list[str]:
    """Return the names of the entries, in the order of the vector."""
    for name in observation:
        if not isinstance(name, str):
            raise ValueError(f"an observation has the entry {name!r}; names of entries must be text")
    seen = [only] if only in observation else sorted(observation.keys() - {PRIVILEGED})
    if not seen:
        raise ValueError(
            f"an observation has the entries {list(observation)}; the actor needs one besides {PRIVILEGED!r}"
        )
    return [name for name in seen if name is not None] + [PRIVILEGED] * (PRIVILEGED in observation)


def _entry(observation: Mapping[str, Any], name: str, part: Part) -> Float32[Array, " n"]:
    value, what = observation[name], f"the entry {name!r} of an observation"
    if not hasattr(value, "shape"):
        nested = ", because dicts may not be nested" if isinstance(value, Mapping) else ""
        raise ValueError(f"{what} is a {type(value).__name__}; it must be a flat vector{nested}")
    try:
        return part(value)
    except ValueError as error:
        raise ValueError(f"{what}: {error}") from None


def flat_float32(value: jax.Array) -> Float32[Array, " n"]:
    """Return a vector as it is. Raises ValueError if it is not float32 `[n]`."""
    if value.dtype != jnp.float32 or value.ndim != 1:
        raise ValueError(f"it is {value.dtype}{list(value.shape)}; it must be a flat vector, float32[n]")
    return value
