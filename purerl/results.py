"""The folder of a run: written as the run goes, read by whoever draws. No JAX here.

run.toml       the resolved settings, and under [record] versions, device, commit and date
curves.csv     a row per evaluation and seed
curve.png      their picture
log.jsonl      what happened, a line each
    checkpoints/   the whole state of the run, to go on from
policy/        the actors of all seeds, and the statistics that normalise their observations
"""

import csv
import io
import json
import os
import time
from pathlib import Path

import numpy as np

COLUMNS = ("seed", "setting", "env_step", "update", "wall_s", "return_mean", "return_std", "episode_length")
METRICS = ("critic_loss", "q", "actor_loss", "alpha", "entropy")
POLICY = "policy/actor.npz"


def create(path):
    """Make the folder of a run. Raises ValueError where there is something already, or where it cannot be written."""
    if not str(path):
        raise ValueError("out is empty; name a folder")
    path = Path(path).expanduser()
    try:
        if path.exists() and (not path.is_dir() or any(path.iterdir())):
            raise ValueError(
                f"out {str(path)!r} exists already; runs are never overwritten: name another, or delete it"
            )
        (path / "policy").mkdir(parents=True, exist_ok=True)
        with open(path / "curves.csv", "w", newline="") as file:
            csv.writer(file).writerow(COLUMNS + METRICS)
    except OSError as error:
        raise ValueError(f"out {str(path)!r} cannot be written: {error.strerror}; name a folder that can") from None
    return path


def append_evaluation(path, seeds, common, values):
    """Add a row per seed to curves.csv: `common` holds for all, `values` is `{column: [R]}`; the rest stays empty."""
    with open(path / "curves.csv", "a", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS + METRICS, restval="")
        for i, seed in enumerate(seeds):
            writer.writerow({"seed": seed, **common, **{name: f"{x[i]:.7g}" for name, x in values.items()}})


def is_complete(path, total_steps):
    """Whether a run went to its end and kept its policy. Raises ValueError where its curves are gone."""
    try:
        return (Path(path) / POLICY).exists() and read_curves(path)["env_step"].max(initial=0) >= total_steps
    except OSError as error:
        raise ValueError(f"cannot read {path}/curves.csv: {error.strerror}; a run cannot go on without it") from None


def truncate(path, env_step):
    """Drop the rows of curves.csv that come after `env_step`. Returns the wall-clock [s] of the last that stays."""
    with open(path / "curves.csv", newline="") as file:
        header, *rows = csv.reader(file)
    step, wall = header.index("env_step"), header.index("wall_s")
    rows = [row for row in rows if len(row) == len(header) and int(row[step]) <= env_step]
    text = io.StringIO()
    csv.writer(text).writerows([header, *rows])
    write(path, "curves.csv", text.getvalue())
    return float(rows[-1][wall]) if rows else 0.0


def read_curves(path):
    """curves.csv as `{column: float array}`; empty cells are NaN."""
    with open(Path(path) / "curves.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    return {name: np.array([float(row[name] or "nan") for row in rows]) for name in COLUMNS + METRICS}


def per_seed(curves, column="return_mean"):
    """`(env_step [evaluations], values [evaluations, R])`."""
    steps, where = np.unique(curves["env_step"], return_inverse=True)
    return steps, np.stack([curves[column][where == i] for i in range(len(steps))])


def log(path, event, **facts):
    """Add a line to log.jsonl."""
    with open(path / "log.jsonl", "a") as file:
        file.write(json.dumps({"time": round(time.time(), 3), "event": event, **facts}) + "\n")


def write(path, name, content):
    """Write a file whole or not at all."""
    scratch = path / f"{name}.partial"
    scratch.write_bytes(content.encode() if isinstance(content, str) else content)
    os.replace(scratch, path / name)


def write_policy(path, arrays):
    """Keep a nested dict of arrays, each with a leading axis over seeds."""
    scratch = path / f"{POLICY}.partial"
    with open(scratch, "wb") as file:
        np.savez(file, **dict(_flat(arrays)))
    os.replace(scratch, path / POLICY)


def read_policy(path):
    """What `write_policy` kept, as the nested dict it was."""
    nested = {}
    with np.load(Path(path) / POLICY, allow_pickle=False) as file:
        for name in file.files:
            *parents, leaf = name.split("/")
            place = nested
            for parent in parents:
                place = place.setdefault(parent, {})
            place[leaf] = file[name]
    return nested


def _flat(tree, prefix=""):
    for name, value in tree.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{name}/")
        else:
            yield f"{prefix}{name}", np.asarray(value)
