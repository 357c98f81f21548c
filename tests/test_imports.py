"""Packages import only what stands below them. pyproject.toml has the order, under [tool.importlinter]."""

import os
import shutil
import subprocess
import sys

import pytest
from folders import ROOT

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


@pytest.mark.parametrize("command", ["train", "sweep", "plot", "report", "evaluate", "export", "render"])
def test_the_help_of_no_command_waits_for_jax(command):
    code = "import sys; from purerl import {0}\ntry: {0}.main(['--help'])\nfinally: print('jax' in sys.modules)"
    ran = subprocess.run([sys.executable, "-c", code.format(command)], capture_output=True, text=True, check=True)
    shown = ran.stdout
    assert shown.startswith(f"usage: python -m purerl.{command} ") and shown.endswith("False\n")
