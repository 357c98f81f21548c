"""An argument parser whose error messages are one line."""

import argparse
import sys
from collections.abc import Sequence
from typing import NoReturn

from purerl.errors import closest


class Parser(argparse.ArgumentParser):
    """An argument parser whose error messages are one line."""

    def error(self, message: str) -> NoReturn:
        fail(message)


def fail(message: object) -> NoReturn:
    """Print `message` in one line on stderr and end the process with exit status 2."""
    print("error:", " ".join(str(message).split()), file=sys.stderr)
    raise SystemExit(2)


def unwritable(error: OSError, stays: str) -> int:
    """Print which file could not be written, and `stays`, which says what remains. Return the exit status 1."""
    where = f" {error.filename}" if error.filename else ""
    print(f"error: cannot write{where}: {error.strerror or error}; {stays}", file=sys.stderr)
    return 1


def refuse_unknown(parser: argparse.ArgumentParser, unknown: Sequence[str]) -> None:
    """Raise ValueError for the first of the `unknown` arguments, with the nearest flags of `parser`."""
    if unknown:
        known = tuple(option for action in parser._actions for option in action.option_strings)
        raise ValueError(f"unknown argument {unknown[0]!r}{closest(unknown[0], known)}")
