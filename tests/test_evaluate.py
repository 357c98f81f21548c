"""What evaluate says of policies, here and in the real Gymnasium."""

import csv
import dataclasses
import sys

import jax
import numpy as np
import pytest
from folders import ROOT

from purerl import environments, evaluate
from purerl.policies import acting, evaluation, load
from purerl.results import run_folder


def strengthened(kept, factor=1e4):
    """Policies whose actions are saturated, so that a wrong unit would show in every return."""
    last = kept.actor["params"]["Dense_0"]
    actor = {"params": kept.actor["params"] | {"Dense_0": {name: factor * x for name, x in last.items()}}}
    return dataclasses.replace(kept, actor=actor)


def is_one_line(capsys, arguments, *parts):
    with pytest.raises(SystemExit) as ended:
        evaluate.main([str(part) for part in arguments])
    message = capsys.readouterr().err
    assert ended.value.code == 2 and message.startswith("error: ") and message.count("\n") == 1, message
    for part in parts:
        assert part in message, message
    return True


def test_a_policy_is_worth_the_same_in_gymnasium_from_the_same_starts(pendulums):
    kept = strengthened(load.read_policies(pendulums["td3"]))
    env = environments.make("Pendulum-v1", episode_length=20)
    envs = evaluation.gymnasium_envs(env, 8)
    envs.reset(seed=0)
    starts = np.array([each.unwrapped.state for each in envs.envs], np.float32)
    theirs = evaluation.returns_there(envs, kept, 1)
    act = acting.act(kept)
    from purerl.environments import episodes

    same = episodes.starts(env, 8, jax.random.key(0))._replace(angle=starts[:, 0], speed=starts[:, 1])
    ours, length = episodes.play(env, lambda observation: act(*acting.one(kept, 1), observation), same)
    assert (length == 20).all() and np.ptp(theirs) > 1
    np.testing.assert_allclose(ours, theirs, atol=1e-2)


class Ending:
    """Two copies, each of whose steps pays 1; the first ends after one step, the second after three."""

    num_envs = 2

    def reset(self, seed):
        self.time = 0
        return np.zeros((2, 3), np.float32), {}

    def step(self, actions):
        self.time += 1
        over = np.array([self.time == 1, False])
        return np.zeros((2, 3), np.float32), np.ones(2), over, np.array([False, self.time == 3]), {}


def test_what_comes_after_the_end_of_an_episode_does_not_count(pendulums):
    assert evaluation.returns_there(Ending(), load.read_policies(pendulums["td3"]), 0).tolist() == [1.0, 3.0]


def test_both_places_are_shown_with_intervals_that_overlap(pendulums, capsys):
    assert evaluate.main([str(pendulums["sac"]), "--in", "gymnasium", "--episodes", "30"]) == 0
    shown = capsys.readouterr().out
    rows = [line for line in shown.splitlines() if "seed" in line or "all 3" in line]
    assert "purerl" in shown and "Gymnasium" in shown and len(rows) == 4
    assert all(row.count("[") == 2 and "yes" in row for row in rows)


def test_the_best_seed_alone_is_evaluated_where_it_was_trained(pendulums, capsys):
    assert evaluate.main([str(pendulums["td3"]), "--seed", "6", "--episodes", "2"]) == 0
    shown = capsys.readouterr().out
    assert "seed 6" in shown and "seed 5" not in shown and "Gymnasium" not in shown


def test_the_return_of_every_episode_is_written_to_a_file(pendulums, tmp_path, capsys):
    out = tmp_path / "new" / "returns.csv"
    words = [str(pendulums["td3"]), "--in", "gymnasium", "--episodes", "3", "--out", str(out)]
    assert evaluate.main(words) == 0
    with open(out, newline="") as file:
        rows = list(csv.DictReader(file))
    seeds = load.read_policies(pendulums["td3"]).final["seed"].astype(int).tolist()
    assert [(row["place"], int(row["seed"]), int(row["episode"])) for row in rows] == [
        (place, seed, episode) for place in ("purerl", "Gymnasium") for seed in seeds for episode in range(3)
    ]
    assert {(row["env"], row["algo"], row["setting"]) for row in rows} == {("Pendulum-v1", "td3", "0")}
    mean = np.mean([float(row["return"]) for row in rows[:3]])
    assert f"{mean:.1f} [" in capsys.readouterr().out
    assert is_one_line(capsys, [*words[:1], "--out", tmp_path / "returns"], "is not a table; end it with .csv")
    assert is_one_line(capsys, [*words[:1], "--out", "/proc/no/returns.csv"], "cannot be written")


def test_intervals_that_do_not_touch_are_not_called_the_same():
    near, far = np.array([[1.0, 2.0, 3.0]]), np.array([[11.0, 12.0, 13.0]])
    assert evaluate.compared([near, far])[2:] == ["+10.0", "no"]
    assert evaluate.compared([near, near + 0.5])[2:] == ["+0.5", "yes"]


def test_bad_input_is_one_line_that_says_what_works(pendulums, tmp_path, capsys, monkeypatch):
    run = pendulums["td3"]
    assert is_one_line(capsys, [run, "--episodes", "1"], "at least 2")
    assert is_one_line(
        capsys,
        [run, "--env", "fast"],
        "were trained on Pendulum-v1, with 3 observations and 1 actions",
        "fast has 2 and 1",
    )
    (tmp_path / "policy").mkdir()
    for name in ("curves.csv", run_folder.POLICY):
        (tmp_path / name).write_bytes((run / name).read_bytes())
    (tmp_path / "run.toml").write_text((run / "run.toml").read_text().replace("Pendulum-v1", "fast"))
    assert is_one_line(capsys, [tmp_path, "--in", "gymnasium"], "Gymnasium has no 'fast'", "--env", "HalfCheetah-v5")
    changed = "on fast, with 3 observations and 1 actions, but fast has 2 and 1; the environment has changed"
    assert is_one_line(capsys, [tmp_path], changed)
    monkeypatch.setitem(sys.modules, "gymnasium", None)
    assert is_one_line(capsys, [run, "--in", "gymnasium"], f"package gymnasium; pip install -e '{ROOT}[gymnasium]'")
