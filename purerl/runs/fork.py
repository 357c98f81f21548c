"""Start a run from a checkpoint of another run, with some of its settings. A search does this after a rung."""

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from purerl.environments.base import Environment
from purerl.errors import Refused
from purerl.results import run_folder
from purerl.runs import checkpoints, claims, warm_start
from purerl.settings import config
from purerl.settings.schema import Config
from purerl.training import loop


@dataclass(frozen=True)
class Origin:
    """The checkpoint from which a run starts.

    Attributes:
        path: the folder of the other run.
        settings: the settings of the other run.
        index: the evaluation after which the run starts; `claims.has_come_to` tells whether there is a checkpoint.
        kept: the numbers of the settings that continue.
    """

    path: Path
    settings: Config
    index: int
    kept: Sequence[int]


def fork(origin: Origin, target: Path, settings: Config, env: Environment) -> None:
    """Start the run with `settings` in the folder `target` from the checkpoint of `origin`.

    Both runs train all their settings and seeds at once. Raises Refused if there is no undamaged checkpoint.
    """
    scratch = target.with_name(f".{target.name}.partial")
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.mkdir(parents=True)
    claims.create_run(scratch, settings, env, init=warm_start.recorded(origin.path))
    computations = [config.computation(each) for each in (origin.settings, settings)]
    try:
        checkpoints.fork(origin.path, scratch, origin.index, _rows(origin), computations)
    except checkpoints.Damaged as error:
        raise Refused(
            f"{origin.path} has no undamaged checkpoint {origin.index}: {error}; the same command writes it again"
        ) from None
    run_folder.copy_rows(origin.path, scratch, origin.kept, loop.env_steps(settings.plan, origin.index))
    scratch.rename(target)


def _rows(origin: Origin) -> list[int]:
    """Return the rows of a checkpoint that continue."""
    runs = origin.settings.runs
    return [runs.index((setting, seed)) for setting in origin.kept for seed in dict.fromkeys(s for _, s in runs)]
