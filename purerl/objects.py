"""Environments and algorithms that are objects of this process, by the names that the settings of a run hold.

A run.toml holds text, so an object needs a name: "module:NAME" if a module has it, otherwise "object:NAME". The second
kind of name has a meaning only in the process that gave it. An object that was given here is found before any import.
"""

import re
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

OWN = "object:"  # begins the names that only this process knows
MAIN = "__main__:"  # begins the names in a notebook or a script

_given: dict[tuple[str, str], Any] = {}  # (setting, name) -> object


def give(setting: str, name: str, value: object) -> str:
    """Let `name` mean `value` in this process, as the value of a `setting`, "env" or "algo". Returns `name`.

    A later object takes the name over.
    """
    _given[setting, name] = value
    return name


def given(setting: str, name: str) -> Any:
    """Return the object that `name` means as the value of a `setting`, or None.

    Raises ValueError for a name of another process.
    """
    found = _given.get((setting, name))
    main = sys.modules["__main__"]
    if found is None and (name.startswith(OWN) or (name.startswith(MAIN) and not hasattr(main, name[len(MAIN) :]))):
        raise ValueError(
            f"{setting} {name!r} is an object of another process; give it again: purerl.load(FOLDER, {setting}=...)"
        )
    return found


@contextmanager
def using(names: dict[tuple[str, str], Any]) -> Iterator[None]:
    """Let names mean the objects `{(setting, name): object}` in a `with` block."""
    before = {key: _given.get(key) for key in names}
    _given.update(names)
    try:
        yield
    finally:
        for key, value in before.items():
            _given.pop(key) if value is None else _given.update({key: value})


def name_of(value: object, called: str, modules: Iterable[object]) -> str:
    """Return the name of an object: "module:NAME" where a module has it as a public attribute.

    `modules` are names of modules that are looked at first; other values are skipped. Then follow the user's modules
    that are imported, and `__main__` last. If no module has the object, its name is "object:CALLED".
    """
    for module in dict.fromkeys([*modules, *_imported(), "__main__"]):
        there = vars(sys.modules[module]) if isinstance(module, str) and module in sys.modules else {}
        for name, each in list(there.items()):
            if each is value and name.isidentifier() and not name.startswith("_"):
                return f"{module}:{name}"
    return OWN + (re.sub(r"\W+", "_", called).strip("_") or "mine")


def _imported() -> list[str]:
    """Return the names of the imported modules that may be a user's: not purerl's, and not `__main__` or its alias."""
    named = [(name, getattr(module, "__dict__", {}).get("__spec__")) for name, module in list(sys.modules.items())]
    others = ("__main__", "__mp_main__", "purerl")  # multiprocessing makes the second of them
    return [name for name, spec in named if spec and name.partition(".")[0] not in others]
