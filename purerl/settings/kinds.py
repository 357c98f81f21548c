"""The types of settings, and what checks a value. No JAX here.

A setting is a field of a frozen dataclass that derives from `Settings`. Its annotation says the type, the limits and
the meaning, and `--help` and the error messages follow from it:

    tau: Annotated[Number, Field(gt=0, le=1, description="weight of the new parameters")] = 0.005

Number        a float that float32 holds. It flows through the compiled program, and may differ from run to run.
              `PositiveNumber` is greater than 0, `NonNegativeNumber` is 0 or more
FixedNumber   a float that shapes the compiled program; each value is compiled and trained separately
Count         a whole number of at least 1; `WholeNumber` has no limits of its own
Duration      seconds, or text such as "1:30:00"
Widths        whole numbers, as "256,256"
Several[T]    any of the values of T, as "csv,jsonl"
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
    """`"1e6"` and `1e6` are whole numbers too; `True` is not."""
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
    """A number that float32 holds: 0, or of a size from 1e-30 to 1e30. NaN and infinity are none."""
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
    """A number of seconds, or text: `"5400"`, `"1:30:00"`."""
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
    """A number that shapes the compiled program, as a rate that a network wants as a Python number."""


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
    """Whether a hyperparameter of this value is a number that flows through the program, and may be swept inside it."""
    return isinstance(value, float) and not isinstance(value, Fixed)


class SettingField(NamedTuple):
    """A field of a settings class: its default, what `--help` says of it, and what checks its values."""

    default: Any
    description: str
    adapter: TypeAdapter[Any]


@cache
def fields(cls: type) -> Mapping[str, SettingField]:
    """`{name: SettingField}` of a settings class, in the order of its definition."""
    hints = get_type_hints(cls, include_extras=True)
    found = {}
    for field in dataclasses.fields(cls):
        adapter = TypeAdapter(hints[field.name])
        found[field.name] = SettingField(field.default, adapter.json_schema().get("description", ""), adapter)
    return MappingProxyType(found)


def checked(cls: type, name: str, value: Any) -> Any:
    """`value` as the type of field `name` of `cls`. Raises a one-line ValueError naming value, limit and default."""
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
    """A frozen dataclass whose Python values are checked when it is made. Traced arrays pass unchecked."""

    def __post_init__(self) -> None:
        for name in fields(type(self)):
            value = getattr(self, name)
            if not hasattr(value, "dtype"):
                object.__setattr__(self, name, checked(type(self), name, value))


def nearest(value: int, divisor: int) -> str:
    """The multiples of `divisor` around `value`, in words."""
    low = value // divisor * divisor
    return f"{low} or {low + divisor}" if low > 0 else f"{divisor}"
