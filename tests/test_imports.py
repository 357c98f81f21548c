"""Packages import only what stands below them. pyproject.toml has the order, under [tool.importlinter]."""

import os
import shutil
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest
from folders import ROOT

from purerl.__main__ import COMMANDS

CODE = "from importlinter.cli import lint_imports_command; lint_imports_command()"
LAYERS = "A package imports only what stands below it, and nobody imports a command"
NO_JAX = "Settings and results import no JAX, so that notebooks and --help open fast"
LOOP = "The training loop looks inside no algorithm"


def linted(folder):
    """`(exit status, output)` of import-linter on the package purerl in `folder`, by the pyproject.toml there."""
    ran = subprocess.run(
        [sys.executable, "-c", CODE, "--no-cache"],
        cwd=folder,
        env=os.environ | {"COLUMNS": "200"},
        capture_output=True,
        text=True,
    )
    return ran.returncode, ran.stdout + ran.stderr


def test_every_package_imports_only_what_stands_below_it():
    status, output = linted(ROOT)
    assert status == 0, output


@pytest.mark.parametrize(
    ("contract", "module", "line", "broken"),
    [
        (LAYERS, "runs/memory", "from purerl.sweeps import campaign", "purerl.runs.memory -> purerl.sweeps.campaign"),
        (LAYERS, "algorithms/sac", "from purerl.results import curves", "purerl.algorithms.sac -> purerl.results"),
        (LAYERS, "cli/parser", "def late():\n    import purerl.train", "purerl.cli.parser -> purerl.train"),
        (LAYERS, "newcomer", "", "newcomer"),
        (NO_JAX, "settings/schema", "import jax", "purerl.settings.schema -> jax"),
        (NO_JAX, "results/curves", "import purerl.types", "purerl.types -> jax"),
        (LOOP, "training/loop", "from purerl.algorithms import td3", "purerl.training.loop -> purerl.algorithms.td3"),
    ],
    ids=["upwards", "sideways", "of a command", "of no layer", "JAX", "JAX indirectly", "an algorithm"],
)
def test_an_import_upwards_is_found(tmp_path, contract, module, line, broken):
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    shutil.copytree(ROOT / "purerl", tmp_path / "purerl", ignore=shutil.ignore_patterns("__pycache__"))
    with open(tmp_path / "purerl" / f"{module}.py", "a") as file:
        file.write(f"\n{line}\n")
    status, output = linted(tmp_path)
    assert status == 1
    assert f"{contract} BROKEN" in output and broken in output, output


@pytest.mark.parametrize("command", ["train", "sweep", "plot", "report", "evaluate", "export", "render", "keep"])
def test_the_help_of_no_command_waits_for_jax(command):
    code = "import sys; from purerl import {0}\ntry: {0}.main(['--help'])\nfinally: print('jax' in sys.modules)"
    ran = subprocess.run([sys.executable, "-c", code.format(command)], capture_output=True, text=True, check=True)
    shown = ran.stdout
    assert shown.startswith(f"usage: purerl {command} ") and shown.endswith("False\n")


@pytest.mark.parametrize("start", [[sys.executable, "-m", "purerl"], [Path(sys.executable).parent / "purerl"]])
def test_one_command_has_all_commands_and_finds_modules_in_the_current_folder(start, tmp_path):
    def run(*words):
        return subprocess.run([*start, *words], capture_output=True, text=True, cwd=tmp_path)

    shown = run("--help").stdout
    assert all(f"\n  {command} " in shown for command in COMMANDS)
    assert run("--version").stdout == f"purerl {version('purerl')}\n"
    wrong = run("trian")
    assert wrong.returncode == 2 and wrong.stderr.startswith("error: unknown command 'trian'; did you mean train?")
    own = "from purerl.settings.hyperparameters import TD3\nfrom purerl.settings.registry import AlgorithmSpec\n"
    (tmp_path / "mine.py").write_text(own + "mine = AlgorithmSpec(TD3, lambda hyper, plan, env: None)\n")
    printed = run("train", "--algo", "mine:mine", "--print-config")
    assert printed.returncode == 0 and 'algo = "mine:mine"' in printed.stdout, printed.stderr
