"""Record what a run used: versions, device and commit. They are needed to reproduce a result."""

import os
import platform
import subprocess
from datetime import UTC, datetime
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

import jax

PACKAGES = ("purerl", "jax", "jaxlib", "flax", "optax", "brax", "mujoco", "mujoco-mjx", "distrax", "numpy")
PACKAGES += ("gymnasium", "gymnax", "playground")
FLAGS = ("jax_enable_x64", "jax_default_prng_impl", "jax_numpy_dtype_promotion")


def record() -> dict[str, Any]:
    """Return `{name: value}` for run.toml."""
    device = jax.devices()[0]
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": commit(),
        "platform": device.platform,
        "device": device.device_kind,
        "processor": platform.machine(),
        "cpu": processor(),
        "num_cores": os.cpu_count(),
        "python": platform.python_version(),
        "xla_flags": os.environ.get("XLA_FLAGS", ""),
        "flags": flags(),
        "versions": versions(),
    }


def versions() -> dict[str, str]:
    """Return `{package: version}` of the packages on which results depend."""
    return {name: _version(name) for name in PACKAGES}


def flags() -> dict[str, str]:
    """Return `{name: value}` of JAX's global flags that change what is computed."""
    return {name: str(getattr(jax.config, name)) for name in FLAGS}


def origin(num_devices: int | None) -> dict[str, Any]:
    """Return what bit-exact results depend on: `versions`, the platform and the number of devices."""
    return versions() | {"platform": jax.default_backend(), "devices": num_devices}


def changed(then: dict[str, Any], now: dict[str, Any]) -> list[str]:
    """Return where `now` differs from `then`, such as `["jax was 0.10.1 and is 0.10.2"]`.

    `then` may lack values that were not recorded at that time.
    """
    return [f"{name} was {then[name]} and is {x}" for name, x in now.items() if name in then and then[name] != x]


@cache
def processor() -> str:
    """Return the model of the CPU, for example "AMD EPYC 9B14". Results may differ between models."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    models = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(models, platform.processor() or platform.machine())


@cache
def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "not installed"


@cache
def commit() -> str:
    """Return the git commit of this package's checkout, with `+` if files differ from it.

    Outside a checkout it is `unknown`.
    """
    folder = Path(__file__).parent.parent

    def git(*arguments: str) -> str:
        command = ["git", "-C", str(folder), *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=10).stdout.strip()

    try:
        if Path(git("rev-parse", "--show-toplevel")) != folder.parent:
            return "unknown"
        return git("rev-parse", "HEAD") + ("+" if git("status", "--porcelain", "--untracked-files=no") else "")
    except (OSError, subprocess.SubprocessError):
        return "unknown"
