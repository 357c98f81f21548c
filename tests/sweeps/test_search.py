"""A search asks Optuna for a generation, trains it as one program, and gives up what is hopeless."""

import csv
import shutil

import numpy as np
import pytest
from commands import SMALL
from test_sweep import refusal, write

from purerl import sweep
from purerl.results import run_folder
from purerl.runs import checkpoints, claims, runner
from purerl.runs.display import Display
from purerl.settings import config
from purerl.settings.schema import Search
from purerl.sweeps import search

pytestmark = pytest.mark.usefixtures("shared_programs")

SPACE = {"actor_lr": {"log_uniform": [1e-4, 1e-1]}, "tau": {"uniform": [0.001, 0.5]}}
SEARCH = {"trials": 8, "batch": 4, "rungs": [2], "space": SPACE}
TABLE = SMALL | {"algo": "td3", "num_seeds": "2", "total_steps": "440", "num_evals": "5"}


def trials(folder):
    with open(folder / "trials.csv", newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def searched(tmp_path_factory):
    folder = tmp_path_factory.mktemp("search")
    file = write(folder / "search.toml", TABLE | {"search": SEARCH})
    assert sweep.main([str(file), "--out", str(folder / "out")]) == 0
    return file, folder / "out"


def test_a_generation_is_one_program_and_a_rung_leaves_half(searched):
    _, folder = searched
    sizes = {path.parent.name: len(run_folder.read_settings(path.parent)) for path in folder.glob("*/run.toml")}
    assert sizes == {
        "generation-000-rung-0": 4,
        "generation-000-rung-1": 2,
        "generation-001-rung-0": 4,
        "generation-001-rung-1": 2,
    }
    found = trials(folder)
    assert [row["state"] for row in found].count("complete") == 4 and len(found) == 8
    assert [row["evaluation"] for row in found if row["state"] == "pruned"] == ["2"] * 4
    assert (float(found[0]["actor_lr"]), float(found[0]["tau"])) == (3e-4, 0.005)  # what the file says comes first
    assert all(1e-4 <= float(row["actor_lr"]) <= 1e-1 and 0.001 <= float(row["tau"]) <= 0.5 for row in found)
    for name in ("history.png", "importance.png"):
        assert (folder / name).read_bytes().startswith(b"\x89PNG")


def test_what_survives_a_rung_goes_on_from_its_state(searched, tmp_path):
    """It ends as where nothing was given up."""
    _, folder = searched
    first, second = folder / "generation-000-rung-0", folder / "generation-000-rung-1"
    values = run_folder.read_settings(first)
    hyper = {name: [each[name] for each in values] for name in values[0]}
    file = write(tmp_path / "whole.toml", TABLE | {"mode": "zip", "hyper": hyper})
    assert sweep.main([str(file), "--out", str(tmp_path / "out")]) == 0
    whole, after = run_folder.read_curves(tmp_path / "out" / "td3-fast"), run_folder.read_curves(second)
    assert set(run_folder.read_curves(first)["env_step"]) == {0, 140, 240}
    for number, setting in enumerate(run_folder.read_settings(second)):
        there = run_folder.of_setting(whole, values.index(setting))
        here = run_folder.of_setting(after, number)
        for name in ("env_step", "seed", "return_mean", "critic_loss", "q"):
            np.testing.assert_allclose(here[name], there[name], rtol=1e-3, atol=1e-6, err_msg=name)


def test_the_better_half_survives(searched):
    _, folder = searched
    curves = run_folder.read_curves(folder / "generation-000-rung-0")
    scores = [run_folder.of_setting(curves, i)["return_mean"][-2:].mean() for i in range(4)]
    there = run_folder.read_settings(folder / "generation-000-rung-0")
    kept = [there.index(setting) for setting in run_folder.read_settings(folder / "generation-000-rung-1")]
    assert min(scores[i] for i in kept) >= max(scores[i] for i in range(4) if i not in kept)


def test_a_search_that_was_stopped_ends_as_one_that_was_not(searched, tmp_path):
    file, folder = searched
    words = [str(file), "--out", str(tmp_path / "out")]
    assert sweep.main([*words, "--time-limit", "0.001"]) == sweep.INTERRUPTED
    assert len(list((tmp_path / "out").glob("*/run.toml"))) == 1
    assert sweep.main(words) == 0
    assert trials(tmp_path / "out") == trials(folder)


def test_only_the_interquartile_mean_leaves_out_the_best_and_the_worst_seed():
    scores = np.array([[0.0, 1.0, 2.0, 9.0]])
    found = {name: float(aggregate(scores)[0]) for name, aggregate in search.AGGREGATES.items()}
    assert found == {"iqm": 1.5, "mean": 3.0, "min": 0.0}


@pytest.mark.parametrize(
    "aggregate, expected",
    # The interquartile mean of two seeds is their mean.
    [("iqm", np.mean), ("mean", np.mean), ("min", np.min)],
)
def test_the_score_of_a_setting_is_the_statistic_over_its_seeds(searched, aggregate, expected):
    folder = searched[1] / "generation-000-rung-0"
    settings = config.resolve({}, folder / "run.toml")
    plan = search.SearchPlan(Search(aggregate=aggregate), {}, (), settings)
    curves = run_folder.read_curves(folder)
    for number, score in enumerate(search._scores(folder, plan, 1)):
        there = run_folder.of_setting(curves, number)
        assert score == pytest.approx(expected(there["return_mean"][there["env_step"] == 140]), rel=1e-6)


@pytest.mark.parametrize(
    "table, words",
    [
        ({"space": {}}, "[search.space] is empty"),
        ({"space": {"actor_rl": {"uniform": [0.1, 0.2]}}}, "unknown setting 'actor_rl'"),
        ({"space": {"policy_delay": {"uniform": [1, 2]}}}, "only hyperparameters that are traced"),
        ({"space": {"tau": {"uniform": [0.1, 0.2]}}}, "it should include 0.005, the value of the first trial"),
        ({"space": {"tau": [0.1, 0.2]}}, "it should be like { log_uniform"),
        ({"sampler": "grid"}, "sampler is 'grid'"),
        ({"aggregate": "median"}, "aggregate is 'median'"),
        ({"trails": 3}, "unknown setting 'trails' under [search]"),
        ({"rungs": [3, 2]}, "it should be numbers of evaluations, increasing, from 1 to 3"),
        ({"rungs": [4]}, "it should be numbers of evaluations, increasing, from 1 to 3"),
        ({"rungs": [2.0]}, "it should be numbers of evaluations, increasing, from 1 to 3"),
    ],
)
def test_bad_searches_are_refused_in_one_line(table, words, tmp_path, capfd):
    file = write(tmp_path / "bad.toml", TABLE | {"search": SEARCH | table})
    assert words in refusal(capfd, file, "--out", tmp_path / "out")
    assert list(tmp_path.iterdir()) == [file]


def test_search_is_a_table(tmp_path, capfd):
    file = write(tmp_path / "bad.toml", TABLE | {"search": 3})
    assert "search is 3; it should be a table" in refusal(capfd, file, "--out", tmp_path / "out")


def test_a_rung_whose_checkpoint_is_damaged_is_trained_again(searched, tmp_path):
    folder = tmp_path / "rung"
    shutil.copytree(searched[1] / "generation-000-rung-0", folder)
    settings = config.resolve({}, folder / "run.toml")
    assert claims.has_come_to(folder, settings, 2)
    (arrays,) = (folder / "checkpoints" / "2").rglob(checkpoints.ARRAYS)
    arrays.write_bytes(arrays.read_bytes()[:-1])
    assert not claims.has_come_to(folder, settings, 2)
    runner.run(settings, *runner.prepare(settings), folder, Display(), until=2)
    assert claims.has_come_to(folder, settings, 2)


def test_a_search_is_of_one_program(tmp_path, capfd):
    file = write(tmp_path / "bad.toml", TABLE | {"search": SEARCH, "batch_size": [8, 16]})
    assert "a search needs exactly one program" in refusal(capfd, file, "--out", tmp_path / "out")
