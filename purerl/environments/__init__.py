"""The boundary to physics: an environment by name."""

import importlib
import re

from purerl.errors import attempt, closest

VERSIONED = re.compile(r"\w+-v\d+")  # how Gymnasium calls its tasks


def make(name, backend=None, episode_length=None):
    """The `Environment` called `name`.

    That is one of Gymnasium's tasks (`HalfCheetah-v5`, `Pendulum-v1`), one that Brax registers (`halfcheetah`), or
    `module:Class`, a `brax.envs.Env` of your own. `backend` is one of `generalized`, `spring`, `positional`, `mjx`, for
    Brax's; None takes the environment's own. Episodes are truncated after `episode_length` steps; None takes
    Gymnasium's time limit, elsewhere 1000. Raises ValueError where there is no such thing, or where it is broken.
    """
    if VERSIONED.fullmatch(name):
        return _gymnasium(name, backend, episode_length)
    from purerl.environments import brax  # Here, because importing physics takes seconds.

    episode_length = 1000 if episode_length is None else episode_length
    if ":" not in name:
        return brax.make(name, backend, episode_length)
    return brax.from_brax(_custom(name, backend, brax.envs.Env), episode_length, name)


def _gymnasium(name, backend, episode_length):
    if name == "Pendulum-v1":
        from purerl.environments import pendulum

        return pendulum.make(name, backend, episode_length)
    from purerl.environments import gymnasium

    return gymnasium.make(name, backend, episode_length)


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
