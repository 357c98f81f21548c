"""Check and start a run: what the command `purerl train` and the function `purerl.train` share."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from purerl import jax_flags
from purerl.cli.startup import tune_cpu, use_compilation_cache
from purerl.environments.base import Environment
from purerl.policies import videos
from purerl.results import naming, run_folder
from purerl.runs import claims, extending, runner, summary
from purerl.runs.display import Display
from purerl.runs.events import Listener
from purerl.runs.outcome import RunOutcome
from purerl.settings.schema import Config
from purerl.types import Constructor


class Claimed(NamedTuple):
    """A run that is ready to start.

    Attributes:
        settings: its settings.
        env: its environment.
        build: the constructor of its algorithm.
        path: its folder. None: only the memory is planned.
        unnamed: whether the folder has the default name. Then a free name is taken.
        longer: whether the run in the folder is made longer.
        complete: whether there is nothing left to train.
    """

    settings: Config
    env: Environment
    build: Constructor
    path: Path | None
    unnamed: bool
    longer: bool = False
    complete: bool = False


def set_up_jax(compilation_cache: str | None = None) -> None:
    """Set JAX up for the whole process, as the command line does. Call it before JAX computes anything.

    - JAX's global flags are set as purerl needs them, with one line on stderr for each flag that is changed.
    - Compiled programs are kept in the folder `compilation_cache`. The default is `JAX_COMPILATION_CACHE_DIR`, or
      ~/.cache/purerl/xla. "none" sets no folder.
    - On a CPU, each core becomes a device of JAX, and random numbers are drawn by faster code.

    Raises ValueError if the cache cannot be written.
    """
    folder = compilation_cache or os.environ.get("JAX_COMPILATION_CACHE_DIR", "~/.cache/purerl/xla")
    jax_flags.settle()
    use_compilation_cache(folder)
    tune_cpu()


def claimed(
    settings: Config,
    path: Path,
    *,
    resumes: bool = False,
    unnamed: bool = False,
    only_planned: bool = False,
    total_steps: int | None = None,
    rescale_schedules: bool = False,
    may_be_complete: bool = False,
) -> Claimed:
    """Return the run with `settings`, ready to start in the folder `path`.

    An unfinished run in the folder is continued if it has the same settings. `resumes` is whether the folder must hold
    a run. `total_steps` makes that run longer. `rescale_schedules` is whether its schedules may follow the new length.
    Raises ValueError for every error that is found before compiling, and for a complete run, unless it
    `may_be_complete`.
    """
    before, longer = settings, False
    if total_steps is not None and total_steps != settings.plan.total_steps:
        settings, longer = extending.longer(path, settings, total_steps), True
    if not resumes:
        run_folder.check_writable(path)
    env, build = videos.prepare(settings, path)
    if only_planned:
        return Claimed(settings, env, build, None, False)
    if longer:
        extending.check(path, before, settings, env, build, rescale_schedules)
    settings, complete = claims.claim(path, settings, longer=longer)
    if complete and not may_be_complete:
        more = "every seed has diverged" if longer else "make it longer with --resume and --total-steps"
        raise ValueError(f"the run in {str(path)!r} is complete already; {more}, or choose another folder")
    return Claimed(settings, env, build, path, unnamed, longer, complete)


def named(run: Claimed) -> Path:
    """Return the folder of a run. Under the default name, it is made new, with a free name."""
    assert run.path is not None
    return naming.fresh(run.path) if run.unnamed else run.path


def carried_out(run: Claimed, path: Path, display: Display, listeners: Sequence[Listener] = ()) -> RunOutcome:
    """Train in the folder `path`, and return the outcome. Raises what `runner.run` raises."""
    settings, env = run.settings, run.env
    display.say(f"{settings.job.algo} on {env.name}, {summary.size(settings)}, into {path}")
    called = [*listeners, *videos.listeners(settings, env)]
    return runner.run(settings, env, run.build, path, display, listeners=called, longer=run.longer)
