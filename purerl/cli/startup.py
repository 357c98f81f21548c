"""What a command sets before JAX computes: where compiled programs are cached, and the devices of a CPU."""

import os
from contextlib import suppress
from pathlib import Path


def use_compilation_cache(folder: str) -> None:
    """Keep compiled programs in `folder`, or nowhere if it is "none". Raises ValueError where it cannot be written."""
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


def tune_cpu() -> None:
    """Have a CPU, where there is but one, compute as fast as it can. A GPU is as fast as it can be without."""
    from purerl.training import threefry

    use_cores()
    threefry.unroll()


def use_cores() -> None:
    """Make every core that this process may use a device of JAX, where there is but a CPU and nobody said otherwise.

    Two seeds on two cores train up to twice as fast as both on one device of two threads: small operations are not
    worth sharing out, and large ones lose less by it. Without effect where JAX computes already.
    """
    import jax

    flags = os.environ.get("XLA_FLAGS", "")
    devices = jax.config.jax_num_cpu_devices  # pyright: ignore[reportAttributeAccessIssue]  # JAX defines its flags late
    if devices != -1 or "xla_force_host_platform_device_count" in flags:
        return
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    with suppress(RuntimeError):
        jax.config.update("jax_num_cpu_devices", cores)
