"""Programs of a sweep on other machines end as they would here. Only where Ray or submitit is installed."""

import time

import psutil
import pytest
from commands import SMALL, assert_same_run, start
from folders import ROOT
from test_sweep import refusal, write

from purerl import sweep
from purerl.results import run_folder
from purerl.sweeps import launchers

LONGER = {"num_evals": "161", "total_steps": str(40 + 4 * 160 * 100), "checkpoint_every": 1, "num_seeds": "2"}
TABLE = SMALL | LONGER | {"algo": "td3", "batch_size": [8, 16], "hyper": {"tau": [0.1, 0.2]}}
PROGRAMS = ("batch_size=8", "batch_size=16")
CODE = "import sys; from purerl import sweep; sys.exit(sweep.main())"


@pytest.fixture(scope="module")
def here(tmp_path_factory):
    """The sweep in this process."""
    folder = tmp_path_factory.mktemp("here")
    assert sweep.main([str(write(folder / "sweep.toml", TABLE)), "--out", str(folder / "out")]) == 0
    return folder / "out"


def assert_each_run_once(folder):
    for program in PROGRAMS:
        curves = run_folder.read_curves(folder / program)
        rows = list(zip(curves["setting"], curves["seed"], curves["env_step"], strict=True))
        assert len(rows) == len(set(rows)) == 2 * 2 * 161
    assert (folder / "table.csv").read_text().count("\n") == 5


def workers(process):
    """The processes of a Ray cluster that run programs."""
    found = psutil.Process(process.pid).children(recursive=True)
    return [child for child in found if child.cmdline()[:1] == ["ray::program"]]


@pytest.mark.slow
def test_ray_workers_that_are_killed_midway_cost_no_run(here, tmp_path):
    file, out = write(tmp_path / "sweep.toml", TABLE), tmp_path / "out"
    process = start(file, "--out", out, "--launcher", "ray", code=CODE)
    curves = [out / program / "curves.csv" for program in PROGRAMS]
    while not any(path.exists() and path.read_bytes().count(b"\n") > 20 for path in curves):
        assert process.poll() is None, process.stdout.read()
        time.sleep(0.05)
    for worker in workers(process):  # Which of them has come so far cannot be seen from here.
        worker.kill()
    shown, _ = process.communicate(timeout=600)
    assert process.returncode == 0, shown
    assert_each_run_once(out)
    for program in PROGRAMS:
        assert_same_run(out / program, here / program)
    resumed = [(out / program / "log.jsonl").read_text().count('"resume"') for program in PROGRAMS]
    assert sum(resumed) >= 1


@pytest.mark.slow
def test_submitit_runs_every_program_once(here, tmp_path):
    """Where there is no SLURM, its jobs are processes of this machine."""
    out = tmp_path / "out"
    assert sweep.main([str(write(tmp_path / "sweep.toml", TABLE)), "--out", str(out), "--launcher", "slurm"]) == 0
    assert_each_run_once(out)
    for program in PROGRAMS:
        assert_same_run(out / program, here / program)


def test_a_program_that_ends_badly_is_an_error_for_its_launcher(tmp_path, capfd):
    assert launchers.program(lambda words: 0, ["sweep.toml"]) is None
    with pytest.raises(RuntimeError, match=r"purerl\.sweep sweep\.toml --only a ended with status 3"):
        launchers.program(lambda words: 3, ["sweep.toml", "--only", "a"])
    with pytest.raises(RuntimeError, match="ended with status 2"):  # Ray would take SystemExit for a lost worker.
        launchers.program(sweep.main, [str(tmp_path / "none.toml")])
    assert "there is no sweep file" in capfd.readouterr().err


def test_a_launcher_that_is_not_installed_is_refused(tmp_path, capfd, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    file = write(tmp_path / "sweep.toml", TABLE)
    assert f"launcher 'ray' needs ray; pip install -e '{ROOT}[ray]'" in refusal(capfd, file, "--launcher", "ray")


@pytest.mark.parametrize(
    "words, shown",
    [
        (["--gpus-per-program", "1"], "gpus_per_program needs a launcher"),
        (["--launcher", "slurm", "--gpus-per-program", "0.5"], "a whole number for slurm"),
        (["--launcher", "slurm", "--time-limit", "10"], "leave out --time-limit"),
    ],
)
def test_what_does_not_go_with_a_launcher_is_refused(words, shown, tmp_path, capfd):
    file = write(tmp_path / "sweep.toml", TABLE)
    assert shown in refusal(capfd, file, "--out", tmp_path / "out", *words)
    assert list(tmp_path.iterdir()) == [file]
