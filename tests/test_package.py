"""What gets installed, away from the clone."""

import re
import subprocess
import sys
import venv

import numpy as np
from commands import arguments
from folders import ROOT

from purerl import train
from purerl.results import curves
from purerl.settings import config


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
    assert listed[1:] == list(config.environment_files()) and len(listed) > 1


def test_training_does_not_wait_for_what_only_its_end_needs():
    late = ("bokeh", "matplotlib", "pandas", "scipy.stats")
    code = f"import sys; from purerl.runs import runner; print(*[name for name in {late} if name in sys.modules])"
    ran = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert ran.stdout.split() == []


def test_the_python_of_the_readme_runs(pendulums):
    policy, block, _ = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    small = 'resolve({"env": "fast", "total_steps": 1664, "num_evals": 2, '
    block = block.replace("resolve({", small).replace(', "env": "inverted_pendulum"', "")
    block = block.replace('make("inverted_pendulum")', 'make("fast", episode_length=20)').replace(
        "arange(64)", "arange(3)"
    )
    scope = {"observation": np.zeros((5, 3), np.float32)}
    exec(block, scope)
    assert scope["curves"]["return_mean"].shape == (3, 2)
    exec(policy.replace("runs/NAME", str(pendulums["td3"])), scope)
    assert scope["action"].shape == (5, 1)


def test_the_algorithm_of_the_readme_trains(tmp_path, monkeypatch):
    *_, block = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    (tmp_path / "readme_algorithm.py").write_text(block)
    monkeypatch.syspath_prepend(tmp_path)
    assert train.main([*arguments(algo="readme_algorithm:mean_sac"), "--out", str(tmp_path / "run")]) == 0
    assert curves.load(tmp_path / "run")["colour"].unique().tolist() == ["#e69f00"]
