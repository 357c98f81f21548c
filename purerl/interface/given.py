"""Names for environments and algorithms that are objects, because the settings of a run are text."""

from pathlib import Path
from typing import Any

from purerl import objects
from purerl.settings.constructors import spec_of
from purerl.settings.registry import ALGORITHMS, AlgorithmSpec
from purerl.types import Algorithm

Given = dict[tuple[str, str], Any]  # {(setting, name): object}

_of_runs: dict[Path, Given] = {}  # the objects of the runs of this process, by the folder of the run


def named_env(env: Any) -> tuple[str, Given]:
    """Return `(name, objects)` of an environment: a name, a TOML file, or what `environments.make` accepts."""
    if isinstance(env, str | Path):
        return str(env), {}
    makers = [getattr(env, "__module__", None), type(env).__module__]
    makers += [getattr(getattr(env, "reset", None), "__module__", None)]
    called = getattr(env, "name", None) or getattr(env, "__name__", type(env).__name__)
    name = objects.name_of(env, str(called), makers)
    return name, {("env", name): env}


def named_algorithm(algo: Any) -> tuple[str, Given]:
    """Return `(name, objects)` of an algorithm: a name, an `AlgorithmSpec` or a constructor.

    Raises ValueError for anything else.
    """
    if isinstance(algo, str):
        return algo, {}
    if isinstance(algo, Algorithm):
        raise ValueError("algo is an Algorithm, which was made for one environment; give its constructor")
    if not isinstance(algo, AlgorithmSpec) and not callable(algo):
        raise ValueError(f"algo is of {type(algo).__name__}; it should be a name, an AlgorithmSpec or a constructor")
    spec = algo if isinstance(algo, AlgorithmSpec) else spec_of(algo)
    for name, own in ALGORITHMS.items():
        if spec is own:
            return name, {}
    function = getattr(spec.constructor, "func", spec.constructor)
    called = getattr(function, "__name__", None) or str(function).rpartition(":")[2]
    makers = [getattr(each, "__module__", None) for each in (spec.hyperparameters, spec.constructor, function)]
    name = objects.name_of(algo, called if called.isidentifier() else "mine", makers)
    return name, {("algo", name): spec}


def keep(given: Given) -> None:
    """Let the names mean these objects in this process."""
    for (setting, name), value in given.items():
        objects.give(setting, name, value)


def remember(path: Path, given: Given) -> None:
    """Remember the objects of the run in the folder `path`."""
    _of_runs[path.absolute()] = given


def remembered(path: Path) -> Given:
    """Return the objects of the run in the folder `path`, if it was trained in this process."""
    return _of_runs.get(path.absolute(), {})
