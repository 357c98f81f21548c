"""The boundary to physics: an environment by name."""

import importlib
import re

from purerl import jax_flags
from purerl.errors import attempt, closest

VERSIONED = re.compile(r"\w+-v\d+")  # how Gymnasium calls its tasks


def make(name, backend=None, episode_length=None):
    """The `Environment` called `name`.

    That is one of Gymnasium's tasks (`HalfCheetah-v5`, `Pendulum-v1`), one that Brax registers (`halfcheetah`), one of
    MuJoCo Playground's (`playground:CheetahRun`) or gymnax's (`gymnax:Pendulum-v1`), or `module:NAME` of your own: an
    `Environment`, or a class of `brax.envs.Env` or in gymnax's style, made without arguments. `backend` is one of
    `generalized`, `spring`, `positional`, `mjx`, for Brax's; None takes the environment's own. Episodes are truncated
    after `episode_length` steps; None takes the environment's own time limit, or 1000. Raises ValueError where there
    is no such thing, where it is broken, and where JAX's global flags are not as purerl needs them.
    """
    jax_flags.check(f"env {name!r}")
    jax_flags.check_platform()
    try:
        return _make(name, backend, episode_length)
    finally:  # What a module sets while it is imported also explains what fails then.
        jax_flags.check(f"env {name!r}, whose module sets it")


def _make(name, backend, episode_length):
    if VERSIONED.fullmatch(name):
        return _gymnasium(name, backend, episode_length)
    family, _, task = name.partition(":")
    if family == "playground":
        from purerl.environments import playground  # Here, as below, because importing physics takes seconds.

        return playground.make(task, backend, episode_length)
    if family == "gymnax":
        from purerl.environments import gymnax

        return gymnax.make(task, backend, episode_length)
    if task:
        return _custom(name, backend, episode_length)
    from purerl.environments import brax

    return brax.make(name, backend, 1000 if episode_length is None else episode_length)


def _gymnasium(name, backend, episode_length):
    if name == "Pendulum-v1":
        from purerl.environments import pendulum

        return pendulum.make(name, backend, episode_length)
    from purerl.environments import gymnasium

    return gymnasium.make(name, backend, episode_length)


def _custom(name, backend, episode_length):
    from purerl.environments import base, brax, gymnax

    def is_one(value):
        if isinstance(value, type):
            return issubclass(value, brax.envs.Env) or gymnax.is_one(value)
        return isinstance(value, base.Environment)

    module_name, _, own_name = name.partition(":")
    if not all(part.isidentifier() for part in (*module_name.split("."), own_name)):
        raise ValueError(f"env {name!r} is no module:NAME; an example is my_package.my_module:MyEnv")
    module = attempt(f"env {name!r}: importing {module_name!r}", lambda: importlib.import_module(module_name))
    known = [key for key, value in vars(module).items() if is_one(value)]
    if own_name not in known:
        raise ValueError(
            f"env {name!r}: {module_name} has no {own_name!r} that is an Environment, a class of brax.envs.Env, or one "
            f"in gymnax's style{closest(own_name, known)}"
        )
    own = getattr(module, own_name)
    if isinstance(own, base.Environment):
        if backend is not None:
            raise ValueError(f"env {name!r} has no backend {backend!r}; leave the backend out")
        return base.checked(own._replace(name=name, episode_length=episode_length or own.episode_length))
    options = {} if backend is None else {"backend": backend}
    env = attempt(f"env {name!r}: {own_name}()", lambda: own(**options))
    if isinstance(env, brax.envs.Env):
        return brax.from_brax(env, 1000 if episode_length is None else episode_length, name)
    return gymnax.from_gymnax(env, None, episode_length, name)
