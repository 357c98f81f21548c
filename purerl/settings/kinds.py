"""Kinds of settings: numbers, counts, choices, with their limits and what they mean, and what checks a value.

No JAX here. `None` means: leave it out.
"""

import dataclasses
from datetime import timedelta
from functools import cache
from typing import Annotated, Literal, get_type_hints

from pydantic import AfterValidator, BeforeValidator, Field, TypeAdapter, ValidationError


def _whole(value):
    """`"1e6"` and `1e6` are whole numbers too; `True` is not."""
    if isinstance(value, bool):
        raise ValueError("should be a whole number")
    if isinstance(value, str):
        try:
            value = float(value) if "e" in value.lower() else int(value)
        except ValueError:
            raise ValueError("should be a whole number") from None
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _widths(value):
    return value.replace("x", ",").split(",") if isinstance(value, str) else value


def _listed(value):
    if not isinstance(value, str):
        return value
    return () if value.lower() == "none" else tuple(dict.fromkeys(value.replace(" ", "").split(",")))


def _single(value):
    """A number that float32 holds: 0, or of a size from 1e-30 to 1e30. NaN and infinity are none."""
    if value != 0 and not 1e-30 <= abs(value) <= 1e30:
        raise ValueError("should be a finite number, 0 or of a size from 1e-30 to 1e30")
    return value


def _no_flag(value):
    if isinstance(value, bool):
        raise ValueError("should be a number")
    return value


def _none(value):
    return None if isinstance(value, str) and value.lower() == "none" else value


def _seconds(value):
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


def number(description, **limits):
    limits = Field(description=description, **limits)
    return Annotated[float, BeforeValidator(_no_flag), limits, AfterValidator(_single)]


class Fixed(float):
    """A number that shapes the compiled program, as a rate that a network wants as a Python number."""


def fixed_number(description, **limits):
    """A number that does not flow: every value of it is compiled and trained by itself."""
    return Annotated[number(description, **limits), AfterValidator(Fixed)]


def flows(value):
    """Whether a hyperparameter of this value is a number that flows through the program, and may be swept inside it."""
    return isinstance(value, float) and not isinstance(value, Fixed)


def optional(description, **limits):
    return Annotated[number(description, **limits) | None, BeforeValidator(_none), Field(description=description)]


def duration(description):
    limits = Field(description=description, gt=0, le=1e9)
    seconds = Annotated[float, BeforeValidator(_seconds), BeforeValidator(_no_flag), limits]
    return Annotated[seconds | None, BeforeValidator(_none), Field(description=description)]


def count(description, least=1, most=2**31 - 1):
    limits = Field(description=description, ge=least, le=most, strict=True)
    return Annotated[int, BeforeValidator(_whole), limits]


def optional_count(description):
    return Annotated[count(description) | None, BeforeValidator(_none), Field(description=description)]


def count_or_auto(description, least=1):
    kinds = count(description, least) | Literal["auto"] | None
    return Annotated[kinds, BeforeValidator(_none), Field(description=description)]


def sizes(description):
    """Whole numbers, at least one of them, as `256,256`."""
    listed = Field(description=description, min_length=1)
    return Annotated[tuple[count("size", most=2**16), ...], BeforeValidator(_widths), listed]


def choice(description, *values):
    return Annotated[Literal[values], Field(description=description)]


def choices(description, *values):
    """Any of `values`, as `A,B`; none of them by default."""
    return Annotated[tuple[Literal[values], ...], BeforeValidator(_listed), Field(description=description)]


def text(description):
    return Annotated[str, Field(description=description, min_length=1)]


def optional_text(description):
    return Annotated[str | None, BeforeValidator(_none), Field(description=description)]


def flag(description):
    return Annotated[bool, Field(description=description)]


@cache
def fields(cls):
    """`{name: (default, description, adapter)}` of a settings class, in the order of its definition."""
    hints = get_type_hints(cls, include_extras=True)
    return {
        f.name: (f.default, TypeAdapter(hints[f.name]).json_schema().get("description", ""), TypeAdapter(hints[f.name]))
        for f in dataclasses.fields(cls)
    }


def checked(cls, name, value):
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

    def __post_init__(self):
        for name in fields(type(self)):
            value = getattr(self, name)
            if not hasattr(value, "dtype"):
                object.__setattr__(self, name, checked(type(self), name, value))


def nearest(value, divisor):
    """The multiples of `divisor` around `value`, in words."""
    low = value // divisor * divisor
    return f"{low} or {low + divisor}" if low > 0 else f"{divisor}"
