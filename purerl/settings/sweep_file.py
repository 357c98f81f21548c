"""Expand a sweep file to its programs. No JAX here.

Some settings shape the compiled program: a list of such a setting makes one program per value. A list of numbers under
[hyper] becomes an axis of one program.

    algo = ["td3", "sac"]          a list at the top: one program per entry, and per combination of several lists
    mode = "zip"                   combine lists under [hyper] first with first, … (default: all combinations)
    [hyper]
    tau = [0.005, 0.02]            a list of values
    actor_lr = { log_uniform = [1e-4, 1e-2], samples = 8 }        random values; also uniform; seed = 1 draws others
    [[programs]]                   programs with a name: each lists what differs from the rest of the file
    name = "no smoothing"
    hyper.target_noise = 0

Other hyperparameters (`policy_delay`, the kind of noise, a fixed alpha against a learned one) are listed under [hyper]
as well, and make one program per value. `runs/pbt.py` reads [pbt], and `sweeps/search.py` reads [search].
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any
from zlib import crc32

import numpy as np

from purerl.errors import closest
from purerl.settings import config, registry, schema
from purerl.settings.kinds import Table, checked, fields, flows

MODES = ("grid", "zip")
DRAWN = ("uniform", "log_uniform")
WIDTHS = ("widths", "actor_widths", "critic_widths")


@dataclass(frozen=True)
class Program:
    """One program of a sweep, and the name of its folder."""

    name: str
    settings: schema.Config


def find_sweep_file(text: str) -> Path:
    """Return the file at the path `text`, or the file in sweeps/ with that name. Raises ValueError if there is none."""
    path, shipped = Path(text).expanduser(), {file.stem: file for file in config.collection("sweeps").glob("*.toml")}
    if path.is_file():
        return path
    if text in shipped:
        return shipped[text]
    raise ValueError(f"there is no sweep file {text!r}{closest(text, tuple(sorted(shipped)))}")


def expand(table: Table, flags: Table) -> list[Program]:
    """Return the programs of the sweep that `table` describes. `flags`, `{name: value}`, override it.

    Raises ValueError, in one line, if the sweep is not valid.
    """
    rest = dict(table)
    mode, entries = rest.pop("mode", "grid"), rest.pop("programs", [{}])
    if "sweep" in table:
        raise ValueError("[sweep] belongs in a run.toml; in a sweep file, write lists under [hyper]")
    if mode not in MODES:
        raise ValueError(f"mode is {mode!r}{closest(mode, MODES)}")
    if not isinstance(entries, list) or not entries or not all(isinstance(entry, dict) for entry in entries):
        raise ValueError("programs should be tables, [[programs]]")
    found = [program for entry in entries for program in _of_entry(_below(rest, entry), flags, mode)]
    names = [program.name for program in found]
    if twice := {name for name in names if names.count(name) > 1}:
        raise ValueError(f"two programs are called {min(twice)!r}; give each of [[programs]] its own name")
    return found


def _of_entry(table: Table, flags: Table, mode: str) -> Iterator[Program]:
    """Yield the programs of one entry of [[programs]], or of a file without entries."""
    table = table | flags
    name, hyper = table.pop("name", ""), table.pop("hyper", {})
    if not isinstance(name, str) or not isinstance(hyper, dict):
        raise ValueError(f"name should be text, and hyper a table, [hyper]; they are {name!r} and {hyper!r}")
    lists = {key: value for key, value in table.items() if _is_list(key, value)}
    for key, values in lists.items():
        if not values:
            raise ValueError(f"{key} is an empty list; give it a value, or leave it out")
    for values in product(*lists.values()):
        chosen = dict(zip(lists, values, strict=True))
        algo = (table | chosen).get("algo", schema.Job.algo)
        schema.Job(algo=algo)
        for fixed, swept in _split(algo, hyper, mode):
            parts = [name, *(_part(*item) for item in chosen.items())]
            parts += [_part(key, value) for key, value in fixed.items() if isinstance(hyper[key], list)]
            settings = config.resolve_table({}, table | chosen | {"hyper": fixed, "sweep": swept}, "the sweep")
            parts = list(filter(None, parts)) or [settings.job.algo, settings.job.env]
            yield Program(re.sub(r"[^\w.=-]+", "-", "-".join(parts)).strip("-."), settings)


def _split(algo: str, hyper: Table, mode: str) -> Iterator[tuple[Table, dict[str, list[Any]]]]:
    """Yield the hyperparameters `(fixed, swept)` of each program that the table [hyper] makes; `swept` has lists."""
    kind = registry.find_algorithm(algo).hyperparameters
    for name in hyper:
        if name not in fields(kind):
            raise ValueError(config.why_unknown(name, algo))
    axes = {name: _values(name, value) for name, value in hyper.items() if isinstance(value, list | dict)}
    axes = {name: [checked(kind, name, value) for value in values] for name, values in axes.items()}
    if mode == "zip" and len({len(values) for values in axes.values()}) > 1:
        lengths = ", ".join(f"{name} has {len(values)}" for name, values in axes.items())
        raise ValueError(f"mode 'zip' needs lists of one length under [hyper]; {lengths}")
    rows = [dict(zip(axes, row, strict=True)) for row in (zip if mode == "zip" else product)(*axes.values())]
    for i, row in enumerate(rows):
        if row in rows[:i]:
            raise ValueError(f"[hyper] lists a setting twice: {', '.join(f'{k} {v}' for k, v in row.items())}")
    programs: dict[tuple[tuple[str, Any], ...], list[Table]] = {}
    for row in rows or [{}]:
        shape = tuple((name, value) for name, value in row.items() if not flows(value))
        programs.setdefault(shape, []).append(row)
    constant = {name: value for name, value in hyper.items() if name not in axes}
    for shape, rows in programs.items():
        columns = {name: [row[name] for row in rows] for name in axes if name not in dict(shape)}
        swept = {name: values for name, values in columns.items() if len(set(values)) > 1}
        alike = {name: values[0] for name, values in columns.items() if name not in swept}
        yield constant | {name: "none" if value is None else value for name, value in shape} | alike, swept


def _values(name: str, value: list[Any] | Table) -> list[Any]:
    """Return the values of a list, or the random values that a table describes."""
    if isinstance(value, list):
        if not value:
            raise ValueError(f"hyper.{name} is an empty list; give it a value, or leave it out")
        return value
    if unknown := sorted(value.keys() - {*DRAWN, "samples", "seed"}):
        raise ValueError(f"hyper.{name}: unknown {unknown[0]!r}{closest(unknown[0], (*DRAWN, 'samples', 'seed'))}")
    kinds, number, seed = [kind for kind in DRAWN if kind in value], value.get("samples"), value.get("seed", 0)
    if len(kinds) != 1 or type(number) is not int or number < 1 or type(seed) is not int or seed < 0:
        raise ValueError(f"hyper.{name} is {value!r}; it should be like {{ log_uniform = [1e-4, 1e-2], samples = 8 }}")
    low, high = limits(f"hyper.{name}", kinds[0], value[kinds[0]])
    drawn = np.random.default_rng([seed, crc32(name.encode())]).uniform(size=number)
    if kinds[0] == "log_uniform":
        return (low * (high / low) ** drawn).tolist()
    return (low + (high - low) * drawn).tolist()


def limits(name: str, kind: str, value: Any) -> tuple[float, float]:
    """Return `value` as `(low, high)`. Raises ValueError if it is not an interval of `kind`."""
    numbers = isinstance(value, list) and len(value) == 2 and all(type(x) in (int, float) for x in value)
    if not numbers or not value[0] < value[1] or (kind == "log_uniform" and value[0] <= 0):
        positive = "positive " * (kind == "log_uniform")
        raise ValueError(f"{name}: {kind} is {value!r}; it should be two {positive}numbers, the smaller one first")
    return value[0], value[1]


def _is_list(name: str, value: Any) -> bool:
    """Return whether `value` lists values of the setting `name`. One value of `widths` or `log` is itself a list."""
    if name in fields(schema.Keep) or name == "init_parts":
        return False
    if name in WIDTHS and isinstance(value, list):
        return any(isinstance(each, list | str) for each in value)
    return isinstance(value, list)


def _below(table: Table, entry: Table) -> Table:
    """Return `table` with the settings of `entry`, which override it."""
    hyper = [each.get("hyper", {}) for each in (table, entry)]
    if not all(isinstance(each, dict) for each in hyper):
        raise ValueError("hyper should be a table, [hyper]")
    return table | entry | {"hyper": hyper[0] | hyper[1]}


def _part(name: str, value: Any) -> str:
    """Return the part of a program's name for one value."""
    text = ",".join(map(str, value)) if isinstance(value, list) else str(value)
    return text if name in ("algo", "env") else f"{name}={text}"
