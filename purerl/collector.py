"""Python's garbage collector. It goes through all that importing and tracing make, over and over, and frees little."""

import gc
from contextlib import contextmanager


@contextmanager
def paused():
    """A context, or a decorator, in which nothing is collected. A start takes an eighth less time for it."""
    was = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was:
            gc.enable()
