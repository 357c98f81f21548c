"""Errors in one line that say what would work."""

import importlib
from collections.abc import Callable, Collection
from difflib import get_close_matches
from types import ModuleType
from typing import TypeVar

T = TypeVar("T")


class Refused(ValueError):
    """What was asked for cannot be done, for a reason that only shows while a run is made."""


def closest(name: object, known: Collection[str]) -> str:
    """The end of an error message: the names nearest to `name`, and all there are."""
    near = get_close_matches(str(name), known, n=3, cutoff=0.5)
    hint = f"; did you mean {' or '.join(near)}?" if near else ";"
    return f"{hint} known: {', '.join(known) or 'none'}"


def attempt(what: str, function: Callable[[], T]) -> T:
    """`function()`; whatever it raises becomes one line that says what was tried. It may be a user's code, and exit."""
    try:
        return function()
    except (Exception, SystemExit) as error:
        first_line = (str(error).splitlines() or [""])[0]
        raise ValueError(f"{what} fails: {type(error).__name__}: {first_line}") from error


def require(module: str, extra: str, what: str) -> ModuleType:
    """The module, imported. Raises ValueError, naming purerl's `extra` that brings it, where it is not installed."""
    try:
        return importlib.import_module(module)
    except ImportError:
        raise ValueError(f"{what} needs the package {module}; pip install 'purerl[{extra}]'") from None
