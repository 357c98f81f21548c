"""What the commands here share: errors of one line, and programs in processes of their own."""

import functools

from purerl.cli.parser import fail

# Otherwise an error within JAX ends with a note on how its traceback was shortened, not with what it is.
WHOLE_TRACEBACKS = {"JAX_TRACEBACK_FILTERING": "off"}


def refusing(main):
    """`main`, whose ValueErrors are one line, and the exit status 2."""

    @functools.wraps(main)
    def refused(arguments=None):
        try:
            return main(arguments)
        except ValueError as error:
            fail(error)

    return refused


def last_line(text, otherwise="it says nothing"):
    """Of what a program said before it ended: why it did."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1] if lines else otherwise
