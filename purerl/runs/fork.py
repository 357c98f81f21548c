"""Begin a run from a checkpoint of another one, with some of its settings: how a search goes on after a rung."""

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from purerl.environments.base import Environment
from purerl.errors import Refused
from purerl.results import run_folder
from purerl.runs import checkpoints, claims
from purerl.settings import config
from purerl.settings.schema import Config
from purerl.training import loop


@dataclass(frozen=True)
class Origin:
    """From where a run begins.

    Attributes:
        path: the folder of the other run.
        settings: that run's.
        index: the evaluation after which it begins; `claims.has_come_to` tells whether there is a checkpoint.
        kept: the numbers of the settings that go on.
    """

    path: Path
    settings: Config
    index: int
    kept: Sequence[int]


def fork(origin: Origin, target: Path, settings: Config, env: Environment) -> None:
    """Begin the run with `settings`, in the folder `target`, where `origin` says.

    Both train all their runs at once. Raises Refused where there is no whole checkpoint.
    """
    scratch = target.with_name(f".{target.name}.partial")
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.mkdir(parents=True)
    claims.create_run(scratch, settings, env)
    computations = [config.computation(each) for each in (origin.settings, settings)]
    try:
        checkpoints.fork(origin.path, scratch, origin.index, _rows(origin), computations)
    except checkpoints.Damaged as error:
        raise Refused(
            f"{origin.path} has no whole checkpoint {origin.index}: {error}; the same command makes it again"
        ) from None
    run_folder.copy_rows(origin.path, scratch, origin.kept, loop.env_steps(settings.plan, origin.index))
    scratch.rename(target)


def _rows(origin: Origin) -> list[int]:
    """Which runs of a checkpoint go on."""
    runs = origin.settings.runs
    return [runs.index((setting, seed)) for setting in origin.kept for seed in dict.fromkeys(s for _, s in runs)]
