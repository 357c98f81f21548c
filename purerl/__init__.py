"""DDPG, TD3 and SAC, trained entirely on the accelerator. Importing this imports no JAX."""

LAZY = {"load_policy": "purerl.policies.load", "VectorEnv": "purerl.environments.vector"}


def __getattr__(name):
    if name not in LAZY:
        raise AttributeError(f"module 'purerl' has no attribute {name!r}")
    import importlib

    return getattr(importlib.import_module(LAZY[name]), name)
