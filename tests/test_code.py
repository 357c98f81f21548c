"""The code itself: its types, its style and its layout. pyproject.toml has the rules of each tool."""

import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest
from folders import ROOT

SCRIPTS = Path(sysconfig.get_path("scripts"))
UNTYPED = "def scaled(x, factor: int) -> int:\n    return x * factor\n"
MISMATCH = "from purerl.settings.schema import Plan\n\nrows: str = Plan().rows\n"
UNSORTED = "import sys\nimport os\n\nprint(os, sys)\n"
UNRETURNED = "def twice(x: int):\n    return 2 * x\n"


def run(tool, *words, folder=ROOT):
    """`(exit status, output)` of a tool that is installed beside this Python."""
    ran = subprocess.run([SCRIPTS / tool, *words], cwd=folder, capture_output=True, text=True)
    return ran.returncode, ran.stdout + ran.stderr


def type_check(*words, folder=ROOT):
    return run("basedpyright", "--pythonpath", sys.executable, "--level", "error", *words, folder=folder)


@pytest.fixture
def copied(tmp_path):
    """A folder with the package and its rules, to which a test adds a file."""
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    shutil.copytree(ROOT / "purerl", tmp_path / "purerl", ignore=shutil.ignore_patterns("__pycache__"))
    return tmp_path


def test_the_type_checker_finds_no_error():
    status, output = type_check()
    assert status == 0, output
    assert output.startswith("0 errors"), output


@pytest.mark.parametrize(
    ("code", "found"), [(UNTYPED, "reportMissingParameterType"), (MISMATCH, "reportAssignmentType")]
)
def test_the_type_checker_finds_what_is_wrong(copied, code, found):
    (copied / "purerl" / "added.py").write_text(code)
    status, output = type_check("purerl/added.py", folder=copied)
    assert status == 1
    assert output.count(" error: ") == 1 and f"({found})" in output, output


def test_the_linter_finds_nothing():
    status, output = run("ruff", "check", "--no-cache")
    assert status == 0, output


@pytest.mark.parametrize(("code", "found"), [(UNSORTED, "I001"), (UNTYPED, "ANN001"), (UNRETURNED, "ANN201")])
def test_the_linter_finds_what_is_wrong(copied, code, found):
    (copied / "purerl" / "added.py").write_text(code)
    status, output = run("ruff", "check", "--no-cache", "--output-format", "concise", folder=copied)
    assert status == 1
    assert "purerl/added.py:1:" in output and found in output, output


def test_the_code_is_formatted():
    status, output = run("ruff", "format", "--check", "--no-cache")
    assert status == 0, output
