"""Networks from factories, which may be a user's. What a user's network returns is checked before compiling."""

from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from purerl.algorithms.networks import Critics, deterministic_actor, gaussian_actor, value_critic
from purerl.errors import attempt
from purerl.settings.schema import Plan
from purerl.types import EnvSizes, actor_obs_size

Factory = Callable[[Plan, EnvSizes], nn.Module]  # (plan, environment or its sizes) -> network

PURERLS = (deterministic_actor, gaussian_actor, value_critic)
LEADING = ((), (3, 5))  # axes before those of one observation: networks are called with none, one or two


def make_actor(factory: Factory, plan: Plan, env: EnvSizes) -> nn.Module:
    """Return the actor of DDPG and TD3: observation `[..., actor_obs_size]` -> action `[..., A]` in [-1, 1].

    Raises ValueError, in one line, if the factory returns something else.
    """
    return _made("actor", factory, plan, env, (actor_obs_size(env),), "action", 1)


def make_gaussian_actor(factory: Factory, plan: Plan, env: EnvSizes) -> nn.Module:
    """Return the actor of SAC: observation `[..., actor_obs_size]` -> (mean, standard deviation), each `[..., A]`.

    Raises ValueError, in one line, if the factory returns something else.
    """
    return _made("actor", factory, plan, env, (actor_obs_size(env),), "mean and the standard deviation", 2)


def make_critics(factory: Factory, plan: Plan, env: EnvSizes, count: int) -> Critics:
    """Return `count` critics: (observation `[..., obs_size]`, action `[..., A]`) -> value `[...]`.

    Raises ValueError, in one line, if the factory returns something else.
    """
    return Critics(count, _made("critic", factory, plan, env, (env.obs_size, env.action_size), "value", 1))


def _made(
    role: str, factory: Factory, plan: Plan, env: EnvSizes, inputs: tuple[int, ...], output: str, count: int
) -> nn.Module:
    """Return the network of a factory, whose inputs have the sizes `inputs`, and which returns `count` arrays."""
    is_class = isinstance(factory, type) and issubclass(factory, nn.Module)
    if isinstance(factory, nn.Module) or is_class or not callable(factory):
        what = f"the class {factory.__name__}" if is_class else _shown(factory)
        raise ValueError(f"{role} is {what}; it must be a function of (plan, env) that returns a flax.linen.Module")
    if factory in PURERLS:
        return factory(plan, env)
    network = attempt(f"{role}(plan, env)", lambda: factory(plan, env))
    if not isinstance(network, nn.Module):
        raise ValueError(f"{role}(plan, env) returns {_shown(network)}; it must return a flax.linen.Module")
    name = f"the {role} {type(network).__name__}"
    _check_variables(name, network, inputs)
    size = () if role == "critic" else (env.action_size,)
    for lead in LEADING:
        _check_output(name, network, [(*lead, n) for n in inputs], output, [(*lead, *size)] * count)
    return network


def _check_variables(name: str, network: nn.Module, inputs: tuple[int, ...]) -> None:
    """Raise ValueError if a network has variables besides its parameters. Only parameters are trained and saved."""
    found = _variables(name, network, [(n,) for n in inputs])
    if others := sorted(set(found) - {"params"}):
        raise ValueError(
            f"{name} has the variables {', '.join(map(repr, others))} besides 'params'; only parameters are trained, "
            "so use layers without such state, for example LayerNorm in place of BatchNorm"
        )
    if "params" not in found:
        raise ValueError(f"{name} has no parameters; there is nothing to train")


def _variables(name: str, network: nn.Module, shapes: list[tuple[int, ...]]) -> Any:
    inputs = [jax.ShapeDtypeStruct(shape, jnp.float32) for shape in shapes]
    what = f"{name}, called with {' and '.join(map(_kind, inputs))},"
    return attempt(what, lambda: jax.eval_shape(network.init, jax.random.key(0), *inputs))


def _check_output(
    name: str, network: nn.Module, shapes: list[tuple[int, ...]], output: str, expected: list[tuple[int, ...]]
) -> None:
    """Raise ValueError if a network does not return float32 arrays of the shapes `expected` for inputs of `shapes`."""
    inputs = [jax.ShapeDtypeStruct(shape, jnp.float32) for shape in shapes]
    given = " and ".join(map(_kind, inputs))
    variables = _variables(name, network, [shape[-1:] for shape in shapes])
    found = attempt(f"{name}, called with {given},", lambda: jax.eval_shape(network.apply, variables, *inputs))
    arrays = [jax.ShapeDtypeStruct(shape, jnp.float32) for shape in expected]
    needed = _kind(tuple(arrays) if len(arrays) > 1 else arrays[0])
    if _kind(found) != needed:
        raise ValueError(f"{name} returns {_kind(found)} for {given}; it must return {needed}, the {output}")


def _kind(value: Any) -> str:
    """Return dtype and shape of an abstract array or of a tuple of them, or the type of another value."""
    if isinstance(value, tuple):
        return f"({', '.join(map(_kind, value))})"
    return f"{value.dtype}{list(value.shape)}" if hasattr(value, "dtype") else type(value).__name__


def _shown(value: Any) -> str:
    return f"a {type(value).__name__}"
