"""Settings that a command makes before JAX computes: the compilation cache, and the devices of a CPU."""

import os
from contextlib import suppress
from pathlib import Path


def use_compilation_cache(folder: str) -> None:
    """Cache compiled programs in `folder`; "none" means no cache. Raises ValueError if it cannot be written."""
    import jax

    if folder.lower() == "none":
        return
    path = Path(folder).expanduser()
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ValueError(
            f"compilation_cache {folder!r} cannot be written: {error.strerror}; name a writable folder, or none"
        ) from None
    jax.config.update("jax_compilation_cache_dir", str(path.absolute()))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.5)


def tune_cpu() -> None:
    """Set JAX up for fast computation on a CPU. A GPU needs no such setup."""
    from purerl.training import threefry

    use_cores()
    threefry.unroll()


def use_cores() -> None:
    """Make every CPU core that this process may use a device of JAX, unless the user has set the number of devices.

    Two seeds on two one-core devices train up to twice as fast as both on one device with two threads. Small operations
    do not gain from two threads, and large ones lose less. This has no effect if JAX has already started to compute.
    """
    import jax

    flags = os.environ.get("XLA_FLAGS", "")
    devices = jax.config.jax_num_cpu_devices  # pyright: ignore[reportAttributeAccessIssue]  # JAX defines its flags late
    if devices != -1 or "xla_force_host_platform_device_count" in flags:
        return
    with suppress(RuntimeError):
        jax.config.update("jax_num_cpu_devices", num_cores())


def num_cores() -> int:
    """Return the number of CPU cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
