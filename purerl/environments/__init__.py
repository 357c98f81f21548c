"""Environments by name.

base       the record `Environment` and its checks
episodes   time limits, random starts, whole episodes
brax, gymnax, playground, pendulum, mujoco/  the environments of each family
autoreset  detects environments that reset themselves
observations  joins observations that are dicts
names      names of environments, for error messages
vector     `purerl.VectorEnv`, for Gymnasium
delays     actions that arrive late
"""

import importlib
import re
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from purerl import jax_flags, objects
from purerl.environments import names
from purerl.errors import attempt

if TYPE_CHECKING:
    from purerl.environments import base

Length = Any  # a time limit [steps], or None for that of the environment. Other values are refused.
VERSIONED = re.compile(r"\w+-v\d+")  # the names of Gymnasium's tasks


def make(name: Any, backend: str | None = None, episode_length: Length = None) -> "base.Environment":
    """Return the `Environment` called `name`.

    `name` is one of:

    - `HalfCheetah-v5`, `Pendulum-v1`: a task of Gymnasium
    - `halfcheetah`: an environment that Brax registers
    - `playground:CheetahRun`: a task of MuJoCo Playground
    - `gymnax:Pendulum-v1`: an environment of gymnax
    - `module:NAME`: your own environment in an importable module
    - `object:NAME`: an object that `purerl.train` was given in this process
    - your own environment itself

    Your own environment is an `Environment`, a `brax.envs.Env`, an `MjxEnv` of Playground, or an object in the style of
    gymnax. It may also be the class of one, which is then called without arguments.

    `backend` is `generalized`, `spring`, `positional` or `mjx`, for Brax environments. None selects the default of the
    environment. Episodes are truncated after `episode_length` steps. None selects the time limit of the environment, or
    1000.

    Raises ValueError if there is no such environment, if it is invalid, or if JAX's global flags have values that
    purerl does not support.
    """
    what = f"env {name!r}" if isinstance(name, str) else "an environment"
    jax_flags.check_flags(what)
    jax_flags.check_platform()
    try:
        return _make(name, backend, episode_length)
    finally:  # A flag that the module sets at import may also be the reason of a failure.
        jax_flags.check_flags(f"{what}, whose module sets it")


def _make(name: Any, backend: str | None, episode_length: Length) -> "base.Environment":
    if not isinstance(name, str):
        return _adapted(name, None, backend, episode_length)
    if (own := objects.given("env", name)) is not None:
        return _adapted(own, None if name.startswith(objects.OWN) else name, backend, episode_length)
    if VERSIONED.fullmatch(name):
        return _gymnasium(name, backend, episode_length)
    family, _, task = name.partition(":")
    if family == "playground":
        from purerl.environments import playground  # Imported here, as below, because importing physics takes seconds.

        return playground.make(task, backend, episode_length)
    if family == "gymnax":
        from purerl.environments import gymnax

        return gymnax.make(task, backend, episode_length)
    if task:
        return _custom(name, backend, episode_length)
    if name not in names.BRAX and Path(name).with_suffix(".py").is_file():
        module = Path(name).stem
        raise ValueError(f"env {name!r} is a module; name the environment in it: {module}:NAME, as {module}:env")
    from purerl.environments import brax

    return brax.make(name, backend, 1000 if episode_length is None else episode_length)


def _gymnasium(name: str, backend: str | None, episode_length: Length) -> "base.Environment":
    if name == "Pendulum-v1":
        from purerl.environments import pendulum

        return pendulum.make(name, backend, episode_length)
    from purerl.environments.mujoco import tasks

    return tasks.make(name, backend, episode_length)


def _custom(name: str, backend: str | None, episode_length: Length) -> "base.Environment":
    module_name, _, own_name = name.partition(":")
    if not all(part.isidentifier() for part in (*module_name.split("."), own_name)):
        example = names.hint(name) or "; an example is my_package.my_module:MyEnv"
        raise ValueError(f"env {name!r} is not of the form module:NAME{example}")
    try:
        module = attempt(f"env {name!r}: importing {module_name!r}", lambda: importlib.import_module(module_name))
    except ValueError as error:
        raise ValueError(f"{error}{names.hint(name)}") from error
    known = [key for key, value in vars(module).items() if _adapter(value) is not None]
    if own_name not in known:
        raise ValueError(
            f"env {name!r}: {module_name} has no {own_name!r} that is an Environment, of brax.envs.Env or Playground's "
            f"MjxEnv, or in gymnax's style{names.ending(own_name, known)}"
        )
    return _adapted(getattr(module, own_name), name, backend, episode_length)


def _adapter(value: Any) -> "Callable[[Any, Length, str | None], base.Environment] | None":
    """Return the function `(environment, episode_length, name) -> Environment` for a value or its class, or None."""
    from purerl.environments import base, brax, gymnax, playground

    kind = value if isinstance(value, type) else type(value)
    if kind is base.Environment:
        return None if value is kind else _checked
    if playground.is_one(kind) or (issubclass(kind, brax.envs.Env) and playground.is_one(type(_core(value)))):
        return lambda env, limit, name: playground.from_playground(env, 1000 if limit is None else limit, name)
    if issubclass(kind, brax.envs.Env):
        return lambda env, limit, name: brax.from_brax(env, 1000 if limit is None else limit, name)
    if gymnax.is_one(kind):
        return lambda env, limit, name: gymnax.from_gymnax(env, None, limit, name)
    return None


def _core(value: Any) -> Any:
    """Return the environment inside wrappers. A class is returned unchanged."""
    return value if isinstance(value, type) else getattr(value, "unwrapped", value)


def _checked(env: "base.Environment", episode_length: Length, name: str | None) -> "base.Environment":
    from purerl.environments import base

    limit = env.episode_length if episode_length is None else episode_length
    return base.checked(env._replace(name=env.name if name is None else name, episode_length=limit))


def _adapted(own: Any, name: str | None, backend: str | None, episode_length: Length) -> "base.Environment":
    """Return `own`, an environment or its class, as the `Environment` called `name`."""
    called = f"env {name!r}" if name else f"the environment {getattr(own, 'name', type(own).__name__)!r}"
    adapter = _adapter(own)
    if adapter is None:
        task = getattr(getattr(own, "spec", None), "id", None)  # of Gymnasium
        remedy = f"; purerl has its own environments: give the name {task!r}" if isinstance(task, str) else ""
        raise ValueError(f"an environment is a name or an Environment, not of {type(own).__name__}{remedy}")
    if isinstance(own, type):
        options = {} if backend is None else {"backend": backend}
        own = attempt(f"{called}: {own.__name__}()", lambda: own(**options))
    elif backend is not None:
        raise ValueError(f"{called} has no backend {backend!r}; leave the backend out")
    return adapter(own, episode_length, name)
