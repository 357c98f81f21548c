"""What the command lines share: errors of one line, the cache of compiled programs, and a CPU's cores as devices."""

import argparse
import os
import sys
from contextlib import suppress
from pathlib import Path

from purerl.errors import closest


class Parser(argparse.ArgumentParser):
    """Errors are one line."""

    def error(self, message):
        fail(message)


def fail(message):
    print("error:", " ".join(str(message).split()), file=sys.stderr)
    raise SystemExit(2)


def unwritable(error, stays):
    """Say which file could not be written, or read, and what `stays`. Returns the exit status."""
    where = f" {error.filename}" if error.filename else ""
    print(f"error: cannot write{where}: {error.strerror or error}; {stays}", file=sys.stderr)
    return 1


def refuse_unknown(parser, unknown):
    """Raises ValueError for the first of the arguments that `parser` does not know."""
    if unknown:
        known = tuple(option for action in parser._actions for option in action.option_strings)
        raise ValueError(f"unknown argument {unknown[0]!r}{closest(unknown[0], known)}")


def add_cache(parser):
    """The flag `--compilation-cache`, whose value `use_compilation_cache` takes."""
    parser.add_argument(
        "--compilation-cache",
        metavar="FOLDER",
        default=os.environ.get("JAX_COMPILATION_CACHE_DIR", "~/.cache/purerl/xla"),
        help="folder that keeps compiled programs between runs; none: keep none (default: %(default)s)",
    )


def tune_cpu():
    """Have a CPU, where there is but one, compute as fast as it can. A GPU is as fast as it can be without."""
    from purerl.training import threefry

    use_cores()
    threefry.unroll()


def use_cores():
    """Make every core that this process may use a device of JAX, where there is but a CPU and nobody said otherwise.

    Two seeds on two cores train up to twice as fast as both on one device of two threads: small operations are not
    worth sharing out, and large ones lose less by it. Without effect where JAX computes already.
    """
    import jax

    flags = os.environ.get("XLA_FLAGS", "")
    if jax.config.jax_num_cpu_devices != -1 or "xla_force_host_platform_device_count" in flags:
        return
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    with suppress(RuntimeError):
        jax.config.update("jax_num_cpu_devices", cores)


def use_compilation_cache(folder):
    import jax

    if folder.lower() == "none":
        return
    path = Path(folder).expanduser()
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ValueError(
            f"compilation_cache {folder!r} cannot be written: {error.strerror}; name a folder that can, or none"
        ) from None
    jax.config.update("jax_compilation_cache_dir", str(path.absolute()))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.5)
