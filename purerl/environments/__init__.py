"""The boundary to physics: an environment by name."""

import importlib

from purerl.errors import attempt, closest


def make(name, backend=None, episode_length=1000):
    """The `Environment` called `name`: a registered Brax environment, or `module:Class`, a `brax.envs.Env` of your own.

    `backend` is one of `generalized`, `spring`, `positional`, `mjx`; None takes the environment's own. Episodes are
    truncated after `episode_length` steps. Raises ValueError where there is no such thing, or where it is broken.
    """
    from purerl.environments import brax  # Here, because importing physics takes seconds.

    if ":" not in name:
        return brax.make(name, backend, episode_length)
    return brax.from_brax(_custom(name, backend, brax.envs.Env), episode_length, name)


def _custom(name, backend, kind):
    module_name, _, class_name = name.partition(":")
    if not all(part.isidentifier() for part in (*module_name.split("."), class_name)):
        raise ValueError(f"env {name!r} is no module:Class; an example is my_package.my_module:MyEnv")
    module = attempt(f"env {name!r}: importing {module_name!r}", lambda: importlib.import_module(module_name))
    known = [key for key, value in vars(module).items() if isinstance(value, type) and issubclass(value, kind)]
    if class_name not in known:
        raise ValueError(f"env {name!r}: {module_name} has no brax.envs.Env {class_name!r}{closest(class_name, known)}")
    options = {} if backend is None else {"backend": backend}
    return attempt(f"env {name!r}: {class_name}()", lambda: getattr(module, class_name)(**options))
