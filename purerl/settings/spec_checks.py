"""Checks of an `AlgorithmSpec` that is defined outside of purerl. No JAX here."""

import dataclasses
from typing import Any

from purerl.errors import attempt, closest
from purerl.settings.hyperparameters import Hyperparameters
from purerl.settings.kinds import checked, fields
from purerl.settings.registry import AlgorithmSpec
from purerl.settings.schema import Job, Keep, Plan

FLAGS = ("out", "config", "resume", "plan", "print_config", "compilation_cache", "help", "file", "only", "dry_run")
TABLES = ("hyper", "sweep", "search", "pbt", "record", "programs", "mode", "name")
PRESET = ("hyper", "backend", "episode_length")  # what a preset may set besides the plan


def check_spec(name: str, spec: AlgorithmSpec) -> None:
    """Raise ValueError, in one line, if the hyperparameters or presets of the algorithm called `name` are not valid."""
    _check_class(name, spec.hyperparameters)
    for preset, table in spec.presets.items():
        for setting, value in table.items():
            if setting not in (*fields(Plan), *PRESET):
                raise ValueError(
                    f"{name}: the preset {preset!r} sets {setting!r}, which is not a setting of the plan"
                    f"{closest(setting, (*fields(Plan), *PRESET))}"
                )
            if setting != "hyper":
                _check_value(name, preset, Plan if setting in fields(Plan) else Job, setting, value)
        for setting, value in table.get("hyper", {}).items():
            if setting not in fields(spec.hyperparameters):
                near = closest(setting, tuple(fields(spec.hyperparameters)))
                raise ValueError(f"{name}: the preset {preset!r} sets {setting!r}, which is not a hyperparameter{near}")
            _check_value(name, preset, spec.hyperparameters, setting, value)


def _check_value(name: str, preset: str, cls: type, setting: str, value: Any) -> None:
    try:
        checked(cls, setting, value)
    except ValueError as error:
        raise ValueError(f"{name}: in the preset {preset!r}, {error}") from None


def _check_class(name: str, kind: type[Hyperparameters]) -> None:
    params = vars(kind).get("__dataclass_params__")
    if params is None or not params.frozen:
        raise ValueError(f"{name}: {kind.__name__} should be decorated with @dataclass(frozen=True, kw_only=True)")
    known = attempt(f"{name}: reading the fields of {kind.__name__}", lambda: fields(kind))
    taken = {*fields(Job), *fields(Plan), *fields(Keep), *FLAGS, *TABLES}
    for field in dataclasses.fields(kind):
        if field.default is dataclasses.MISSING or not field.init:
            raise ValueError(f"{name}: the hyperparameter {field.name!r} of {kind.__name__} should have a default")
        if field.name in taken or field.name.startswith("_"):
            raise ValueError(
                f"{name}: {kind.__name__} has a hyperparameter {field.name!r}, which is the name of another setting "
                "or flag, or begins with _; rename it"
            )
    for group in ("initial_only", "fixed_in_a_run"):
        for field in getattr(kind, group):
            if field not in known:
                raise ValueError(
                    f"{name}: {group} names {field!r}, which is not a hyperparameter{closest(field, tuple(known))}"
                )
    delay = kind.policy_delay
    if isinstance(delay, bool) or not isinstance(delay, int) or delay < 1:
        raise ValueError(f"{name}: policy_delay is {delay!r}; it should be a whole number of at least 1")
