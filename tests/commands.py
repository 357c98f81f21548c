"""Run the command line on a run that takes a second, and compare the files of two runs."""

import multiprocessing
import os
import shutil
import subprocess
import sys
from contextlib import contextmanager

import numpy as np
import pytest

from purerl import train
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

AS_SHIPPED = {"xla_cpu_use_fusion_emitters": True}  # an option that conftest.py turns off, which changes the bits


def arguments(**more):
    settings = SMALL | more
    return [part for name, value in settings.items() for part in (f"--{name.replace('_', '-')}", value)]


def refusal(capfd, *words):
    """Return the one line with which `purerl train` refuses."""
    return refusal_of(capfd, train, *words)


def refusal_of(capfd, command, *words):
    """Return the one line with which the module `command` refuses."""
    capfd.readouterr()
    with pytest.raises(SystemExit) as refused:
        command.main([str(word) for word in words])
    shown = capfd.readouterr().err
    assert refused.value.code == 2 and shown.startswith("error: ") and shown.count("\n") == 1
    return shown


def options(algo):
    """Return settings of a run with noise that has a state, longer targets and statistics of observations."""
    noise = {} if algo == "sac" else {"noise": "ou"}
    return {"algo": algo, "n_step": "3", "normalize_observations": "true"} | noise


def prepared(**more):
    """Return `(settings, programs, numbers)` of the small run with other settings."""
    settings = config.resolve(SMALL | more)
    env, build = runner.prepare(settings)
    return settings, mapping.programs(settings.plan, build, env, settings.hyper), mapping.flowing(settings.hyper)


def start(*arguments, code="import sys; from purerl import train; sys.exit(train.main())"):
    """Start the command line as a separate process. Its output is a pipe, so wide that no path is broken."""
    return subprocess.Popen(
        [sys.executable, "-c", code, *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=os.environ | {"PYTHONUNBUFFERED": "1", "COLUMNS": "400"},
    )


def forked(main, *words):
    """Start a process that exits with `main(words)`.

    It is forked from a process that has imported everything and started nothing.
    """
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
    """Return the exit status of a forked process."""
    process.join(300)
    return process.exitcode


def killed(process, seconds):
    """Kill a forked process with SIGKILL after `seconds`. Returns whether it was still running.

    A process that ended before must have exit status 0.
    """
    process.join(seconds)
    if process.exitcode is not None:
        assert process.exitcode == 0
        return False
    process.kill()
    process.join()
    return True


def assert_same_run(first, second, rtol=0.0):
    """Assert that two run folders hold the same curves and policies, bit for bit or to `rtol`.

    The clock is not compared.
    """
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
    """Copy a finished run as if it had died after checkpoint `number`.

    Some later evaluations are already on disk.
    """
    shutil.copytree(finished, path)
    for later in checkpoints.numbers(path):
        if later > number:
            shutil.rmtree(path / "checkpoints" / str(later))
    (path / run_folder.POLICY).unlink()
    return path


@contextmanager
def stopped_after(stretches, monkeypatch):
    """Ask runs to end during stretch number `stretches`."""
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
