"""The command line on a run that takes a second, and what to compare of what it leaves."""

import multiprocessing
import os
import shutil
import subprocess
import sys
from contextlib import contextmanager

import numpy as np

from purerl.results import run_folder
from purerl.runs import checkpoints, runner
from purerl.runs.clock import Interrupt
from purerl.settings import config
from purerl.training import mapping

SMALL = {
    "env": "fast",
    "episode_length": "20",
    "num_envs": "4",
    "updates_per_step": "2",
    "batch_size": "16",
    "widths": "8",
    "warmup_steps": "40",
    "buffer_size": "200",
    "total_steps": "280",
    "num_evals": "4",
    "eval_episodes": "2",
    "num_seeds": "3",
    "seed": "5",
}

AS_SHIPPED = {"xla_cpu_use_fusion_emitters": True}  # what conftest.py has XLA do without, to other bits


def arguments(**more):
    settings = SMALL | more
    return [part for name, value in settings.items() for part in (f"--{name.replace('_', '-')}", value)]


def prepared(**more):
    """`(settings, programs, numbers)` of the small run with other settings."""
    settings = config.resolve(SMALL | more)
    env, build = runner.prepare(settings)
    return settings, mapping.programs(settings.plan, build, env, settings.hyper), mapping.flowing(settings.hyper)


def start(*arguments, code="import sys; from purerl import train; sys.exit(train.main())"):
    """The command line as a process of its own; its output is a pipe, wide enough that no path is broken."""
    return subprocess.Popen(
        [sys.executable, "-c", code, *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=os.environ | {"PYTHONUNBUFFERED": "1", "COLUMNS": "400"},
    )


def forked(main, *words):
    """A process that exits with `main(words)`, forked from one that has imported everything and begun nothing."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(
        ["purerl.sweeps.campaign", "purerl.environments.brax", "purerl.sweep", "purerl.train"]
    )
    process = context.Process(target=_exit_with, args=(main, [*map(str, words)]))
    process.start()
    return process


def _exit_with(main, words):
    sys.exit(main(words))


def ended(process):
    """What a process that was forked exits with."""
    process.join(300)
    return process.exitcode


def killed(process, seconds):
    """Whether a process that was forked lived `seconds` more, until SIGKILL; otherwise it has ended well."""
    process.join(seconds)
    if process.exitcode is not None:
        assert process.exitcode == 0
        return False
    process.kill()
    process.join()
    return True


def assert_same_run(first, second, rtol=0.0):
    """Two run folders hold the same curves, but for the clock, and the same policies: bit for bit, or to `rtol`."""
    ours, theirs = (run_folder.read_curves(path) for path in (first, second))
    for curves in (ours, theirs):
        del curves["wall_s"]
        order = np.lexsort((curves["seed"], curves["env_step"]))
        curves.update({name: values[order] for name, values in curves.items()})
    for name in ours:
        np.testing.assert_allclose(ours[name], theirs[name], rtol=rtol, err_msg=name)
    ours, theirs = (dict(np.load(path / run_folder.POLICY)) for path in (first, second))
    assert ours.keys() == theirs.keys()
    for name in ours:
        np.testing.assert_allclose(ours[name], theirs[name], rtol=rtol, atol=rtol, err_msg=name)


def cut_after(finished, number, path):
    """A copy of a finished run as if it had died after checkpoint `number`, some more evaluations being on disk."""
    shutil.copytree(finished, path)
    for later in checkpoints.numbers(path):
        if later > number:
            shutil.rmtree(path / "checkpoints" / str(later))
    (path / run_folder.POLICY).unlink()
    return path


@contextmanager
def stopped_after(stretches, monkeypatch):
    """Runs are asked to end during stretch number `stretches`."""
    done = 0

    @contextmanager
    def counted(interrupt, clock):
        nonlocal done
        done += 1
        if done == stretches:
            interrupt.reason = "SIGTERM"
        yield

    with monkeypatch.context() as patched:
        patched.setattr(Interrupt, "stretch", counted)
        yield
