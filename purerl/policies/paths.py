"""Find the run that a path belongs to: the run folder, a file in it, or the folder of one of its checkpoints."""

import os
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from purerl.settings import config

Step = Any  # an environment step from a user. Values that are not whole numbers are refused.

KEPT = re.compile(r"actor(-\d+)?\.npz")  # files of `run_folder.write_policy`
RUNS_OWN = ("run.toml", "curves.csv", "curve.png", "report.html", "log.jsonl", "policy")  # they stand for the run


def place(path: str | Path) -> tuple[Path, int | None]:
    """Return `(run folder, number of the checkpoint or None)` for `path`. Raises ValueError if it belongs to no run."""
    path = Path(path).expanduser()
    inside = Path(os.path.abspath(path))
    folder = next((each for each in (inside, *inside.parents) if (each / "run.toml").is_file()), None)
    if folder is None:
        raise ValueError(f"{str(path)!r} is not a run folder: it has no run.toml; {_remedy(path)}")
    if folder == inside:
        return path, None
    parts = inside.relative_to(folder).parts
    if path.parts[-len(parts) :] == parts and len(parts) <= len(path.parents):
        folder = path.parents[len(parts) - 1]  # as the user wrote it
    if path.exists() and parts[0] == "checkpoints" and len(parts) > 1 and parts[1].isdecimal():
        return folder, int(parts[1])
    if "/".join(parts) in RUNS_OWN or is_kept(path):
        return folder, None
    what = "is not a policy of" if path.exists() else "is not in"
    raise ValueError(f"{str(path)!r} {what} the run {str(folder)!r}; give the run folder{_checkpoints(folder)}")


def _checkpoints(folder: Path) -> str:
    """Return a text that lists the checkpoints of the run, or an empty string."""
    from purerl.policies import from_checkpoint

    there = from_checkpoint.steps(folder, config.resolve({}, folder / "run.toml"))
    named = [f"checkpoints/{number} (step {step})" for step, numbers in there.items() for number in numbers]
    return f", or in it {listed(named)}" if named else ""


def is_kept(path: Path) -> bool:
    """Return whether `path` is a policy file of a run, not an exported file."""
    return bool(KEPT.fullmatch(path.name)) and path.absolute().parent.name == "policy"


def _remedy(path: Path) -> str:
    """Return the remedy for a folder that contains no run."""
    if runs := sorted(file.parent.name for file in path.glob("*/run.toml")):
        more = f" and {len(runs) - 5} more" if len(runs) > 5 else ""
        return f"give one of the runs in it: {', '.join(runs[:5])}{more}"
    return f"train a run with --out {path}"


def whole(at: Step) -> int:
    """Return `at` as an environment step. Raises ValueError if it is not a whole number of at least 0."""
    try:
        step = float(at)
    except (TypeError, ValueError):
        step = np.nan
    if isinstance(at, bool) or not step.is_integer() or step < 0:
        raise ValueError(f"at is {at!r}, but it must be the environment step of a checkpoint, a whole number")
    return int(step)


def listed(things: Iterable[Any]) -> str:
    """Return `things` as text, joined by commas and `or`. Of more than 20, the first 10 and the last 10."""
    names = [str(each) for each in things]
    shown = names if len(names) <= 20 else [*names[:10], "...", *names[-10:]]
    return ", ".join(shown[:-1]) + " or " * (len(shown) > 1) + shown[-1]
