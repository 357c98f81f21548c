"""DDPG, TD3 and SAC, trained entirely on the accelerator. Importing this imports no JAX."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from purerl.environments.vector import VectorEnv
    from purerl.policies.load import load_policy

__all__ = ["VectorEnv", "load_policy"]
LAZY = {"load_policy": "purerl.policies.load", "VectorEnv": "purerl.environments.vector"}


def __getattr__(name: str) -> object:
    if name not in LAZY:
        raise AttributeError(f"module 'purerl' has no attribute {name!r}")
    import importlib

    return getattr(importlib.import_module(LAZY[name]), name)
