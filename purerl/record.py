"""What a run ran on: versions, device, commit. A result that nobody can repeat is no result."""

import os
import platform
import subprocess
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path

import jax

PACKAGES = ("purerl", "jax", "jaxlib", "flax", "optax", "brax", "mujoco", "mujoco-mjx", "distrax", "numpy")


def record():
    """`{name: value}` for run.toml."""
    device = jax.devices()[0]
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": _commit(),
        "platform": device.platform,
        "device": device.device_kind,
        "processor": platform.machine(),
        "num_cores": os.cpu_count(),
        "python": platform.python_version(),
        "xla_flags": os.environ.get("XLA_FLAGS", ""),
        "versions": versions(),
    }


def versions():
    """`{package: version}` of what the numbers depend on."""
    return {name: _version(name) for name in PACKAGES}


def origin(num_devices):
    """What numbers depend on to the last bit: `versions`, and on what they are computed."""
    return versions() | {"platform": jax.default_backend(), "devices": num_devices}


def _version(package):
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "not installed"


def _commit():
    """The git commit of this package's checkout, with `+` where files differ from it; `unknown` outside a checkout."""
    folder = Path(__file__).parent

    def git(*arguments):
        command = ["git", "-C", str(folder), *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=10).stdout.strip()

    try:
        if Path(git("rev-parse", "--show-toplevel")) != folder.parent:
            return "unknown"
        return git("rev-parse", "HEAD") + ("+" if git("status", "--porcelain", "--untracked-files=no") else "")
    except (OSError, subprocess.SubprocessError):
        return "unknown"
