"""MuJoCo models in JAX: your own (`from_xml`) and Gymnasium's tasks. Importing this imports no physics.

xml            `from_xml`: a model of your own, with your reward
tasks          Gymnasium's tasks, for example HalfCheetah-v5: rewards, terminations, random starts
definition     what defines a task, and its `Environment`
randomization  changes of the model that are drawn once per episode
dynamics       one step of the physics
plain          one step of MJX itself, which supports more features
contacts       contact detection
newton         the constraint solver
levels         the kinematics of the tree of bodies
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from purerl.environments.delays import delayed
    from purerl.environments.mujoco.dynamics import State, contact_forces
    from purerl.environments.mujoco.xml import from_xml

__all__ = ["State", "contact_forces", "delayed", "from_xml"]
LAZY = {
    "from_xml": "purerl.environments.mujoco.xml",
    "State": "purerl.environments.mujoco.dynamics",
    "contact_forces": "purerl.environments.mujoco.dynamics",
    "delayed": "purerl.environments.delays",
}


def __getattr__(name: str) -> object:
    if name not in LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import importlib

    importlib.import_module("purerl.environments.mujoco.dynamics")  # It imports MJX without its message about warp.
    return getattr(importlib.import_module(LAZY[name]), name)
