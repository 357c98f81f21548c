"""A command line whose errors are one line."""

import argparse
import sys
from collections.abc import Sequence
from typing import NoReturn

from purerl.errors import closest


class Parser(argparse.ArgumentParser):
    """Errors are one line."""

    def error(self, message: str) -> NoReturn:
        fail(message)


def fail(message: object) -> NoReturn:
    print("error:", " ".join(str(message).split()), file=sys.stderr)
    raise SystemExit(2)


def unwritable(error: OSError, stays: str) -> int:
    """Say which file could not be written, or read, and what `stays`. Returns the exit status."""
    where = f" {error.filename}" if error.filename else ""
    print(f"error: cannot write{where}: {error.strerror or error}; {stays}", file=sys.stderr)
    return 1


def refuse_unknown(parser: argparse.ArgumentParser, unknown: Sequence[str]) -> None:
    """Raises ValueError for the first of the arguments that `parser` does not know."""
    if unknown:
        known = tuple(option for action in parser._actions for option in action.option_strings)
        raise ValueError(f"unknown argument {unknown[0]!r}{closest(unknown[0], known)}")
