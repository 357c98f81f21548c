"""Which run a path means: its folder, a file in it, or the folder of one of its checkpoints."""

import os
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from purerl.settings import config

Step = Any  # an environment step, as a user says it; what is no whole number is refused

KEPT = re.compile(r"actor(-\d+)?\.npz")  # what `run_folder.write_policy` wrote
RUNS_OWN = ("run.toml", "curves.csv", "curve.png", "report.html", "log.jsonl", "policy")  # that mean the run


def place(path: str | Path) -> tuple[Path, int | None]:
    """`(folder of the run, number of the checkpoint or None)`: what the user means by `path`. Raises ValueError."""
    path = Path(path).expanduser()
    inside = Path(os.path.abspath(path))
    folder = next((each for each in (inside, *inside.parents) if (each / "run.toml").is_file()), None)
    if folder is None:
        raise ValueError(f"{str(path)!r} is no folder of a run: it has no run.toml; {_remedy(path)}")
    if folder == inside:
        return path, None
    parts = inside.relative_to(folder).parts
    if path.parts[-len(parts) :] == parts and len(parts) <= len(path.parents):
        folder = path.parents[len(parts) - 1]  # as the user called it
    if path.exists() and parts[0] == "checkpoints" and len(parts) > 1 and parts[1].isdecimal():
        return folder, int(parts[1])
    if "/".join(parts) in RUNS_OWN or is_kept(path):
        return folder, None
    what = "is no policy of" if path.exists() else "is not in"
    raise ValueError(f"{str(path)!r} {what} the run {str(folder)!r}; name the run itself{_checkpoints(folder)}")


def _checkpoints(folder: Path) -> str:
    """Its checkpoints, in words."""
    from purerl.policies import from_checkpoint

    there = from_checkpoint.steps(folder, config.resolve({}, folder / "run.toml"))
    named = [f"checkpoints/{number} (step {step})" for step, numbers in there.items() for number in numbers]
    return f", or in it {listed(named)}" if named else ""


def is_kept(path: Path) -> bool:
    """Whether the file `path` is where a run keeps its policies, which is no file that was exported."""
    return bool(KEPT.fullmatch(path.name)) and path.absolute().parent.name == "policy"


def _remedy(path: Path) -> str:
    """What to name instead of a folder that holds no run."""
    if runs := sorted(file.parent.name for file in path.glob("*/run.toml")):
        more = f" and {len(runs) - 5} more" if len(runs) > 5 else ""
        return f"name one of the runs in it: {', '.join(runs[:5])}{more}"
    return f"train one with --out {path}"


def whole(at: Step) -> int:
    """`at` as an environment step. Raises ValueError."""
    try:
        step = float(at)
    except (TypeError, ValueError):
        step = np.nan
    if isinstance(at, bool) or not step.is_integer() or step < 0:
        raise ValueError(f"at is {at!r}, but it should be the environment step of a checkpoint, a whole number")
    return int(step)


def listed(things: Iterable[Any]) -> str:
    names = [str(each) for each in things]
    shown = names if len(names) <= 20 else [*names[:10], "...", *names[-10:]]
    return ", ".join(shown[:-1]) + " or " * (len(shown) > 1) + shown[-1]
