"""Errors whose one-line message names a remedy."""

import importlib
from collections.abc import Callable, Collection
from difflib import get_close_matches
from pathlib import Path
from types import ModuleType
from typing import TypeVar

T = TypeVar("T")


class Refused(ValueError):
    """A request cannot be fulfilled, for a reason that is found only while a run is set up."""


def closest(name: object, known: Collection[str]) -> str:
    """Return the end of an error message: the known names that are nearest to `name`, then all known names."""
    near = get_close_matches(str(name), known, n=3, cutoff=0.5)
    hint = f"; did you mean {' or '.join(near)}?" if near else ";"
    return f"{hint} known: {', '.join(known) or 'none'}"


def attempt(what: str, function: Callable[[], T]) -> T:
    """Return `function()`. Raises ValueError, in one line with `what`, if it raises anything or exits.

    `function` may be a user's code.
    """
    try:
        return function()
    except (Exception, SystemExit) as error:
        lines = str(error).splitlines() or [""]
        reason = " ".join(lines[:2] if lines[0].endswith(":") else lines[:1])
        raise ValueError(f"{what} fails: {type(error).__name__}: {reason}") from error


def require(module: str, extra: str, what: str) -> ModuleType:
    """The module, imported. Raises ValueError, naming purerl's `extra` that brings it, where it is not installed."""
    try:
        return importlib.import_module(module)
    except ImportError:
        raise ValueError(f"{what} needs the package {module}; {how_to_install(extra)}") from None


def how_to_install(extra: str) -> str:
    """Return the command that installs purerl with `extra`: into the checkout that is imported, or from an index."""
    checkout = Path(__file__).parent.parent
    in_checkout = (checkout / "pyproject.toml").exists()
    return f"pip install -e '{checkout}[{extra}]'" if in_checkout else f"pip install 'purerl[{extra}]'"
