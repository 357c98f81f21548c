"""The folder of a run: written as the run goes, read by whoever draws. No JAX here.

run.toml       the resolved settings, and under [record] versions, device, commit and date
curves.csv     a row per evaluation and run; `setting` counts the entries of the lists under [sweep] in run.toml.
               Columns are found by their header, in any order. What this version does not know is kept; a column that
               an older folder lacks is empty. The metrics of the algorithm follow COLUMNS.
curve.png      their picture
report.html    their page
log.jsonl      what happened, a line each
checkpoints/   the whole state of the run, to go on from
policy/        the actors of all runs, and the statistics that normalise their observations

A run is a (setting, seed); all of one setting stand together, in the order of their seeds.
"""

import csv
import fcntl
import io
import json
import os
import re
import time
import tomllib
import zipfile
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, BinaryIO, NamedTuple
from uuid import uuid4

import numpy as np
from jaxtyping import Bool, Float, Shaped

from purerl.errors import Refused

Curves = dict[str, Float[np.ndarray, " rows"]]  # of curves.csv, by the names of its columns
Run = tuple[int, int]  # setting, seed

COLUMNS = ("seed", "setting", "env_step", "update", "wall_s", "return_mean", "return_std", "episode_length", "diverged")
COLUMNS += ("environment_nan", "dropped")
KEYS = ("seed", "setting", "env_step")  # columns without which a row tells nothing
CLOCK = ("env_step", "update", "wall_s")
POLICY = "policy/actor.npz"
LEFT = re.compile(r"(run|sweep)\.toml\.\w+\.partial")  # by `write`, of a process that died


class Table(NamedTuple):
    """curves.csv as text: the names of its columns, and its rows, a cell per column."""

    header: list[str]
    rows: list[list[str]]


def create(path: Path, settings: str, metrics: Sequence[str] = ()) -> None:
    """Begin a run in its folder, with its run.toml, the text `settings`, and the columns of its `metrics`."""
    write(path, "run.toml", settings)
    write(path, "curves.csv", lines([[*COLUMNS, *metrics]]))


def check_writable(path: Path) -> None:
    """Raises ValueError where no folder can be made at `path`."""
    try:
        above = next(folder for folder in (path, *path.absolute().parents) if folder.exists())
        with TemporaryDirectory(dir=above, prefix=".purerl-") as trial:
            Path(trial, Path(os.path.abspath(path)).name).mkdir()
    except OSError as error:
        raise ValueError(f"out {str(path)!r} cannot be written: {error.strerror}; name a folder that can") from None


def is_free(path: Path) -> bool:
    """Whether there is nothing in `path`, or no more than what a run or a sweep leaves that died before it was made."""
    if not path.exists():
        return True
    left = [file for file in path.iterdir() if not LEFT.fullmatch(file.name)]
    return all(file.name == "log.jsonl" and file.stat().st_size == 0 for file in left)


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Make the folder `path`, and keep every other process from running there. Raises Refused where one does."""
    path.mkdir(parents=True, exist_ok=True)
    with open(path / "log.jsonl", "a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise Refused(f"another process is running in {path}; wait for it, or name another folder") from None
        yield


def has_begun(path: Path) -> bool:
    """Whether the run in `path` was made whole."""
    return (path / "curves.csv").exists() or (path / "checkpoints").exists()


def append_evaluation(
    path: Path, runs: Iterable[Run], common: Mapping[str, Any], values: Mapping[str, Shaped[np.ndarray, " R"]]
) -> None:
    """Add a row per run to curves.csv: `common` holds for all, `values` is `{column: [R]}`, NaN being no value.

    The file keeps its columns; it gets those that it lacks.
    """
    rows = []
    for i, (setting, seed) in enumerate(runs):
        row = {"seed": seed, "setting": setting, **common, **{name: x[i] for name, x in values.items()}}
        cells = {name: cell(value) for name, value in row.items()}
        rows.append({name: text for name, text in cells.items() if text})
    _add(path, rows)


def cell(value: Any) -> str:
    """A number as the text from which it is read back as it was, whole ones with all their digits; NaN is empty."""
    number = float(value)
    if np.isnan(number):
        return ""
    if number.is_integer() and abs(number) < 2**53:
        return str(int(number))
    return str(value if isinstance(value, int | float) else np.float32(value))


def _add(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Add `rows`, `{column: text}` each, at the end of curves.csv."""
    header, whole = _header(path)
    new = [name for name in dict.fromkeys(name for row in rows for name in row) if name not in header]
    added = [[row.get(name, "") for name in [*header, *new]] for row in rows]
    if new or not whole:
        there = [[*row, *[""] * len(new)] for row in _table(path).rows]
        write(path, "curves.csv", lines([[*header, *new], *there, *added]))
    else:
        append(path, "curves.csv", lines(added))


def _header(path: Path) -> tuple[list[str], bool]:
    """`(names of the columns, whether their line is whole)`."""
    with open(path / "curves.csv", newline="", encoding="utf-8-sig") as file:
        line = file.readline()
    return next(csv.reader([line]), []), line.endswith("\n")


def has_rows(curves: Curves, runs: Iterable[Run], steps: Sequence[int]) -> bool:
    """Whether there is just one row of each of `runs` at each of the environment steps `steps`."""
    rows = zip(*(curves[name].tolist() for name in ("setting", "seed", "env_step")), strict=True)
    expected, last = {(*run, step) for run in runs for step in steps}, max(steps)
    runs = set(runs)
    counts = Counter(row for row in rows if row[:2] in runs and row[2] <= last)
    return counts == Counter(expected)


def are_of(curves: Curves, runs: Iterable[Run]) -> Bool[np.ndarray, " rows"]:
    """Which rows tell of `runs`, `[rows]` bool."""
    runs = set(runs)
    return np.array([run in runs for run in zip(curves["setting"], curves["seed"], strict=True)], bool)


def truncate(path: Path, runs: Iterable[Run], env_step: int) -> float:
    """Drop the rows of curves.csv that tell of `runs` after `env_step`, and a last one that was not written whole.

    Returns the wall-clock [s] of the last that stays.
    """
    table = _table(path)
    curves = _numbers(path, table)
    stays = ~are_of(curves, runs) | (curves["env_step"] <= env_step)
    rows = (row for row, kept in zip(table.rows, stays, strict=True) if kept)
    write(path, "curves.csv", lines([table.header, *rows]))
    return np.fmax.reduce(curves["wall_s"][stays], initial=0.0)


def copy_rows(
    source: Path, target: Path, settings: Iterable[int] | None = None, env_step: int | float = np.inf
) -> None:
    """Add to the curves in the folder `target` those of `settings` in `source`, up to `env_step`, numbered anew.

    All settings, under the numbers that they have, where `settings` is None.
    """
    table = _table(source)
    curves = _numbers(source, table)
    there = dict.fromkeys(curves["setting"].astype(int)) if settings is None else settings
    place = {number: number if settings is None else i for i, number in enumerate(there)}
    kept = [
        dict(zip(table.header, row, strict=True)) | {"setting": place[number]}
        for row, number, step in zip(table.rows, curves["setting"], curves["env_step"], strict=True)
        if number in place and step <= env_step
    ]
    _add(target, kept)


def read_curves(path: str | Path) -> Curves:
    """curves.csv as `{column: float array}`; empty cells are NaN, and so are the `COLUMNS` that it does not have.

    Columns of text, which are not purerl's own, are left out. Raises ValueError where it cannot be read.
    """
    return _numbers(path, _table(path))


def measured(curves: Iterable[str]) -> list[str]:
    """The names of the columns that say how a run did: not whose a row is, nor when it was, nor when it diverged."""
    return [name for name in curves if name not in (*KEYS, *CLOCK, "diverged", "environment_nan")]


def _table(path: str | Path) -> Table:
    """The `Table`, without a last row that was being written when the run was killed, and without empty lines."""
    with _readable(path), open(Path(path) / "curves.csv", newline="", encoding="utf-8-sig") as file:
        text = file.read()
        ended, end, _ = text.rpartition("\n")
        found = list(filter(None, csv.reader(io.StringIO(ended if end else text))))
        header, rows = (found or [[]])[0], found[1:]
        for name in header:
            if header.count(name) > 1:
                raise ValueError(f"it has two columns {name!r}")
        for name in KEYS:
            if name not in header:
                raise ValueError(f"it has no column {name!r}")
        for number, row in enumerate(rows, 1):
            if len(row) != len(header):
                raise ValueError(f"row {number} has {len(row)} cells under {len(header)} columns")
        return Table(header, rows)


def _numbers(path: str | Path, table: Table) -> Curves:
    """`{column: [rows]}` of a `Table`."""
    cells = dict(zip(table.header, zip(*table.rows, strict=True), strict=True)) if table.rows else {}
    empty = np.full(len(table.rows), np.nan)
    with _readable(path):
        columns = {name: _column(name, cells.get(name, ())) for name in table.header}
        found = {name: values for name, values in columns.items() if values is not None}
        for name in KEYS:
            if not all(map(float.is_integer, found[name].tolist())):
                raise ValueError(f"{name} is not a whole number in every row")
    return {name: empty for name in COLUMNS} | found


def _column(name: str, cells: Sequence[str]) -> Float[np.ndarray, " rows"] | None:
    """`[rows]` float. None of text, in a column that is not purerl's own."""
    try:
        return np.array([float(text or "nan") for text in cells], float)
    except ValueError as error:
        if name in COLUMNS or any(map(_is_number, cells)):
            raise ValueError(f"{name}: {error}") from None
        return None


def _is_number(text: str) -> bool:
    with suppress(ValueError):
        return bool(text) and bool(np.isfinite(float(text)))
    return False


@contextmanager
def _readable(path: str | Path) -> Iterator[None]:
    """Raises ValueError, in one line, where curves.csv cannot be read or is no table."""
    try:
        yield
    except OSError as error:
        raise ValueError(f"cannot read {path}/curves.csv: {error.strerror}; a run cannot go on without it") from None
    except (ValueError, csv.Error) as error:
        raise ValueError(f"{path}/curves.csv is damaged: {str(error)[:100]}; a run cannot go on without it") from None


def read_settings(path: str | Path) -> list[dict[str, Any]]:
    """What differs from setting to setting, `[{name: value}]`; of a run without a sweep, `[{}]`.

    A population's numbers are those that it began with, and called so: `first_actor_lr`.
    """
    table = tomllib.loads((Path(path) / "run.toml").read_text())
    swept = {f"first_{name}" if "pbt" in table else name: values for name, values in table.get("sweep", {}).items()}
    return [dict(zip(swept, values, strict=True)) for values in zip(*swept.values(), strict=True)] or [{}]


def spoken(setting: Mapping[str, Any]) -> str:
    """`{name: value}` of `read_settings` as it stands in tables and legends."""
    return ", ".join(f"{name} {value:.4g}" for name, value in setting.items())


def per_seed(
    curves: Curves, column: str = "return_mean"
) -> tuple[Float[np.ndarray, " evaluations"], Float[np.ndarray, "evaluations R"]]:
    """`(env_step [evaluations], values [evaluations, R])`; NaN where a run has not come that far."""
    steps, row = np.unique(curves["env_step"], return_inverse=True)
    if not len(steps):
        return steps, np.empty((0, 0))
    runs, place = np.unique(np.stack([curves["setting"], curves["seed"]]), axis=1, return_inverse=True)
    values = np.full((len(steps), runs.shape[1]), np.nan)
    values[row, place.ravel()] = curves[column]
    return steps, values


def of_setting(curves: Curves, setting: int) -> dict[str, Float[np.ndarray, " selected"]]:
    """The rows of one setting."""
    rows = curves["setting"] == setting
    return {name: values[rows] for name, values in curves.items()}


def final(curves: Curves) -> dict[str, Float[np.ndarray, " R"]]:
    """`{column: [R]}`: the last row of each run, in the order of the runs."""
    order = np.lexsort((curves["env_step"], curves["seed"], curves["setting"]))
    runs = np.stack([curves["setting"], curves["seed"]])[:, order]
    last = order[np.append((np.diff(runs) != 0).any(axis=0), True)[: len(order)]]
    return {name: values[last] for name, values in curves.items()}


def log(path: Path, event: str, **facts: Any) -> None:
    """Add a line to log.jsonl."""
    append(path, "log.jsonl", json.dumps({"time": round(time.time(), 3), "event": event, **facts}) + "\n")


def json_number(value: Any) -> float | None:
    """`value` as JSON has it, which knows neither NaN nor infinity: they become None."""
    return float(value) if np.isfinite(value) else None


def write(path: Path, name: str, content: str | bytes) -> None:
    """Write a file whole or not at all, whoever writes it at the same time."""
    scratch = path / f"{name}.{uuid4().hex[:8]}.partial"
    scratch.parent.mkdir(exist_ok=True)
    with open(scratch, "wb") as file:
        file.write(content.encode() if isinstance(content, str) else content)
        file.flush()
        os.fsync(file.fileno())
    os.replace(scratch, path / name)


def append(path: Path, name: str, text: str) -> None:
    """Add to the end of a file, after the last whole line."""
    with open(path / name, "ab+") as file:
        _drop_torn_line(file)
        file.write(text.encode())
        file.flush()
        os.fsync(file.fileno())  # A checkpoint must not outlive the rows from before it.


def write_policy(path: Path, arrays: Mapping[str, Any], group: int | None = None) -> None:
    """Keep a nested dict of arrays, each with a leading axis over runs: those of one group, or of all.

    `env_step` among them tells how far each was trained.
    """
    content = io.BytesIO()
    flat: dict[str, Any] = dict(_flat(arrays))
    np.savez(content, **flat)
    write(path, _policy(group), content.getvalue())


def read_policy(path: str | Path, group: int | None = None) -> dict[str, Any]:
    """What `write_policy` kept, as the nested dict it was."""
    nested = {}
    with np.load(Path(path) / _policy(group), allow_pickle=False) as file:
        for name in file.files:
            *parents, leaf = name.split("/")
            place = nested
            for parent in parents:
                place = place.setdefault(parent, {})
            place[leaf] = file[name]
    return nested


def trained_steps(path: str | Path, group: int | None = None) -> Shaped[np.ndarray, " R"] | None:
    """To which environment step the policy of each run of a group, or of all, was trained, `[R]`.

    None where there is no such policy, or none that is whole.
    """
    try:
        with np.load(Path(path) / _policy(group), allow_pickle=False) as file:
            return file["env_step"]
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        return None


def joined(parts: Iterable[Mapping[str, Any]]) -> dict[str, np.ndarray]:
    """One policy of those of several groups."""
    parts = [dict(_flat(part)) for part in parts]
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def drop_parts(path: Path) -> None:
    """Delete the policies of single groups, once there is the one of all."""
    for file in (path / "policy").glob("actor-*.npz"):
        file.unlink()


def _policy(group: int | None) -> str:
    return POLICY if group is None else f"policy/actor-{group}.npz"


def lines(rows: Iterable[Iterable[Any]]) -> str:
    """`rows` as the text of a CSV file."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue()


def _drop_torn_line(file: BinaryIO) -> None:
    """Cut what follows the last line's end: it was being written when a run was killed."""
    end = file.seek(0, os.SEEK_END)
    while end and file.seek(end - 1) is not None and file.read(1) != b"\n":
        end -= 1
    file.truncate(end)


def _flat(tree: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, np.ndarray]]:
    for name, value in tree.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{name}/")
        else:
            yield f"{prefix}{name}", np.asarray(value)
