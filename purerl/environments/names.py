"""The names of environments of all families, for error messages that suggest a name. Imports no physics."""

import ast
import re
from collections.abc import Collection
from difflib import SequenceMatcher
from importlib.util import find_spec
from pathlib import Path

from purerl.errors import closest

BRAX = (
    "ant",
    "fast",
    "halfcheetah",
    "hopper",
    "humanoid",
    "humanoidstandup",
    "inverted_double_pendulum",
    "inverted_pendulum",
    "pusher",
    "reacher",
    "swimmer",
    "walker2d",
)
GYMNASIUM = (
    "Ant",
    "HalfCheetah",
    "Hopper",
    "Humanoid",
    "HumanoidStandup",
    "InvertedDoublePendulum",
    "InvertedPendulum",
    "Pusher",
    "Reacher",
    "Swimmer",
    "Walker2d",
)
GYMNAX = ("MountainCarContinuous-v0", "Pendulum-v1", "PointRobot-misc", "Reacher-misc", "Swimmer-misc")  # continuous
ALIKE = 0.75  # lowest similarity (0 to 1) of a suggested name


def unknown(what: str, name: str, known: Collection[str]) -> str:
    """Return the message for an unknown `name`, in one line: the nearest names of all families, and `known`."""
    return f"{what} {name!r}{ending(name, known)}"


def ending(name: str, known: Collection[str]) -> str:
    """Return the end of that message."""
    near = hint(name, known)
    return f"{near} known: {', '.join(known) or 'none'}" if near else closest(name, known)


def hint(name: str, known: Collection[str] = ()) -> str:
    """Return `; did you mean …?` with names of all families, or an empty string if no name is near."""
    near = _nearest(name, known)
    return "" if near is None else f"; did you mean {near}?"


def _nearest(name: str, known: Collection[str]) -> str | None:
    """Return up to three names that are similar to `name`, joined by `or`, or None.

    Case, version and family are ignored first.
    """
    spelled = {x: x for x in known}
    spelled |= {x: x.partition(":")[2] or x for x in everywhere() if x.partition(":")[2] not in known}
    wanted = _core(name)

    def likeness(x: str) -> list[float]:
        pairs = (wanted, _core(x)), (_unversioned(name), _unversioned(spelled[x])), (name, spelled[x])
        return [SequenceMatcher(None, *pair).ratio() for pair in pairs]

    ranked = sorted(((likeness(x), x) for x in spelled), key=lambda pair: pair[0], reverse=True)
    near = [x for (alike, *_), x in ranked if alike >= max(ALIKE, ranked[0][0][0] - 0.1)]
    return " or ".join(near[:3]) or None


def everywhere() -> list[str]:
    """Return the names of all installed families, the newest version first."""
    gymnasium = [f"{x}-{version}" for version in ("v5", "v4") for x in GYMNASIUM if (x, version) != ("Pusher", "v4")]
    gymnax = [f"gymnax:{x}" for x in GYMNAX] if _is_there("gymnax") else []
    return [*BRAX, "Pendulum-v1", *(gymnasium if _is_there("gymnasium") else ()), *_playground(), *gymnax]


def _is_there(package: str) -> bool:
    try:
        return find_spec(package) is not None
    except ValueError:  # a module without a spec
        return False


def _playground() -> list[str]:
    """Return the names of Playground's tasks, read from its source. Importing it would take seconds."""
    spec = find_spec("mujoco_playground") if _is_there("mujoco_playground") else None
    if spec is None or spec.origin is None:
        return []
    source = Path(spec.origin).parent / "_src"
    return [f"playground:{x}" for file in sorted(source.glob("*/__init__.py")) for x in _tasks(file)]


def _tasks(file: Path) -> list[str]:
    """Return the keys of the dict `_envs` in a source file."""
    for statement in ast.parse(file.read_text()).body:
        if isinstance(statement, ast.Assign) and getattr(statement.targets[0], "id", None) == "_envs":
            return [str(key.value) for key in getattr(statement.value, "keys", ()) if isinstance(key, ast.Constant)]
    return []


def _unversioned(name: str) -> str:
    return re.sub(r"-v\d+$", "", name.rpartition(":")[2])


def _core(name: str) -> str:
    """Return a name without family, version, case and punctuation."""
    return re.sub(r"[^a-z0-9]", "", _unversioned(name).lower())
