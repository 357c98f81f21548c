"""MJX's kinematics, with the levels of the tree of bodies computed one after the other.

XLA fuses the levels if it can. It then recomputes a level for every number of the next one. For 64 copies of Brax's
Pusher, an arm with seven joints, one step on a CPU took 4.3 s. Level by level it takes 0.023 s, with the same results.
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
    """Return `data` with the positions of all bodies, as MJX's `kinematics` does."""
    walk = scan.body_tree

    def level_by_level(model: mjx.Model, visit: Callable[..., Any], *arguments: Any) -> Any:
        return walk(model, lambda *level: jax.lax.optimization_barrier(visit(*level)), *arguments)

    with _exchanged(scan, "body_tree", level_by_level):
        return mjx.kinematics(model, data)


@contextlib.contextmanager
def apart() -> Iterator[None]:
    """Make MJX use this module's `kinematics` while a function is traced. A context manager and a decorator."""
    with _exchanged(smooth, "kinematics", kinematics):
        yield
