"""MJX's walk along the tree of bodies, one level after the other.

XLA fuses the levels where it may, and then computes a level anew for every number of the next. On a CPU 64 copies of
Brax's Pusher, an arm of seven joints, took 4.3 s for a step; level by level they take 0.023 s, for the same numbers.
"""

import contextlib
from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any

import jax
from mujoco import mjx
from mujoco.mjx._src import scan, smooth


@contextlib.contextmanager
def _exchanged(module: ModuleType, name: str, other: Callable[..., Any]) -> Iterator[None]:
    before = getattr(module, name)
    try:
        setattr(module, name, other)
        yield
    finally:
        setattr(module, name, before)


def kinematics(model: mjx.Model, data: mjx.Data) -> mjx.Data:
    """MJX's `kinematics`: where all bodies are."""
    walk = scan.body_tree

    def level_by_level(model: mjx.Model, visit: Callable[..., Any], *arguments: Any) -> Any:
        return walk(model, lambda *level: jax.lax.optimization_barrier(visit(*level)), *arguments)

    with _exchanged(scan, "body_tree", level_by_level):
        return mjx.kinematics(model, data)


@contextlib.contextmanager
def apart() -> Iterator[None]:
    """A context, or a decorator, in which all of MJX calls this `kinematics` while it is traced."""
    with _exchanged(smooth, "kinematics", kinematics):
        yield
