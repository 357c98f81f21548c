"""What environments are called, across families, without importing what is heavy: for errors that name the nearest."""

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
GYMNAX = ("MountainCarContinuous-v0", "Pendulum-v1", "PointRobot-misc", "Reacher-misc", "Swimmer-misc")  # Not discrete.
ALIKE = 0.75  # the least likeness of a name that is suggested, of 0 to 1


def unknown(what: str, name: str, known: Collection[str]) -> str:
    """One line: there is no `name` among `known`; those of any family that are nearest, and `known`."""
    return f"{what} {name!r}{ending(name, known)}"


def ending(name: str, known: Collection[str]) -> str:
    """The end of such a line."""
    near = hint(name, known)
    return f"{near} known: {', '.join(known) or 'none'}" if near else closest(name, known)


def hint(name: str, known: Collection[str] = ()) -> str:
    """`; did you mean …?`, of any family, or nothing where no name is near."""
    near = _nearest(name, known)
    return "" if near is None else f"; did you mean {near}?"


def _nearest(name: str, known: Collection[str]) -> str | None:
    """Up to three names that are spelled nearly as `name` but for case, version and family; None if there are none."""
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
    """The names of all families that are installed, the newest version first."""
    gymnasium = [f"{x}-{version}" for version in ("v5", "v4") for x in GYMNASIUM if (x, version) != ("Pusher", "v4")]
    gymnax = [f"gymnax:{x}" for x in GYMNAX] if _is_there("gymnax") else []
    return [*BRAX, "Pendulum-v1", *(gymnasium if _is_there("gymnasium") else ()), *_playground(), *gymnax]


def _is_there(package: str) -> bool:
    try:
        return find_spec(package) is not None
    except ValueError:  # imported from nowhere
        return False


def _playground() -> list[str]:
    """Playground's tasks, as its source says; importing it takes seconds."""
    spec = find_spec("mujoco_playground") if _is_there("mujoco_playground") else None
    if spec is None or spec.origin is None:
        return []
    source = Path(spec.origin).parent / "_src"
    return [f"playground:{x}" for file in sorted(source.glob("*/__init__.py")) for x in _tasks(file)]


def _tasks(file: Path) -> list[str]:
    """The keys of what a source file calls `_envs`."""
    for statement in ast.parse(file.read_text()).body:
        if isinstance(statement, ast.Assign) and getattr(statement.targets[0], "id", None) == "_envs":
            return [str(key.value) for key in getattr(statement.value, "keys", ()) if isinstance(key, ast.Constant)]
    return []


def _unversioned(name: str) -> str:
    return re.sub(r"-v\d+$", "", name.rpartition(":")[2])


def _core(name: str) -> str:
    """A name without its family, its version, its case and its punctuation."""
    return re.sub(r"[^a-z0-9]", "", _unversioned(name).lower())
