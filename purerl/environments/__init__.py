"""The boundary to physics: an environment by name."""

import importlib

from purerl.suggest import closest


def make(name, backend=None, episode_length=1000):
    """The `Environment` called `name`: a registered Brax environment, or `module:Class`, a `brax.envs.Env` of your own.

    `backend` is one of `generalized`, `spring`, `positional`, `mjx`; None takes the environment's own. Episodes are
    truncated after `episode_length` steps. Raises ValueError where there is no such thing, or where it is broken.
    """
    from purerl.environments import brax  # Here, because importing physics takes seconds.

    if ":" not in name:
        return brax.make(name, backend, episode_length)
    return brax.from_brax(_custom(name, backend), episode_length, name)


def _custom(name, backend):
    module_name, _, class_name = name.partition(":")
    try:
        module = importlib.import_module(module_name)
    except ImportError as error:
        raise ValueError(
            f"env {name!r}: cannot import {module_name!r} ({error}); it must be on the Python path"
        ) from None
    if not hasattr(module, class_name):
        classes = [key for key, value in vars(module).items() if isinstance(value, type)]
        raise ValueError(f"env {name!r}: {module_name} has no {class_name!r}{closest(class_name, classes)}")
    try:
        return getattr(module, class_name)(**({} if backend is None else {"backend": backend}))
    except Exception as error:
        raise ValueError(f"env {name!r}: {class_name}() fails: {type(error).__name__}: {error}") from error
