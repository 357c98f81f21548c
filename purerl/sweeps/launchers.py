"""The programs of a sweep on other machines: as tasks of a Ray cluster, or as jobs that submitit hands to SLURM.

Every program is one `python -m purerl.sweep FILE --only PROGRAM`, in the folder of the sweep, which all machines must
see. What dies is started again and goes on from its checkpoints; what another process still runs in is left alone.
"""

import time

import numpy as np

from purerl.results import run_folder
from purerl.results.statistics import iqm

RETRIES = 3


def program(words):
    """Run the command line of a sweep in this process. Raises RuntimeError where it does not end well."""
    from purerl import sweep

    try:
        status = sweep.main(words)
    except SystemExit as error:  # Ray would take it for the end of its worker.
        status = error.code
    if status:
        raise RuntimeError(f"purerl.sweep {' '.join(words)} ended with status {status}")


def ray(tasks, words, gpus, display):
    """Run `tasks` as Ray tasks, each with its share of `gpus`; `words` is their common command line.

    Joins the cluster that RAY_ADDRESS names, or starts one here. Returns `{name: error}` of those that failed.
    """
    import ray

    ray.init(log_to_driver=False, configure_logging=True, logging_level="warning", include_dashboard=False)
    gpus = min(1.0, ray.cluster_resources().get("GPU", 0.0)) if gpus is None else gpus
    share = {"env_vars": {"XLA_PYTHON_CLIENT_MEM_FRACTION": f"{0.9 * gpus:.3f}"}} if 0 < gpus < 1 else {}
    remote = ray.remote(num_cpus=1, num_gpus=gpus, max_retries=RETRIES, retry_exceptions=True, runtime_env=share)(
        program
    )
    try:
        running = {remote.remote([*words, "--only", task.name]): task for task in tasks}
        failed, view = {}, View(tasks, display)
        while running:
            ended, _ = ray.wait(list(running), timeout=1.0)
            for task, end in ((running.pop(end), end) for end in ended):
                try:
                    ray.get(end)
                except Exception as error:  # Whatever became of it, the others go on.
                    failed[task.name] = str(error).strip().splitlines()[-1]
            view.update()
        return failed
    finally:
        ray.shutdown()


def slurm(tasks, words, gpus, path, display):
    """Run `tasks` as one job array of SLURM, or as processes of this machine where there is no SLURM.

    Returns `{name: error}` of those that failed.
    """
    import submitit

    executor = submitit.AutoExecutor(folder=path / "jobs")
    executor.update_parameters(name="purerl", timeout_min=24 * 60, gpus_per_node=int(gpus or 0))
    with executor.batch():
        running = {task.name: executor.submit(program, [*words, "--only", task.name]) for task in tasks}
    failed, view = {}, View(tasks, display)
    while running:
        time.sleep(1.0)
        for name in [name for name, job in running.items() if job.done()]:
            if error := running.pop(name).exception():
                failed[name] = str(error).strip().splitlines()[-1]
        view.update()
    return failed


class View:
    """All programs in one view: a line whenever one of them has come further."""

    def __init__(self, tasks, display):
        self.tasks, self.display, self.shown = tasks, display, {}

    def update(self):
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
