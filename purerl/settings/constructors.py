"""Constructors of algorithms as `AlgorithmSpec`s. No JAX here."""

import inspect
from collections.abc import Callable
from functools import partial
from typing import Any

from purerl.settings.hyperparameters import Hyperparameters
from purerl.settings.registry import ALGORITHMS, AlgorithmSpec


def spec_of(constructor: Callable[..., Any]) -> AlgorithmSpec:
    """Return the `AlgorithmSpec` of a constructor `(hyper, plan, env) -> Algorithm`.

    One of purerl's own, or a `functools.partial` of it, has the hyperparameters and presets of its algorithm. Any other
    names the class of its hyperparameters in the annotation of its first parameter. Raises ValueError if it does not.
    """
    function = _inside(constructor)
    place = f"{getattr(function, '__module__', '')}:{getattr(function, '__qualname__', '')}"
    for name, spec in ALGORITHMS.items():
        if function is spec.constructor or place == spec.constructor:
            own = AlgorithmSpec(spec.hyperparameters, constructor, spec.colour, presets_of=name)
            return spec if function is constructor else own
    return AlgorithmSpec(_annotated(function), constructor)


def _inside(constructor: Any) -> Any:
    """Return the function inside `functools.partial`s."""
    return _inside(constructor.func) if isinstance(constructor, partial) else constructor


def _annotated(function: Any) -> type[Hyperparameters]:
    """Return the class of hyperparameters in the annotation of the first parameter."""
    name = getattr(function, "__name__", type(function).__name__)
    try:
        first = next(iter(inspect.signature(function).parameters.values()))
        hint = first.annotation
        kind = eval(hint, getattr(function, "__globals__", {})) if isinstance(hint, str) else hint
    except Exception:  # An annotation may be any expression.
        kind = None
    if isinstance(kind, type) and issubclass(kind, Hyperparameters):
        return kind
    raise ValueError(
        f"the constructor {name} does not say which hyperparameters it takes; annotate its first parameter, as "
        f"hyper: TD3, or give AlgorithmSpec(hyperparameters, {name})"
    )
