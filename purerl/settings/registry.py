"""The algorithms that `--algo` knows. No JAX here: a constructor is imported when it is called.

Your own algorithm needs no entry here. `--algo my_module:my_algorithm` takes an `AlgorithmSpec` from a module.
"""

import importlib
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import partial
from types import ModuleType
from typing import TYPE_CHECKING, Any, Literal, get_args

from purerl import objects
from purerl.errors import attempt, closest
from purerl.settings.hyperparameters import DDPG, REDQ, SAC, TD3, TQC, CrossQ, DroQ, Hyperparameters

if TYPE_CHECKING:
    from purerl.settings.schema import Plan
    from purerl.types import Algorithm, Constructor, EnvSizes

Preset = Literal["tuned", "paper", "paper-2018", "fast"]
PRESETS = get_args(Preset)


@dataclass(frozen=True)
class AlgorithmSpec:
    """Declaration of an algorithm.

    Attributes:
        hyperparameters: the class of its settings, derived from `Hyperparameters`. Flags, `--help`, TOML files and
            sweeps are made from it.
        constructor: the function `(hyper, plan, env) -> Algorithm`, or its location "module:function".
        colour: color of its curves, for example "#0072b2"; None: the next free color.
        presets: `{preset: settings}` in the form of presets.toml: settings of the plan, and hyperparameters under
            "hyper". They override the preset's settings for all algorithms, and those of `presets_of`.
        presets_of: name of an algorithm whose presets it has, in presets.toml and in the files of environments; None:
            its own name.

    Raises ValueError if an attribute has the wrong type or form.
    """

    hyperparameters: type[Hyperparameters]
    constructor: "Constructor | str"
    colour: str | None = None
    presets: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    presets_of: str | None = None

    def __post_init__(self) -> None:
        kind = self.hyperparameters
        if not (isinstance(kind, type) and issubclass(kind, Hyperparameters)):
            raise ValueError(f"hyperparameters is {kind!r}; it should be a class derived from Hyperparameters")
        if not callable(self.constructor) and not isinstance(self.constructor, str):
            raise ValueError(f"constructor is {self.constructor!r}; it should be a function of (hyper, plan, env)")
        if self.colour is not None and not re.fullmatch("#[0-9a-fA-F]{6}", str(self.colour)):
            raise ValueError(f"colour is {self.colour!r}; it should be like '#0072b2'")
        if self.presets_of is not None and self.presets_of not in ALGORITHMS:
            raise ValueError(f"presets_of is {self.presets_of!r}{closest(self.presets_of, tuple(ALGORITHMS))}")
        if not isinstance(self.presets, Mapping):
            raise ValueError(f"presets is {self.presets!r}; it should be a dict of presets")
        for preset, table in self.presets.items():
            if preset not in PRESETS:
                raise ValueError(f"presets: unknown preset {preset!r}{closest(preset, PRESETS)}")
            if not isinstance(table, Mapping) or not isinstance(table.get("hyper", {}), Mapping):
                raise ValueError(
                    f"presets: {preset} is {table!r}; it should be a dict of settings, and hyper in it a dict"
                )

    def build(self, hyper: Hyperparameters, plan: "Plan", env: "EnvSizes") -> "Algorithm":
        """Return the `Algorithm` for these hyperparameters, this plan and this environment."""
        return self.function(hyper, plan, env)

    @property
    def function(self) -> "Constructor":
        """The constructor as a function. A location "module:function" is imported."""
        if callable(self.constructor):
            return self.constructor
        module, _, name = self.constructor.partition(":")
        return getattr(importlib.import_module(module), name)

    @property
    def origin(self) -> str:
        """The location of the constructor, "module:name", or "partial(module:name)"."""
        return self.constructor if isinstance(self.constructor, str) else _location(self.constructor)


def _location(function: Callable[..., Any]) -> str:
    if isinstance(function, partial):
        return f"partial({_location(function.func)})"
    return f"{function.__module__}:{getattr(function, '__qualname__', type(function).__name__)}"


ALGORITHMS = {
    "ddpg": AlgorithmSpec(DDPG, "purerl.algorithms.ddpg:ddpg", "#009e73"),
    "td3": AlgorithmSpec(TD3, "purerl.algorithms.td3:td3", "#0072b2"),
    "sac": AlgorithmSpec(SAC, "purerl.algorithms.sac:sac", "#d55e00"),
    "tqc": AlgorithmSpec(TQC, "purerl.algorithms.tqc:tqc", "#cc79a7"),
    "redq": AlgorithmSpec(REDQ, "purerl.algorithms.redq:redq", "#e69f00"),
    "droq": AlgorithmSpec(DroQ, "purerl.algorithms.droq:droq", "#56b4e9"),
    "crossq": AlgorithmSpec(CrossQ, "purerl.algorithms.crossq:crossq", "#6a3d9a"),
}


def find_algorithm(name: str) -> AlgorithmSpec:
    """Return the `AlgorithmSpec` called `name`, the one at `module:NAME`, or one of this process, `object:NAME`.

    A constructor at `module:NAME`, whose first parameter is annotated with its hyperparameters, is one, too.

    Raises ValueError, in one line, if there is none or if it is not valid.
    """
    if name in ALGORITHMS:
        return ALGORITHMS[name]
    from purerl.settings import spec_checks  # Here, because the schema asks this module for the names of algorithms.

    if (given := objects.given("algo", name)) is not None:
        spec_checks.check_spec(name, given)
        return given
    module_name, colon, own_name = name.partition(":")
    if not colon:
        raise ValueError(
            f"algo is {name!r}, which is not an algorithm{closest(name, tuple(ALGORITHMS))}, or module:NAME"
        )
    if not all(part.isidentifier() for part in (*module_name.split("."), own_name)):
        raise ValueError(
            f"algo {name!r} is not of the form module:NAME; an example is my_package.my_module:my_algorithm"
        )
    module = _module(name, module_name)
    known = {key: value for key, value in vars(module).items() if isinstance(value, AlgorithmSpec)}
    constructor, why = vars(module).get(own_name), ""
    if own_name not in known and callable(constructor):
        from purerl.settings.constructors import spec_of

        try:
            known[own_name] = spec_of(constructor)
        except ValueError as error:
            why = f"; {error}"
    if own_name not in known:
        near = closest(own_name, tuple(known))
        raise ValueError(f"algo {name!r}: {module_name} has no {own_name!r} that is an AlgorithmSpec{near}{why}")
    spec_checks.check_spec(name, known[own_name])
    return known[own_name]


def _module(name: str, module_name: str) -> ModuleType:
    try:
        return attempt(f"algo {name!r}: importing {module_name!r}", lambda: importlib.import_module(module_name))
    except ValueError as error:
        if isinstance(error.__cause__, ModuleNotFoundError) and error.__cause__.name == module_name.split(".")[0]:
            raise ValueError(
                f"{error}; run from the folder that contains it, or add that folder to PYTHONPATH"
            ) from error
        raise


def display_name(name: str) -> str:
    """Return the name of an algorithm in tables and figures: `TD3`, `DroQ`. Of module:NAME it is NAME, in capitals.

    An algorithm of purerl is called as its class of hyperparameters.
    """
    own = ALGORITHMS.get(name)
    return own.hyperparameters.__name__ if own else name.rpartition(":")[2].upper()


def display_names(names: Iterable[str]) -> dict[str, str]:
    """Return `{name: display name}` of several algorithms.

    If two have the same display name, an algorithm from a module keeps its full name module:NAME.
    """
    called = [display_name(name) for name in names]
    alike = {name for name, label in zip(names, called, strict=True) if called.count(label) > 1 and ":" in name}
    return {name: name if name in alike else label for name, label in zip(names, called, strict=True)}


def spoken() -> str:
    """Return the names of all algorithms as text: "DDPG, TD3, SAC, TQC, REDQ, DroQ or CrossQ"."""
    *first, last = map(display_name, ALGORITHMS)
    return f"{', '.join(first)} or {last}"
