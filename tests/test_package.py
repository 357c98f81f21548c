"""What gets installed, away from the clone."""

import subprocess
import sys
import venv

import pytest
from folders import ROOT

from purerl.settings import config


@pytest.mark.slow
def test_a_wheel_finds_the_environments_it_ships(tmp_path):
    subprocess.run(
        [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", tmp_path, ROOT],
        check=True,
        capture_output=True,
    )
    (wheel,) = tmp_path.glob("purerl-*.whl")
    elsewhere = tmp_path / "environment"
    venv.create(elsewhere, with_pip=True)
    python = elsewhere / "bin" / "python"
    subprocess.run([python, "-m", "pip", "install", "-q", "--no-deps", wheel], check=True, capture_output=True)
    subprocess.run([python, "-m", "pip", "install", "-q", "pydantic", "tomli-w"], check=True, capture_output=True)
    listed = subprocess.run(
        [python, "-c", "from purerl.settings import config; print(config.__file__, *config.environment_files())"],
        check=True,
        capture_output=True,
        text=True,
        cwd=tmp_path,
    ).stdout.split()
    assert listed[0].startswith(str(elsewhere))
    code = "from purerl.errors import how_to_install; print(how_to_install('ray'))"
    said = subprocess.run([python, "-c", code], check=True, capture_output=True, text=True, cwd=tmp_path).stdout
    assert said == "pip install 'purerl[ray]'\n"
    assert listed[1:] == list(config.environment_files()) and len(listed) > 1


def test_training_does_not_wait_for_what_only_its_end_needs():
    late = ("bokeh", "matplotlib", "pandas", "scipy.stats")
    code = f"import sys; from purerl.runs import runner; print(*[name for name in {late} if name in sys.modules])"
    ran = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert ran.stdout.split() == []
