"""DDPG, TD3, SAC and four algorithms that build on SAC, on the accelerator. Importing this imports no JAX."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from purerl.environments.vector import VectorEnv
    from purerl.interface.launch import set_up_jax
    from purerl.interface.run import Run
    from purerl.interface.training import load, train
    from purerl.policies.hooks import Evaluation
    from purerl.policies.load import load_policy

__all__ = ["Evaluation", "Run", "VectorEnv", "load", "load_policy", "set_up_jax", "train"]
LAZY = {
    "Evaluation": "purerl.policies.hooks",
    "Run": "purerl.interface.run",
    "VectorEnv": "purerl.environments.vector",
    "load": "purerl.interface.training",
    "load_policy": "purerl.policies.load",
    "set_up_jax": "purerl.interface.launch",
}


def __getattr__(name: str) -> object:
    import importlib

    if name == "train":  # The module of the command can be called as the function `purerl.interface.training.train`.
        return importlib.import_module("purerl.train")
    if name not in LAZY:
        raise AttributeError(f"module 'purerl' has no attribute {name!r}")
    return getattr(importlib.import_module(LAZY[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
