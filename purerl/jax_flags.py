"""JAX's global flags that purerl cannot compute under, or not the same numbers, and what becomes of them.

They are set by the environment (`JAX_ENABLE_X64=1`) or by `jax.config`. A command line owns its process: it sets them
as it needs them, and says so in one line for each (`settle`). Whoever uses purerl from Python owns the flags. There
those that lead to an error deep inside, or to seeds that depend on each other, are refused (`check`). Flags that are
not named here change no number.
"""

import sys
from enum import Enum
from typing import Any, NamedTuple


class Flag(NamedTuple):
    """A flag of `jax.config`, the values that purerl computes under, the first of which it sets, and why.

    One that is not `refused` is a choice of Python code: other numbers are drawn, or a run stops at infinity.
    """

    name: str
    takes: tuple[Any, ...]
    why: str
    refused: bool = True

    @property
    def value(self) -> Any:
        """Its present value, or the one that purerl sets where this JAX has no such flag."""
        import jax  # Here, so that `--help` need not wait for it.

        value = getattr(jax.config, self.name, self.takes[0])
        return value.value if isinstance(value, Enum) else value

    @property
    def is_wrong(self) -> bool:
        return self.value not in self.takes


GUARDS = ("allow", None, "log", "log_explicit")
GUARDED = "purerl moves numbers between host and device"
FLAGS = (
    Flag("jax_enable_x64", (False,), "purerl computes in 32 bits"),
    Flag("jax_disable_jit", (False,), "purerl's programs are compiled, and take hours otherwise"),
    Flag("jax_no_tracing", (False,), "purerl's programs are traced"),
    Flag("jax_no_execution", (False,), "purerl's programs are run"),
    Flag(
        "jax_default_prng_impl",
        ("threefry2x32",),
        "by any but threefry2x32 the numbers of a seed depend on the seeds beside it",
    ),
    Flag("jax_threefry_partitionable", (True,), "every seed draws other numbers without it", refused=False),
    Flag("jax_random_seed_offset", (0,), "every seed draws other numbers with it", refused=False),
    Flag("jax_legacy_prng_key", ("allow", "warn"), "Brax and gymnax take keys of the old kind"),
    Flag("jax_debug_key_reuse", (False,), "Brax takes keys of the old kind, which it reports as used twice"),
    Flag(
        "jax_debug_nans", (False,), "NaN stands for what is not there, and a seed that diverges is frozen and reported"
    ),
    Flag("jax_debug_infs", (False,), "a seed that diverges is frozen and reported", refused=False),
    Flag("jax_numpy_dtype_promotion", ("standard",), "physics and networks mix types"),
    Flag("jax_numpy_rank_promotion", ("allow", "warn"), "physics and networks broadcast"),
    Flag("jax_transfer_guard", GUARDS, GUARDED),
    Flag("jax_transfer_guard_host_to_device", GUARDS, GUARDED),
    Flag("jax_transfer_guard_device_to_device", GUARDS, GUARDED),
    Flag("jax_transfer_guard_device_to_host", GUARDS, GUARDED),
)


def settle() -> None:
    """Set every flag of a command line as purerl needs it, and say which was otherwise, a line each, on stderr."""
    import jax

    for flag in [flag for flag in FLAGS if flag.is_wrong]:
        if flag.is_wrong:  # One may have set another: jax_transfer_guard those of its three directions.
            taken = f"this command sets it to {flag.takes[0]}, because {flag.why}"
            print(f"note: {flag.name.upper()} is {flag.value}; {taken}", file=sys.stderr)
            jax.config.update(flag.name, flag.takes[0])


def check_flags(what: str = "purerl") -> None:
    """Raises ValueError, in one line, for the first flag under which `what` cannot be had."""
    for flag in FLAGS:
        if flag.refused and flag.is_wrong:
            raise ValueError(
                f"{what}: JAX's flag {flag.name} is {flag.value!r}, but {flag.why}; unset {flag.name.upper()}, or say "
                f"jax.config.update({flag.name!r}, {flag.takes[0]!r})"
            )


def check_platform() -> None:
    """Raises ValueError, in one line, where JAX_PLATFORMS names what this machine, or this JAX, does not have.

    JAX begins to compute by that, so that devices of a CPU and other processes must be settled before. Without effect
    where nobody said what to compute on.
    """
    import jax

    platforms = jax.config.jax_platforms  # pyright: ignore[reportAttributeAccessIssue]  # JAX defines its flags late
    if not platforms:
        return
    try:
        jax.devices()
    except (RuntimeError, AssertionError) as error:
        reason = (str(error).splitlines() or ["no plugin of JAX for it is installed"])[0]
        raise ValueError(
            f"JAX_PLATFORMS is {platforms!r}, but that cannot be computed on here: {reason or type(error).__name__}; "
            f"unset it, or set it to cpu"
        ) from None
