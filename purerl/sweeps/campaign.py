"""A sweep on disk. Each of its programs is a run folder. Finished programs are kept, and the others are resumed.

runs/SWEEP/sweep.toml     what its programs compute
runs/SWEEP/PROGRAM/       one run folder per program (run_folder.py)
runs/SWEEP/table.csv      one row per program and setting
runs/SWEEP/figure.png     the learning curves
runs/SWEEP/report.html    the page of the sweep
"""

import fcntl
import time
import traceback
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import tomli_w

from purerl.environments.base import Environment
from purerl.errors import Refused, closest
from purerl.policies import videos
from purerl.results import comparison, page, run_folder
from purerl.runs import claims, fitting, memory, runner, summary
from purerl.runs.display import Display
from purerl.settings import config, schema
from purerl.settings.kinds import Table
from purerl.settings.sweep_file import Program
from purerl.sweeps import hosts
from purerl.sweeps import search as searching
from purerl.types import Constructor

KEPT = "sweep.toml"


@dataclass(frozen=True)
class SweepTask:
    """One program of a sweep, ready to run in its folder."""

    name: str
    path: Path
    settings: schema.Config
    env: Environment
    build: Constructor
    complete: bool


def make_tasks(
    path: Path, programs: Sequence[Program], search: Table | None = None, host: hosts.Host | None = None
) -> list[SweepTask]:
    """Return a `SweepTask` for each of `programs`, in the folder `path` of a sweep.

    `search` is the table [search] of the sweep. With a `hosts.Host`, this process trains its share of each program.
    Raises ValueError for every error that can be found before compiling. Nothing is written.
    """
    run_folder.check_writable(path)
    if (path / KEPT).is_file():
        check_same_sweep(path, identity(programs, search))
    elif not run_folder.is_free(path):
        raise ValueError(f"out {str(path)!r} exists already and holds no sweep; name another folder, or delete it")
    return [_task(path / program.name, program, host) for program in programs]


def identity(programs: Sequence[Program], search: Table | None = None) -> Table:
    """Return what determines the results of a sweep, as sweep.toml stores it."""
    computations = {program.name: config.computation(program.settings) for program in programs}
    return {"programs": computations} | ({"search": search} if search else {})


def check_same_sweep(path: Path, here: Table) -> None:
    """Raise ValueError if the folder `path` holds a sweep whose `identity` is not `here`."""
    there, other = config.read_toml(path / KEPT), f"{path} holds another sweep"
    ours, theirs = here["programs"], there.get("programs", {})
    if lacking := [name for name in theirs | ours if (name in theirs) != (name in ours)]:
        place = "in the folder" if lacking[0] in theirs else "in this sweep"
        raise ValueError(f"{other}: program {lacking[0]!r} is only {place}; name another folder with --out")
    for name in ours:
        if differs := config.differences(theirs[name], ours[name]):
            raise ValueError(f"{other}: in program {name!r} {differs}; name another folder with --out")
    if searching.with_defaults(there.get("search")) != searching.with_defaults(here.get("search")):
        raise ValueError(f"{other}: its [search] differs from this one; name another folder with --out")


def _task(path: Path, program: Program, host: hosts.Host | None) -> SweepTask:
    claim = hosts.claim if host else claims.claim
    try:
        env, build = videos.prepare(program.settings, path)
        settings, complete = claim(path, program.settings)
    except ValueError as error:
        raise ValueError(f"program {program.name!r}: {error}") from None
    return SweepTask(program.name, path, settings, env, build, complete)


def chosen(tasks: Sequence[SweepTask], names: Sequence[str]) -> list[SweepTask]:
    """Return the `tasks` with the given names, or numbers from 0. Raises ValueError for an unknown name."""
    known = [task.name for task in tasks]
    names = [known[int(name)] if name.isdecimal() and int(name) < len(known) else name for name in names]
    for name in names:
        if name not in known:
            raise ValueError(f"the sweep has no program {name!r}{closest(name, known)}")
    return [task for task in tasks if task.name in names]


def create(path: Path, programs: Sequence[Program], search: Table | None = None) -> None:
    """Make the folder of a sweep, or leave it unchanged if it exists."""
    path.mkdir(parents=True, exist_ok=True)
    if not (path / KEPT).is_file():
        run_folder.write(path, KEPT, tomli_w.dumps(identity(programs, search)))


def run_tasks(
    tasks: Sequence[SweepTask], display: Display, time_limit: float | None = None, host: hosts.Host | None = None
) -> tuple[dict[str, str], str | None]:
    """Run the tasks that are not complete, one after another. A `hosts.Host` trains its share of each.

    `time_limit` [s] is for all tasks together. Returns `({name: error} of the tasks that failed, why it ended early or
    None)`.
    """
    begun, asked = time.monotonic(), None
    failed: dict[str, str] = {}
    for number, task in enumerate(tasks, 1):
        heading = f"program {number} of {len(tasks)}, {task.name}"
        if task.complete:
            display.say(f"{heading}: complete already")
            continue
        if asked:  # The request came too late to stop the program before.
            return failed, asked
        settings = task.settings
        display.say(f"{heading}: {settings.job.algo} on {task.env.name}, {summary.size(settings)}, into {task.path}")
        if time_limit is not None:
            rest = max(1e-3, time_limit - (time.monotonic() - begun))
            settings = replace(settings, keep=replace(settings.keep, time_limit=rest))
        try:
            interrupted, asked = _run(replace(task, settings=settings), Display(display.console), host)
        except Exception as error:  # The other programs run whatever happens to one.
            failed[task.name] = (str(error).splitlines() or [type(error).__name__])[0]
            display.say(f"program {task.name} failed: {failed[task.name]}")
            if run_folder.has_begun(task.path) and not isinstance(error, Refused):  # Another process may own the log.
                with suppress(OSError):
                    run_folder.log(task.path, "failed", error=traceback.format_exc())
            continue
        if interrupted:
            return failed, interrupted
    return failed, None


def _run(task: SweepTask, display: Display, host: hosts.Host | None) -> tuple[str | None, str | None]:
    """Return why the task ended early and why it was asked to end early. Each may be None."""
    if host is not None and task.settings.pbt:
        raise ValueError("[pbt] compares all settings, so it cannot be shared by several processes")
    if host is not None:
        early = hosts.run_share(task.settings, task.env, task.build, task.path, display, host)
        return early, early
    listeners = videos.listeners(task.settings, task.env)
    outcome = runner.run(task.settings, task.env, task.build, task.path, display, listeners=listeners)
    return outcome.interrupted, outcome.asked


def all_diverged(tasks: Sequence[SweepTask]) -> bool:
    """Return whether there are runs, and all runs of all tasks have diverged."""
    finals = [run_folder.final(run_folder.read_curves(task.path)) for task in tasks if run_folder.has_begun(task.path)]
    lost = [run for final in finals for run in ~np.isnan(final["diverged"])]
    return bool(lost) and all(lost)


def write_comparison(path: Path, tasks: Sequence[SweepTask], display: Display) -> None:
    """Write table.csv and figure.png of the existing runs, and print the best settings."""
    several = len(tasks) > 1
    lines = [
        line
        for task in tasks
        if run_folder.has_begun(task.path)
        for line in comparison.lines(task.path, task.env.name, task.name if several else "")
    ]
    if not lines:
        return
    with open(path / KEPT) as file:
        fcntl.flock(file, fcntl.LOCK_EX)  # Other processes may compare at the same time.
        comparison.write_comparison(path, lines)
        page.write_page(path)
    best = [(line.label or line.env, summary.spread(np.sort(line.final))) for line in comparison.ranked(lines)[:20]]
    display.table(f"final return: min / IQM / max of the best {len(best)} of {len(lines)} settings", best)
    display.say(f"all of them: {path / 'table.csv'}, {path / 'figure.png'}")


def show_plan(tasks: Sequence[SweepTask], display: Display, programs: Sequence[str]) -> None:
    """Print what would be run, and in which groups. `programs` are the names of all programs, in order.

    Programs are compiled only if the groups are "auto", because they then depend on the memory.
    """
    rows = []
    for task in tasks:
        free = memory.available(fitting.num_devices(task.settings, task.settings.num_runs))
        settings, needs = fitting.expected(task.settings, task.env, task.build, free)
        rows.append(
            (
                str(programs.index(task.name)),
                task.name,
                str(settings.num_settings),
                str(settings.job.num_seeds),
                str(settings.num_runs),
                f"{settings.num_runs // settings.group_size} x {settings.group_size}",
                f"{needs.total / 2**20:,.1f}",
                "complete" if task.complete else "begun" if run_folder.has_begun(task.path) else "new",
            )
        )
    names = ("", "program", "settings", "seeds", "runs", "groups", "memory [MiB]", "")
    runs = sum(task.settings.num_runs for task in tasks)
    free = memory.available(1) / 2**20
    display.columns(f"{len(tasks)} programs, {runs} runs; {free:,.0f} MiB available", names, rows)
    display.say("memory is what one group keeps during training; the working memory of its programs is not included")
