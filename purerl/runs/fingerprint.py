"""Fingerprints of environments: digests of what an environment computes, to detect a change when a run is resumed.

The digests are those of the traced programs (jaxprs) of `reset`, `step` and `observe`. They cover every primitive, its
parameters, the shapes and dtypes, and the values of all constants. Names, source lines and memory addresses are left
out, so that the digests are the same in every process. The code of a callback to the host is not covered.

Other versions of JAX or of a physics package may trace the same environment differently. So every fingerprint also
holds what traced it. Different digests count as a change only if this is the same.
"""

import enum
import hashlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import fields, is_dataclass
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import PyTree

from purerl.environments.base import Environment
from purerl.runs.provenance import changed, commit, flags, processor, versions
from purerl.types import actor_obs_size

if TYPE_CHECKING:
    from jax.extend.core import ClosedJaxpr

Fingerprint = dict[str, Any]

UNSEEN = ("name", "ctx_mesh", "debug_info", "sharding")  # parameters of primitives that do not change results
COMPUTED = ("reset", "step", "observe")
PLAIN = (type(None), bool, int, float, complex, str, bytes)
LIMITS = ("episode_length", "truncates", "action_low", "action_high", "actor_obs_size")


def of(env: Environment) -> Fingerprint:
    """Return the fingerprint of an `Environment`: `{name: digest or number}`, for JSON and TOML.

    `traced_by` is what the digests depend on besides the environment. JAX keeps the traces for `base.physics`, so
    compiling the environment afterwards is faster by the time that this took.
    """
    step, (state, _) = _traced(env.step, *_arguments(env))
    low, high = (np.broadcast_to(np.asarray(bound, float), env.action_size).tolist() for bound in env.action_range)
    return {
        "reset": _digest(_traced(env.reset, jax.random.key(0))[0]),
        "step": _digest(step),
        "observe": _digest(_traced(env.observe, state)[0]),
        "episode_length": int(env.episode_length),
        "truncates": bool(env.truncates),
        "action_low": low,
        "action_high": high,
        "traced_by": _tracer(),
    } | ({} if actor_obs_size(env) == env.obs_size else {"actor_obs_size": actor_obs_size(env)})


def of_function(function: Callable[..., PyTree], *arguments: PyTree) -> str:
    """Return the digest of the program of `function` for abstract `arguments`, with its constants."""
    return _digest(_traced(function, *arguments)[0])


def kept(fingerprint: Fingerprint) -> Fingerprint:
    """Return the part of a fingerprint that a run.toml holds. Versions and flags are recorded there separately."""
    return {name: x for name, x in fingerprint.items() if name != "traced_by"}


def from_record(record: dict[str, Any]) -> Fingerprint | None:
    """Return the fingerprint in the `record` of a run.toml, or None for an older one."""
    if "environment" not in record:
        return None
    made = {name: record[name] for name in ("commit", "platform", "cpu") if name in record}
    return record["environment"] | {"traced_by": record.get("versions", {}) | record.get("flags", {}) | made}


def difference(then: Fingerprint | None, now: Fingerprint, when: str) -> str:
    """Return one line that says how the fingerprint `now` differs from `then`, or an empty text if it does not.

    `when` is a text that says when `then` was made.
    """
    if then is None:
        return f"cannot tell whether the environment is the same as {when}: its fingerprint was not recorded then"
    limits = [
        f"{name} (was {then.get(name, 'all')}, is {now.get(name, 'all')})"
        for name in LIMITS
        if _differ(then, now, name)
    ]
    computed = [name for name in COMPUTED if _differ(then, now, name)]
    others = changed(then.get("traced_by", {}), now["traced_by"])
    if limits or (computed and not others):
        return f"the environment is not the same as {when}: {', '.join(computed + limits)} changed"
    if computed:
        return (
            f"cannot tell whether the environment is the same as {when}: the trace of {', '.join(computed)} differs, "
            f"but {', '.join(others)}"
        )
    return ""


def _differ(then: Fingerprint, now: Fingerprint, name: str) -> bool:
    """Return whether `name` differs. An absent `actor_obs_size` means all; another absent name was not recorded."""
    return (name in then or name == "actor_obs_size") and then.get(name) != now.get(name)


def _arguments(env: Environment) -> tuple[PyTree, jax.ShapeDtypeStruct]:
    """Return abstract `(state, action)`."""
    action = jax.ShapeDtypeStruct((env.action_size,), jnp.float32)
    return jax.eval_shape(env.reset, jax.random.key(0)), action


def _traced(function: Callable[..., PyTree], *arguments: PyTree) -> "tuple[ClosedJaxpr, PyTree]":
    """Return `(jaxpr, abstract result)`."""
    return jax.make_jaxpr(function, return_shape=True)(*arguments)


def _tracer() -> dict[str, str]:
    """Return `{name: value}` of what the digest of a trace depends on besides the environment."""
    return versions() | flags() | {"commit": commit(), "platform": jax.default_backend(), "cpu": processor()}


def _digest(jaxpr: "ClosedJaxpr") -> str:
    return _Canon().jaxpr(jaxpr).hexdigest()


class _Canon:
    """Converts the parts of one jaxpr to bytes. The digests of jaxprs that occur in it repeatedly are kept."""

    def __init__(self) -> None:
        self.known: dict[int, Any] = {}
        self.kinds: dict[Any, bytes] = {}

    def jaxpr(self, closed: Any) -> hashlib.blake2b:
        """Return the digest of a `Jaxpr`, or of a `ClosedJaxpr` with its constants."""
        if id(closed) not in self.known:
            jaxpr, constants = getattr(closed, "jaxpr", closed), getattr(closed, "consts", ())
            self.known[id(closed)] = closed, self._program(jaxpr, constants)  # Kept, so that its id is unique.
        return self.known[id(closed)][1]

    def _program(self, jaxpr: Any, constants: Sequence[Any]) -> hashlib.blake2b:
        numbers: dict[Any, int] = {}
        words: list[bytes] = []

        def bind(variables: Iterable[Any]) -> None:
            for variable in variables:
                numbers[variable] = len(numbers)
                words.append(self.kind(variable.aval))

        def read(atoms: Iterable[Any]) -> None:
            words.extend(self.value(x.val) if hasattr(x, "val") else b"%d" % numbers[x] for x in atoms)

        bind([*jaxpr.constvars, *jaxpr.invars])
        words.append(self.value(list(constants)))
        for equation in jaxpr.eqns:
            words.append(equation.primitive.name.encode())
            words.append(self.value({k: v for k, v in equation.params.items() if k not in UNSEEN}))
            read(equation.invars)
            bind(equation.outvars)
        read(jaxpr.outvars)
        return hashlib.blake2b(b"\n".join(words), digest_size=16)

    def kind(self, aval: Any) -> bytes:
        """Return the shape, the dtype and whether it is weak, which affects later dtypes."""
        if aval not in self.kinds:
            known = hasattr(aval, "shape")
            text = f"{aval.dtype}{aval.shape}{getattr(aval, 'weak_type', False)}" if known else type(aval).__name__
            self.kinds[aval] = text.encode()
        return self.kinds[aval]

    def value(self, x: Any) -> bytes:
        """Return a constant or a parameter as bytes.

        Of an unknown object only the type counts, because its text may contain addresses.
        """
        if isinstance(x, PLAIN) and not isinstance(x, enum.Enum):
            return repr(x).encode()
        if hasattr(x, "eqns"):
            return self.jaxpr(x).digest()
        if isinstance(x, tuple | list):
            return b"(%b)" % b",".join(map(self.value, x))
        if isinstance(x, set | frozenset):
            return b"{%b}" % b",".join(sorted(map(self.value, x)))
        if isinstance(x, dict):
            return b"{%b}" % b",".join(self.value((str(name), x[name])) for name in sorted(x, key=str))
        if is_dataclass(x) and not isinstance(x, type):
            return self.value((type(x).__qualname__, [getattr(x, field.name) for field in fields(x)]))
        if hasattr(x, "shape") and hasattr(x, "dtype"):
            return _array(x) if hasattr(x, "__array__") else self.kind(x)
        return _word(x)


def _array(x: Any) -> bytes:
    """Return the dtype, the shape and a digest of the numbers. For a random key, these are its data."""
    array = np.asarray(jax.random.key_data(x) if jnp.issubdtype(x.dtype, jax.dtypes.prng_key) else x)
    digest = hashlib.blake2b(array.tobytes(), digest_size=16).digest()
    return f"{x.dtype}{array.shape}".encode() + digest


def _word(x: Any) -> bytes:
    """Return an object without parts as bytes, such as an enum, a dtype, a class, a function or an unknown one."""
    if isinstance(x, np.dtype):
        return str(x).encode()
    word = next((getattr(x, name) for name in ("__qualname__", "tag", "_name_") if hasattr(x, name)), "")
    return f"{type(x).__qualname__}:{word}".encode()
