"""Run the programs of a sweep on other machines: as tasks of a Ray cluster, or as SLURM jobs through submitit.

Every program is one `python -m purerl.sweep FILE --only PROGRAM` in the folder of the sweep, which all machines must be
able to access. A program that dies is started again and resumes from its checkpoints. A program in whose folder another
process still runs is left alone.
"""

import importlib.util
import logging
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from purerl.errors import how_to_install
from purerl.results import run_folder
from purerl.results.statistics import iqm
from purerl.runs.display import Display
from purerl.sweeps.campaign import SweepTask

Command = Callable[[list[str]], int]
RETRIES = 3
PACKAGES = {"ray": "ray", "slurm": "submitit"}


class Launch(NamedTuple):
    """How the programs of a sweep are started.

    Attributes:
        launcher: "ray" or "slurm".
        main: the main function of the sweep command, `(words) -> exit status`. Workers import it by its name.
        words: the command line that all programs have in common.
        gpus: the GPUs of each program, or None for the launcher's default.
    """

    launcher: str
    main: Command
    words: list[str]
    gpus: float | None = None


def refuse_unusable(
    launcher: str | None, gpus: float | None, time_limit: float | None, coordinator: str | None
) -> None:
    """Raise ValueError if the launcher is not installed, or if an option cannot be used with it.

    `launcher` is None if there is no launcher.
    """
    if launcher is None:
        if gpus is not None:
            raise ValueError("gpus_per_program needs a launcher; add --launcher ray or slurm, or leave it out")
        return
    if gpus is not None and (gpus < 0 or (launcher == "slurm" and not gpus.is_integer())):
        raise ValueError(f"gpus_per_program is {gpus}; it should be 0 or more, and a whole number for slurm")
    if time_limit is not None:
        raise ValueError("programs on a launcher have the time limits of their jobs; leave out --time-limit")
    if coordinator is not None:
        raise ValueError("a launcher starts one process per program; leave out --coordinator")
    package = PACKAGES[launcher]
    if importlib.util.find_spec(package) is None:
        raise ValueError(f"launcher {launcher!r} needs {package}; {how_to_install(launcher)}")


def run_on_launcher(launch: Launch, tasks: Sequence[SweepTask], path: Path, display: Display) -> dict[str, str]:
    """Run the tasks that are not complete, of the sweep in the folder `path`.

    Returns `{name: error}` of the tasks that failed.
    """
    tasks = [task for task in tasks if not task.complete]
    if launch.launcher == "ray":
        return ray(launch, tasks, display)
    return slurm(launch, tasks, path, display)


def program(main: Command, words: list[str]) -> None:
    """Run the command line of a sweep in this process. Raises RuntimeError if its exit status is not 0."""
    try:
        status = main(words)
    except SystemExit as error:  # Ray would take it for a lost worker.
        status = error.code
    if status:
        raise RuntimeError(f"purerl.sweep {' '.join(words)} ended with status {status}")


def ray(launch: Launch, tasks: Sequence[SweepTask], display: Display) -> dict[str, str]:
    """Run `tasks` as Ray tasks, each with its share of the GPUs.

    Joins the cluster that RAY_ADDRESS names, or starts one here. Returns `{name: error}` of the tasks that failed.
    """
    import ray

    ray.init(log_to_driver=False, configure_logging=True, logging_level=logging.WARNING, include_dashboard=False)
    gpus = min(1.0, ray.cluster_resources().get("GPU", 0.0)) if launch.gpus is None else launch.gpus
    share = {"env_vars": {"XLA_PYTHON_CLIENT_MEM_FRACTION": f"{0.9 * gpus:.3f}"}} if 0 < gpus < 1 else {}
    remote = ray.remote(num_cpus=1, num_gpus=gpus, max_retries=RETRIES, retry_exceptions=True, runtime_env=share)(
        program
    )
    try:
        running = {remote.remote(launch.main, [*launch.words, "--only", task.name]): task for task in tasks}
        failed, view = {}, View(tasks, display)
        while running:
            ended, _ = ray.wait(list(running), timeout=1.0)
            for task, end in ((running.pop(end), end) for end in ended):
                try:
                    ray.get(end)
                except Exception as error:  # The other tasks continue.
                    failed[task.name] = str(error).strip().splitlines()[-1]
            view.update()
        return failed
    finally:
        ray.shutdown()


def slurm(launch: Launch, tasks: Sequence[SweepTask], path: Path, display: Display) -> dict[str, str]:
    """Run `tasks` as one SLURM job array, or as processes of this machine if there is no SLURM.

    Returns `{name: error}` of the tasks that failed.
    """
    import submitit

    executor = submitit.AutoExecutor(folder=path / "jobs")
    executor.update_parameters(name="purerl", timeout_min=24 * 60, gpus_per_node=int(launch.gpus or 0))
    with executor.batch():
        running = {
            task.name: executor.submit(program, launch.main, [*launch.words, "--only", task.name]) for task in tasks
        }
    failed, view = {}, View(tasks, display)
    while running:
        time.sleep(1.0)
        for name in [name for name, job in running.items() if job.done()]:
            if error := running.pop(name).exception():
                failed[name] = str(error).strip().splitlines()[-1]
        view.update()
    return failed


class View:
    """Shows all programs: prints a line whenever a program has progressed."""

    def __init__(self, tasks: Sequence[SweepTask], display: Display) -> None:
        self.tasks, self.display = tasks, display
        self.shown: dict[str, float] = {}

    def update(self) -> None:
        for task in self.tasks:
            if not run_folder.has_begun(task.path):
                continue
            curves = run_folder.read_curves(task.path)
            step = curves["env_step"].max(initial=-1)
            if step > self.shown.get(task.name, -1):
                self.shown[task.name] = step
                last = curves["return_mean"][curves["env_step"] == step]
                total = task.settings.plan.total_steps
                self.display.say(f"{task.name}: {step:,.0f}/{total:,} steps  return (IQM) {iqm(np.asarray(last)):.1f}")
