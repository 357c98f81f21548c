"""Flags that several commands have."""

import os
from argparse import ArgumentParser, _ActionsContainer
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from purerl.settings.kinds import fields


def add_settings(
    parser: ArgumentParser,
    groups: Sequence[tuple[str, type]],
    values: Mapping[type, Any] | None = None,
    show: bool = True,
    without: Collection[str] = (),
) -> set[str]:
    """Add the flags of all settings of `groups`, `[(title, class of settings)]`.

    If two groups have a setting with the same name, the first one counts. With `show`, the help shows the default: the
    one in `values`, `{class: instance}`, or the default of the class. Returns the names of the settings.
    """
    names: set[str] = set()
    for title, cls in groups:
        group = parser.add_argument_group(title)
        for name, (default, *_) in fields(cls).items():
            if name not in names and name not in without:
                add_setting(group, name, cls, getattr(values[cls], name) if values else default, show)
                names.add(name)
    return names


def add_setting(group: _ActionsContainer, name: str, cls: type, default: Any, show: bool = True) -> None:
    """Add the flag of a setting. With `show`, its help shows the default."""
    description, takes = fields(cls)[name][1].replace("%", "%%"), form(cls, name)
    flag: dict[str, Any] = {"nargs": "?", "const": "true"} if takes == "true|false" else {}
    if show:
        description = f"{description} (default: {as_text(default)})"
    group.add_argument(f"--{name.replace('_', '-')}", metavar=takes, help=description, **flag)


def as_text(value: object) -> str:
    """Return the value of a setting as a flag takes it."""
    if isinstance(value, tuple):
        return ",".join(map(str, value)) or "none"
    return str(value).lower() if value in (True, False, None) else str(value)


def form(cls: type, name: str) -> str:
    """Return the form of a value for the help: N, X, true|false, N,N, NAME, or the names to choose from."""
    schema = fields(cls)[name][2].json_schema()
    schema = next((kind for kind in schema.get("anyOf", []) if kind["type"] != "null"), schema)
    if "enum" in schema:
        return "|".join(schema["enum"])
    if "enum" in schema.get("items", {}):
        return "|".join(schema["items"]["enum"]) + ",..."
    return {"integer": "N", "number": "X", "boolean": "true|false", "array": "N,N"}.get(schema["type"], "NAME")


def add_cache(parser: _ActionsContainer) -> None:
    """Add the flag `--compilation-cache`, whose value goes to `use_compilation_cache`."""
    parser.add_argument(
        "--compilation-cache",
        metavar="FOLDER",
        default=os.environ.get("JAX_COMPILATION_CACHE_DIR", "~/.cache/purerl/xla"),
        help="folder that keeps compiled programs between runs; none: no cache (default: %(default)s)",
    )


def add_choice(parser: ArgumentParser, *more: str) -> None:
    """Add the argument RUN and the flags `--seed`, `--setting` and `--at`, which select trained policies.

    With "all" in `more`, the values are for `choice.several`, otherwise for `choice.choose`.
    """
    from purerl.results.choice import CHOICES

    parser.add_argument("run", metavar="RUN", help="folder of a run, or of one of its checkpoints")
    parser.add_argument(
        "--seed",
        metavar="|".join(("K", *CHOICES, *more)),
        default=more[0] if more else "best",
        help="which policy: a seed, or a rank by final return (default: %(default)s)",
    )
    parser.add_argument("--setting", metavar="N", type=int, help="in a sweep, choose from this setting (default: all)")
    parser.add_argument(
        "--at", metavar="STEP", help="use the checkpoint at this environment step (default: the end of the run)"
    )
