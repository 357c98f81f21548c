"""The folder of a run. Training writes it, and the analysis reads it. No JAX here.

run.toml       the resolved settings, and under [record] versions, device, commit and date
curves.csv     one row per evaluation and run. `setting` is the index into the lists under [sweep] in run.toml.
               Columns are found by name, in any order. Unknown columns are kept. A column that is missing in an older
               folder is empty. The metrics of the algorithm follow COLUMNS.
curve.png      figure of the learning curves
report.html    report page
log.jsonl      events of the run, one per line
videos/        films of the best seed, if they are asked for
checkpoints/   the whole state of the run, to resume from
policy/        the actors of all runs, and the statistics that normalize their observations

A run is a pair (setting, seed). The runs of one setting are adjacent, in the order of their seeds.
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

Curves = dict[str, Float[np.ndarray, " rows"]]  # the columns of curves.csv, by name
Run = tuple[int, int]  # setting, seed

COLUMNS = ("seed", "setting", "env_step", "update", "wall_s", "return_mean", "return_std", "episode_length", "diverged")
COLUMNS += ("environment_nan", "dropped")
KEYS = ("seed", "setting", "env_step")  # required columns
CLOCK = ("env_step", "update", "wall_s")
POLICY = "policy/actor.npz"
LEFT = re.compile(r"(run|sweep)\.toml\.\w+\.partial")  # left by `write` if the process died


class Table(NamedTuple):
    """curves.csv as text: the names of the columns, and the rows with one cell per column."""

    header: list[str]
    rows: list[list[str]]


def create(path: Path, settings: str, metrics: Sequence[str] = ()) -> None:
    """Start a run folder: write run.toml with the text `settings`, and curves.csv with the columns of `metrics`."""
    write(path, "run.toml", settings)
    write(path, "curves.csv", lines([[*COLUMNS, *metrics]]))


def check_writable(path: Path) -> None:
    """Raise ValueError if no folder can be created at `path`."""
    try:
        above = next(folder for folder in (path, *path.absolute().parents) if folder.exists())
        with TemporaryDirectory(dir=above, prefix=".purerl-") as trial:
            Path(trial, Path(os.path.abspath(path)).name).mkdir()
    except OSError as error:
        raise ValueError(f"out {str(path)!r} cannot be written: {error.strerror}; name a writable folder") from None


def is_free(path: Path) -> bool:
    """Return whether `path` is free for a new run or sweep.

    It is free if it is empty, or contains only files of a run or sweep that died before it was created.
    """
    if not path.exists():
        return True
    left = [file for file in path.iterdir() if not LEFT.fullmatch(file.name)]
    return all(file.name == "log.jsonl" and file.stat().st_size == 0 for file in left)


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Create the folder `path` and lock it for this process. Raises Refused if another process holds the lock."""
    path.mkdir(parents=True, exist_ok=True)
    with open(path / "log.jsonl", "a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise Refused(f"another process is running in {path}; wait for it, or name another folder") from None
        yield


def has_begun(path: Path) -> bool:
    """Return whether the run in `path` was created completely."""
    return (path / "curves.csv").exists() or (path / "checkpoints").exists()


def append_evaluation(
    path: Path, runs: Iterable[Run], common: Mapping[str, Any], values: Mapping[str, Shaped[np.ndarray, " R"]]
) -> None:
    """Add one row per run to curves.csv.

    `common` is `{column: value}` for all runs. `values` is `{column: [R]}`, where NaN stands for no value. The file
    keeps its columns. Missing columns are added.
    """
    rows = []
    for i, (setting, seed) in enumerate(runs):
        row = {"seed": seed, "setting": setting, **common, **{name: x[i] for name, x in values.items()}}
        cells = {name: cell(value) for name, value in row.items()}
        rows.append({name: text for name, text in cells.items() if text})
    _add(path, rows)


def cell(value: Any) -> str:
    """Return a number as text that reads back as the same number. Whole numbers have all digits, and NaN is empty."""
    number = float(value)
    if np.isnan(number):
        return ""
    if number.is_integer() and abs(number) < 2**53:
        return str(int(number))
    return str(value if isinstance(value, int | float) else np.float32(value))


def _add(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Append `rows`, each `{column: text}`, to curves.csv."""
    header, whole = _header(path)
    new = [name for name in dict.fromkeys(name for row in rows for name in row) if name not in header]
    added = [[row.get(name, "") for name in [*header, *new]] for row in rows]
    if new or not whole:
        there = [[*row, *[""] * len(new)] for row in _table(path).rows]
        write(path, "curves.csv", lines([[*header, *new], *there, *added]))
    else:
        append(path, "curves.csv", lines(added))


def _header(path: Path) -> tuple[list[str], bool]:
    """Return `(names of the columns, whether the header line is complete)`."""
    with open(path / "curves.csv", newline="", encoding="utf-8-sig") as file:
        line = file.readline()
    return next(csv.reader([line]), []), line.endswith("\n")


def has_rows(curves: Curves, runs: Iterable[Run], steps: Sequence[int]) -> bool:
    """Return whether each of `runs` has exactly one row at each of the environment steps `steps`."""
    rows = zip(*(curves[name].tolist() for name in ("setting", "seed", "env_step")), strict=True)
    expected, last = {(*run, step) for run in runs for step in steps}, max(steps)
    runs = set(runs)
    counts = Counter(row for row in rows if row[:2] in runs and row[2] <= last)
    return counts == Counter(expected)


def are_of(curves: Curves, runs: Iterable[Run]) -> Bool[np.ndarray, " rows"]:
    """Return which rows belong to `runs`, `[rows]` bool."""
    runs = set(runs)
    return np.array([run in runs for run in zip(curves["setting"], curves["seed"], strict=True)], bool)


def truncate(path: Path, runs: Iterable[Run], env_step: int) -> float:
    """Delete the rows of `runs` after `env_step` from curves.csv, and an incomplete last row.

    Returns the wall-clock time [s] of the last row that stays.
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
    """Append the curves of `settings` in the folder `source`, up to `env_step`, to those in the folder `target`.

    The settings are renumbered from 0. If `settings` is None, all settings are copied with their numbers.
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
    """Return curves.csv as `{column: float array}`. Empty cells and missing `COLUMNS` are NaN.

    Text columns, which purerl does not write, are left out. Raises ValueError if the file cannot be read.
    """
    return _numbers(path, _table(path))


def measured(curves: Iterable[str]) -> list[str]:
    """Return the names of the columns that measure a run: all except identity, clock and divergence."""
    return [name for name in curves if name not in (*KEYS, *CLOCK, "diverged", "environment_nan")]


def _table(path: str | Path) -> Table:
    """Return the `Table` without empty lines, and without a last row that was incomplete when the run was killed."""
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
    """Return `{column: [rows]}` of a `Table`."""
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
    """Return a column as float `[rows]`. Returns None for text in a column that purerl does not write."""
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
    """Raise ValueError with a message of one line if curves.csv cannot be read or is not a table."""
    try:
        yield
    except OSError as error:
        raise ValueError(f"cannot read {path}/curves.csv: {error.strerror}; a run cannot resume without it") from None
    except (ValueError, csv.Error) as error:
        raise ValueError(f"{path}/curves.csv is damaged: {str(error)[:100]}; a run cannot resume without it") from None


def read_settings(path: str | Path) -> list[dict[str, Any]]:
    """Return `[{name: value}]`, the hyperparameters that differ between settings. Without a sweep, return `[{}]`.

    For population-based training, these are the initial values. Their names start with `first_`: `first_actor_lr`.
    Raises ValueError if they are not equally many.
    """
    table = tomllib.loads((Path(path) / "run.toml").read_text())
    swept = {f"first_{name}" if "pbt" in table else name: values for name, values in table.get("sweep", {}).items()}
    if len(set(map(len, swept.values()))) > 1:
        raise ValueError(f"{Path(path) / 'run.toml'} has lists of different lengths under [sweep]")
    return [dict(zip(swept, values, strict=True)) for values in zip(*swept.values(), strict=True)] or [{}]


def spoken(setting: Mapping[str, Any]) -> str:
    """Return a setting of `read_settings` as text for tables and legends, for example `actor_lr 0.001`."""
    return ", ".join(f"{name} {value:.4g}" for name, value in setting.items())


def per_seed(
    curves: Curves, column: str = "return_mean"
) -> tuple[Float[np.ndarray, " evaluations"], Float[np.ndarray, "evaluations R"]]:
    """Return `(env_step [evaluations], values [evaluations, R])`. NaN where a run has no evaluation."""
    steps, row = np.unique(curves["env_step"], return_inverse=True)
    if not len(steps):
        return steps, np.empty((0, 0))
    runs, place = np.unique(np.stack([curves["setting"], curves["seed"]]), axis=1, return_inverse=True)
    values = np.full((len(steps), runs.shape[1]), np.nan)
    values[row, place.ravel()] = curves[column]
    return steps, values


def of_setting(curves: Curves, setting: int) -> dict[str, Float[np.ndarray, " selected"]]:
    """Return the rows of one setting."""
    rows = curves["setting"] == setting
    return {name: values[rows] for name, values in curves.items()}


def final(curves: Curves) -> dict[str, Float[np.ndarray, " R"]]:
    """Return `{column: [R]}`: the last row of each run, in the order of the runs."""
    order = np.lexsort((curves["env_step"], curves["seed"], curves["setting"]))
    runs = np.stack([curves["setting"], curves["seed"]])[:, order]
    last = order[np.append((np.diff(runs) != 0).any(axis=0), True)[: len(order)]]
    return {name: values[last] for name, values in curves.items()}


def log(path: Path, event: str, **facts: Any) -> None:
    """Append an event to log.jsonl."""
    append(path, "log.jsonl", json.dumps({"time": round(time.time(), 3), "event": event, **facts}) + "\n")


def json_number(value: Any) -> float | None:
    """Return `value` as a float for JSON. NaN and infinity, which JSON does not support, become None."""
    return float(value) if np.isfinite(value) else None


def write(path: Path, name: str, content: str | bytes) -> None:
    """Write a file atomically, also if several processes write it at the same time."""
    scratch = path / f"{name}.{uuid4().hex[:8]}.partial"
    scratch.parent.mkdir(exist_ok=True)
    with open(scratch, "wb") as file:
        file.write(content.encode() if isinstance(content, str) else content)
        file.flush()
        os.fsync(file.fileno())
    os.replace(scratch, path / name)


def append(path: Path, name: str, text: str) -> None:
    """Append text to a file, after its last complete line."""
    with open(path / name, "ab+") as file:
        _drop_torn_line(file)
        file.write(text.encode())
        file.flush()
        os.fsync(file.fileno())  # Rows must be on disk before the checkpoint that follows them.


def write_policy(path: Path, arrays: Mapping[str, Any], group: int | None = None) -> None:
    """Write the policies of one group of runs, or of all runs.

    `arrays` is a nested dict of arrays with a leading axis over runs. Its `env_step` is the environment step of each
    policy.
    """
    content = io.BytesIO()
    flat: dict[str, Any] = dict(_flat(arrays))
    np.savez(content, **flat)
    write(path, _policy(group), content.getvalue())


def read_policy(path: str | Path, group: int | None = None) -> dict[str, Any]:
    """Return the nested dict that `write_policy` wrote."""
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
    """Return the environment step of the policy of each run of a group, or of all runs, `[R]`.

    Returns None if the file is missing or damaged.
    """
    try:
        with np.load(Path(path) / _policy(group), allow_pickle=False) as file:
            return file["env_step"]
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        return None


def joined(parts: Iterable[Mapping[str, Any]]) -> dict[str, np.ndarray]:
    """Return the policies of several groups as one."""
    parts = [dict(_flat(part)) for part in parts]
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def drop_parts(path: Path) -> None:
    """Delete the policy files of single groups. Call it after the policies of all runs have been written."""
    for file in (path / "policy").glob("actor-*.npz"):
        file.unlink()


def _policy(group: int | None) -> str:
    return POLICY if group is None else f"policy/actor-{group}.npz"


def lines(rows: Iterable[Iterable[Any]]) -> str:
    """Return `rows` as the text of a CSV file."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue()


def _drop_torn_line(file: BinaryIO) -> None:
    """Remove an incomplete last line, which remains if a run is killed while writing."""
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
