"""What the benchmark commands share: one-line errors, and programs in separate processes."""

import functools

from purerl.cli.parser import fail

# Otherwise an error within JAX ends with a note on its shortened traceback, and not with the error.
WHOLE_TRACEBACKS = {"JAX_TRACEBACK_FILTERING": "off"}


def refusing(main):
    """Wrap `main` so that a ValueError is printed in one line and the exit status is 2."""

    @functools.wraps(main)
    def refused(arguments=None):
        try:
            return main(arguments)
        except ValueError as error:
            fail(error)

    return refused


def last_line(text, otherwise="it printed nothing"):
    """Return the last line of what a program printed before it ended, which says why it ended."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1] if lines else otherwise
