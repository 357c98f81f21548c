"""Global flags of JAX with which purerl fails or computes other numbers, and how purerl handles them.

Users set such flags by environment variables (`JAX_ENABLE_X64=1`) or by `jax.config`. A purerl command sets them as it
needs them, and prints one line for each (`settle`). In Python code, the user owns the flags. There, purerl refuses
flags that cause an error later, or seeds that depend on each other (`check_flags`). Flags that are not listed here
change no number.
"""

import sys
from enum import Enum
from typing import Any, NamedTuple


class Flag(NamedTuple):
    """A flag of `jax.config`: its name, the values that purerl accepts, and the reason. A command sets the first value.

    Python code may set a flag that is not `refused`: then other numbers are drawn, or a run stops at infinity.
    """

    name: str
    takes: tuple[Any, ...]
    why: str
    refused: bool = True

    @property
    def value(self) -> Any:
        """The current value, or the value that purerl sets if this JAX has no such flag."""
        import jax  # Imported here, so that `--help` does not wait for it.

        value = getattr(jax.config, self.name, self.takes[0])
        return value.value if isinstance(value, Enum) else value

    @property
    def is_wrong(self) -> bool:
        """Whether the current value is not accepted."""
        return self.value not in self.takes


GUARDS = ("allow", None, "log", "log_explicit")
GUARDED = "purerl transfers numbers between host and device"
FLAGS = (
    Flag("jax_enable_x64", (False,), "purerl computes in 32 bits"),
    Flag("jax_disable_jit", (False,), "purerl compiles its programs; without compilation they take hours"),
    Flag("jax_no_tracing", (False,), "purerl traces its programs"),
    Flag("jax_no_execution", (False,), "purerl runs its programs"),
    Flag(
        "jax_default_prng_impl",
        ("threefry2x32",),
        "with any other generator the numbers of a seed depend on the other seeds",
    ),
    Flag("jax_threefry_partitionable", (True,), "without it every seed draws other numbers", refused=False),
    Flag("jax_random_seed_offset", (0,), "with it every seed draws other numbers", refused=False),
    Flag("jax_legacy_prng_key", ("allow", "warn"), "Brax and gymnax use old-style keys"),
    Flag("jax_debug_key_reuse", (False,), "Brax uses old-style keys, which this flag reports as used twice"),
    Flag("jax_debug_nans", (False,), "NaN marks missing values, and a seed that diverges is frozen and reported"),
    Flag("jax_debug_infs", (False,), "a seed that diverges is frozen and reported", refused=False),
    Flag("jax_numpy_dtype_promotion", ("standard",), "physics and networks mix data types"),
    Flag("jax_numpy_rank_promotion", ("allow", "warn"), "physics and networks use broadcasting"),
    Flag("jax_transfer_guard", GUARDS, GUARDED),
    Flag("jax_transfer_guard_host_to_device", GUARDS, GUARDED),
    Flag("jax_transfer_guard_device_to_device", GUARDS, GUARDED),
    Flag("jax_transfer_guard_device_to_host", GUARDS, GUARDED),
)


def settle() -> None:
    """Set every flag as purerl needs it, and print one line on stderr for each flag that is changed. For commands."""
    import jax

    for flag in [flag for flag in FLAGS if flag.is_wrong]:
        if flag.is_wrong:  # Setting jax_transfer_guard also sets the flags of the three directions.
            taken = f"this command sets it to {flag.takes[0]}, because {flag.why}"
            print(f"note: {flag.name.upper()} is {flag.value}; {taken}", file=sys.stderr)
            jax.config.update(flag.name, flag.takes[0])


def check_flags(what: str = "purerl") -> None:
    """Raise ValueError, in one line, for the first flag with which `what` cannot be used."""
    for flag in FLAGS:
        if flag.refused and flag.is_wrong:
            raise ValueError(
                f"{what}: JAX's flag {flag.name} is {flag.value!r}, but {flag.why}; unset {flag.name.upper()}, or call "
                f"jax.config.update({flag.name!r}, {flag.takes[0]!r})"
            )


def check_platform() -> None:
    """Raise ValueError, in one line, if JAX_PLATFORMS names a platform that this machine or this JAX does not have.

    The check starts JAX's backends, so CPU devices and other processes must be set up before. It does nothing if
    JAX_PLATFORMS is not set.
    """
    import jax

    platforms = jax.config.jax_platforms  # pyright: ignore[reportAttributeAccessIssue]  # JAX defines its flags late
    if not platforms:
        return
    try:
        jax.devices()
    except (RuntimeError, AssertionError) as error:
        reason = (str(error).splitlines() or ["no JAX plugin for it is installed"])[0]
        raise ValueError(
            f"JAX_PLATFORMS is {platforms!r}, which is not available here: {reason or type(error).__name__}; "
            f"unset it, or set it to cpu"
        ) from None
