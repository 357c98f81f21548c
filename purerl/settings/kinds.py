"""The types of settings, and the checks of their values. No JAX here.

A setting is a field of a frozen dataclass that derives from `Settings`. Its annotation gives type, limits and
description. `--help` and the error messages are made from it:

    tau: Annotated[Number, Field(gt=0, le=1, description="weight of the new parameters")] = 0.005

Number        a float that float32 can hold. It is an input of the compiled program, and may differ from run to run.
              `PositiveNumber` is greater than 0, `NonNegativeNumber` is 0 or more
FixedNumber   a float that shapes the compiled program; each value is compiled and trained separately
Count         a whole number of at least 1; `WholeNumber` is one without limits
Duration      seconds, or text such as "1:30:00"
Widths        whole numbers, for example "256,256"
Several[T]    any number of values of T, for example "csv,jsonl"
OrNone[T]     a T, or none
"""

import dataclasses
from collections.abc import Mapping
from datetime import timedelta
from functools import cache
from types import MappingProxyType
from typing import Annotated, Any, NamedTuple, TypeVar, get_type_hints

from pydantic import AfterValidator, BeforeValidator, Field, TypeAdapter, ValidationError

T = TypeVar("T")
Table = dict[str, Any]  # of a TOML file
COUNT_LIMIT = 2**31 - 1


def _whole(value: Any) -> Any:
    """Return `value` as an int if it is whole. `"1e6"` and `1e6` are whole numbers; `True` is not."""
    if isinstance(value, bool):
        raise ValueError("should be a whole number")
    if isinstance(value, str):
        try:
            value = float(value) if "e" in value.lower() else int(value)
        except ValueError:
            raise ValueError("should be a whole number") from None
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _widths(value: Any) -> Any:
    return value.replace("x", ",").split(",") if isinstance(value, str) else value


def _listed(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    return () if value.lower() == "none" else tuple(dict.fromkeys(value.replace(" ", "").split(",")))


def _single(value: float) -> float:
    """Return `value`. Raises ValueError if it is not 0 and its size is not from 1e-30 to 1e30, as for NaN."""
    if value != 0 and not 1e-30 <= abs(value) <= 1e30:
        raise ValueError("should be a finite number, 0 or of a size from 1e-30 to 1e30")
    return value


def _no_flag(value: Any) -> Any:
    if isinstance(value, bool):
        raise ValueError("should be a number")
    return value


def _none(value: Any) -> Any:
    return None if isinstance(value, str) and value.lower() == "none" else value


def _seconds(value: Any) -> Any:
    """Return the number of seconds that a text such as `"5400"` or `"1:30:00"` means; a number as it is."""
    if not isinstance(value, str):
        return value
    try:
        return float(value)
    except ValueError:
        pass
    try:
        return TypeAdapter(timedelta).validate_python(value).total_seconds()
    except ValidationError:
        raise ValueError("should be seconds or hours:minutes:seconds") from None


class Fixed(float):
    """A number that shapes the compiled program, for example a rate that a network needs as a Python number."""


Number = Annotated[float, BeforeValidator(_no_flag), AfterValidator(_single)]
PositiveNumber = Annotated[Number, Field(gt=0)]
NonNegativeNumber = Annotated[Number, Field(ge=0)]
FixedNumber = Annotated[Number, AfterValidator(Fixed)]
WholeNumber = Annotated[int, BeforeValidator(_whole), Field(strict=True)]
Count = Annotated[WholeNumber, Field(ge=1, le=COUNT_LIMIT)]
Duration = Annotated[float, BeforeValidator(_seconds), BeforeValidator(_no_flag), Field(gt=0, le=1e9)]
Widths = Annotated[
    tuple[Annotated[WholeNumber, Field(ge=1, le=2**16)], ...], BeforeValidator(_widths), Field(min_length=1)
]
Text = Annotated[str, Field(min_length=1)]
OrNone = Annotated[T | None, BeforeValidator(_none)]
Several = Annotated[tuple[T, ...], BeforeValidator(_listed)]


def flows(value: object) -> bool:
    """Return whether a hyperparameter with this value is an input of the program, which can be swept inside it."""
    return isinstance(value, float) and not isinstance(value, Fixed)


class SettingField(NamedTuple):
    """A field of a settings class: its default, its description in `--help`, and the check of its values."""

    default: Any
    description: str
    adapter: TypeAdapter[Any]


@cache
def fields(cls: type) -> Mapping[str, SettingField]:
    """Return `{name: SettingField}` of a settings class, in the order of its definition."""
    hints = get_type_hints(cls, include_extras=True)
    found = {}
    for field in dataclasses.fields(cls):
        adapter = TypeAdapter(hints[field.name])
        found[field.name] = SettingField(field.default, adapter.json_schema().get("description", ""), adapter)
    return MappingProxyType(found)


def checked(cls: type, name: str, value: Any) -> Any:
    """Return `value` converted to the type of field `name` of `cls`.

    Raises ValueError, in one line with value, limit and default, if it is not valid.
    """
    default, _, adapter = fields(cls)[name]
    try:
        return adapter.validate_python(value)
    except ValidationError as error:
        first = error.errors()[0]
        limit = first["msg"].removeprefix("Value error, ").removeprefix("Input ").replace("a valid integer", "whole")
        raise ValueError(
            f"{name} is {value!r} but {limit}; the default is {'none' if default is None else default!r}"
        ) from None


class Settings:
    """Base class of frozen dataclasses of settings. Values are checked on creation; traced arrays are not checked."""

    def __post_init__(self) -> None:
        for name in fields(type(self)):
            value = getattr(self, name)
            if not hasattr(value, "dtype"):
                object.__setattr__(self, name, checked(type(self), name, value))


def nearest(value: int, divisor: int) -> str:
    """Return the multiples of `divisor` next to `value`, as text."""
    low = value // divisor * divisor
    return f"{low} or {low + divisor}" if low > 0 else f"{divisor}"
