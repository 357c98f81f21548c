"""Copy what is worth keeping of a run into another folder: settings, curves and some policies, without checkpoints."""

import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import jax
import numpy as np

from purerl.policies import load
from purerl.policies.kept import Policies
from purerl.results import run_folder
from purerl.results.choice import several, spoken

FILES = ("run.toml", "curves.csv")


def keep(path: Path, target: Path, which: Sequence[str | int], setting: int | None = None) -> list[str]:
    """Copy the run in `path` into the new folder `target`, with the policies that `which` selects.

    Each of `which` is a value as in `choice.several`: a seed, `best`, `median`, `worst` or `all`. Without any, only
    settings and curves are copied. The new folder appears complete or not at all. Returns the names of the policies, in
    the order of the run. Raises ValueError if there is no such policy or setting, if settings or curves cannot be read,
    or if `target` exists and is not an empty folder.
    """
    kept = load.read_policies(path) if which else None
    folder = kept.path if kept else path
    chosen = sorted({index for each in which for index in several(kept, each, setting)}) if kept else []
    if missing := [name for name in FILES if not (folder / name).is_file()]:
        raise ValueError(f"{str(path)!r} is not a run folder: it has no {missing[0]}")
    settings, _ = run_folder.read_settings(folder), run_folder.read_curves(folder)
    if setting is not None and not 0 <= setting < len(settings):
        raise ValueError(f"there is no setting {setting} in {folder}; known: {spoken(range(len(settings)))}")
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise ValueError(f"{str(target)!r} exists; name a new folder")
    target.parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=target.parent, prefix=".purerl-") as scratch:
        new = Path(scratch) / target.name
        new.mkdir()
        for name in FILES:
            shutil.copyfile(folder / name, new / name)
        if kept:
            run_folder.write_policy(new, _some(kept, chosen))
        os.replace(new, target)
    return [kept.name(index) for index in chosen] if kept else []


def _some(kept: Policies, chosen: Sequence[int]) -> Mapping[str, Any]:
    """Return the arrays of the policies `chosen`, as `run_folder.write_policy` takes them."""
    arrays = {"actor": kept.actor, "observation": kept.statistics, "env_step": kept.env_step}
    arrays |= {name: kept.final[name].astype(np.int64) for name in ("setting", "seed")}
    return jax.tree.map(lambda x: x[np.array(chosen)], arrays)
