"""A run may end wherever it is, also inside an evaluation or an epoch, and goes on from there."""

import json
import time

import numpy as np
import pytest
from commands import arguments, assert_same_run, start, stopped_after

from purerl import evaluate, train
from purerl.policies import acting
from purerl.results import run_folder
from purerl.runs import checkpoints
from purerl.runs.clock import MOST, STRETCH, Pace
from purerl.runs.listeners import checkpointing
from purerl.settings import config
from purerl.training import loop

pytestmark = pytest.mark.usefixtures("shared_programs")

LONG_EPISODES = {"algo": "td3", "n_step": "2", "normalize_observations": "true", "episode_length": "120"}


def command(path, **more):
    return [*arguments(**LONG_EPISODES, **more), "--out", str(path)]


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    path = tmp_path_factory.mktemp("stretches") / "whole"
    assert train.main(command(path)) == 0
    return path


WARMUP, EVALUATION, EPOCH = 10, 3, 20  # stretches of one row, of 50 steps, of one cycle


@pytest.mark.parametrize(
    "stretches, row, evaluations",
    [
        pytest.param(3, 3, 0, id="in the warm-up", marks=pytest.mark.slow),
        pytest.param(WARMUP + 2, 10, 0, id="in the first evaluation", marks=pytest.mark.slow),
        pytest.param(WARMUP + EVALUATION + 7, 17, 1, id="in an epoch"),
        pytest.param(WARMUP + 2 * EVALUATION + EPOCH - 1, 30, 1, id="in an evaluation", marks=pytest.mark.slow),
        pytest.param(WARMUP + 2 * EVALUATION + EPOCH, 30, 2, id="after an evaluation"),
    ],
)
def test_a_run_that_ends_anywhere_goes_on_bit_for_bit(
    whole, stretches, row, evaluations, one_turn_at_a_time, tmp_path, monkeypatch, capsys
):
    path = tmp_path / "run"
    with stopped_after(stretches, monkeypatch):
        assert train.main(command(path)) == train.INTERRUPTED
    (number,) = checkpoints.numbers(path)
    label = json.loads((path / "checkpoints" / str(number) / checkpoints.LABEL).read_text())
    env_step = 4 * row if row > 10 else 0
    assert label["progress"] == {"row": row, "evaluations": evaluations, "env_step": env_step}
    assert len(run_folder.read_curves(path)["seed"]) == 3 * evaluations
    assert run_folder.read_policy(path)["env_step"].tolist() == [env_step] * 3
    assert train.main(["--resume", str(path)]) == 0
    assert f"resumed after {4 * row} steps" in capsys.readouterr().out
    assert_same_run(path, whole)


def test_many_stops_change_nothing(whole, one_turn_at_a_time, tmp_path, monkeypatch):
    path, statuses = tmp_path / "run", []
    while not statuses or statuses[-1]:
        with stopped_after(31, monkeypatch):
            statuses.append(train.main(command(path)))
    assert statuses == [train.INTERRUPTED] * 2 + [0]
    assert_same_run(path, whole)


def test_a_checkpoint_is_kept_every_quarter_of_an_hour_also_within_an_epoch(tmp_path, monkeypatch, one_turn_at_a_time):
    kept = []
    monkeypatch.setattr(checkpointing, "AUTO", 0.0)
    monkeypatch.setattr(checkpointing, "write", lambda event: kept.append(tuple(event.at)))
    assert train.main(command(tmp_path / "auto")) == 0
    rows = [*range(1, 11), 10, *range(11, 31), 30, *range(31, 51), 50, *range(51, 71), 70]
    assert [row for row, _ in kept] == rows
    kept.clear()
    assert train.main(command(tmp_path / "off", checkpoint_every="0")) == 0 and kept == []
    assert train.main(command(tmp_path / "second", checkpoint_every="2")) == 0 and kept == [(50, 3), (70, 4)]
    assert train.main(command(tmp_path / "each", checkpoint_every="1")) == 0 and kept[2:] == [(30, 2), (50, 3), (70, 4)]


def test_a_checkpoint_without_room_is_left_out_and_the_one_before_stays(tmp_path, monkeypatch, capsys):
    path = tmp_path / "run"
    assert train.main(command(path, checkpoint_every="1", time_limit="0.001")) == train.INTERRUPTED
    before = checkpoints.numbers(path)
    monkeypatch.setattr(checkpointing.shutil, "disk_usage", lambda path: type("Usage", (), {"free": 10**6}))
    assert train.main(["--resume", str(path), "--time-limit", "none"]) == 0
    shown = capsys.readouterr().out
    assert "is not written: it needs" in shown and "the disk has 1 MB free" in shown
    assert checkpoints.numbers(path) == before


def test_a_checkpoint_that_was_being_replaced_is_had_again(tmp_path):
    path = tmp_path / "run"
    assert train.main(command(path, time_limit="0.001")) == train.INTERRUPTED
    (number,) = checkpoints.numbers(path)
    folder = path / "checkpoints" / str(number)
    folder.rename(folder.with_name(f"{number}{checkpoints.REPLACED}"))
    folder.mkdir()  # of a new one that is not whole: it has no label
    checkpoints.manager(path)
    assert checkpoints.numbers(path) == [number] and (folder / checkpoints.LABEL).is_file()
    assert [file.name for file in folder.parent.iterdir()] == [str(number)]


@pytest.mark.slow
def test_an_evaluation_that_never_ends_is_ended_by_the_time_limit(tmp_path, monkeypatch):
    (tmp_path / "endless.py").write_text(
        "import jax, jax.numpy as jnp\n"
        "from purerl.environments.base import Environment, Outcome\n\n"
        "def step(state, action):\n"
        "    no = jnp.asarray(False)\n"
        "    return state + 0.1 * action[0], Outcome(-jnp.square(state), no, no)\n\n"
        "env = Environment(jax.random.uniform, step, lambda state: state[None], 1, 1, 2**31 - 1, 'endless', False)\n"
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    small = arguments(env="endless:env", eval_length=str(2**31 - 1))
    del small[small.index("--episode-length") : small.index("--episode-length") + 2]
    begun = time.monotonic()
    process = start(*small, "--out", tmp_path / "run", "--time-limit", "3")
    shown = process.communicate(timeout=120)[0]
    assert process.returncode == train.INTERRUPTED and "ended early: time limit" in shown, shown
    assert time.monotonic() - begun < 60


def test_an_evaluated_episode_that_is_endless_is_ended_and_this_is_said(own_programs, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(loop, "LONGEST_EVALUATION", 70)
    path = tmp_path / "run"
    assert train.main(command(path)) == 0
    assert "evaluation episodes end after 70 steps; --eval-length sets another limit" in capsys.readouterr().out
    assert (run_folder.read_curves(path)["episode_length"] == 70).all()
    assert evaluate.main([str(path), "--episodes", "2"]) == 0
    assert acting.environment(config.resolve({}, path / "run.toml")).episode_length == 70


def test_a_pace_comes_to_the_length_of_a_stretch_and_shrinks_at_once():
    pace, asked = Pace(), []
    for _ in range(8):
        asked.append(pace.turns)
        pace.took(pace.turns, 0.01 * pace.turns)
    assert asked[:4] == [1, 4, 16, 64] and asked[-1] == int(STRETCH / 0.01)
    pace.took(3, 0.03)  # what was left of an epoch
    assert pace.turns == int(STRETCH / 0.01)
    for _ in range(99):
        pace.took(pace.turns, 0.0)
    assert pace.turns == MOST
    pace.took(pace.turns, 1e9)
    assert pace.turns == 1


def test_an_evaluation_is_as_long_as_asked_and_never_endless(tmp_path):
    for length, expected in (("30", 30), ("500", 120)):
        path = tmp_path / length
        assert train.main(command(path, eval_length=length)) == 0
        assert (run_folder.read_curves(path)["episode_length"] == expected).all()
    assert np.isfinite(run_folder.read_curves(path)["return_mean"]).all()


def test_filling_a_ring_anew_may_be_stopped_and_the_checkpoint_stays(tmp_path, monkeypatch, one_turn_at_a_time, capsys):
    path = tmp_path / "run"
    with stopped_after(WARMUP + EVALUATION + 7, monkeypatch):
        assert train.main(command(path, checkpoint_ring="false")) == train.INTERRUPTED
    with stopped_after(5, monkeypatch):
        assert train.main(["--resume", str(path)]) == train.INTERRUPTED
    (number,) = checkpoints.numbers(path)
    label = json.loads((path / "checkpoints" / str(number) / checkpoints.LABEL).read_text())
    assert label["progress"]["row"] == 17 and not label["ring"]
    assert train.main(["--resume", str(path)]) == 0
    assert "this is not exact" in capsys.readouterr().out
    assert len(run_folder.read_curves(path)["seed"]) == 12
