"""The worst settings of every seed take over from its best, and explore from there."""

import csv

import jax
import numpy as np
import pytest
from commands import SMALL, assert_same_run, start, stopped_after
from test_sweep import refusal, write

from purerl import sweep
from purerl.results import run_folder
from purerl.runs import pbt, runner
from purerl.settings import config, sweep_file
from purerl.settings.hyperparameters import TD3, CrossQ
from purerl.settings.schema import Population
from purerl.training import loop, mapping

pytestmark = pytest.mark.usefixtures("shared_programs")

TABLE = SMALL | {"algo": "td3", "num_seeds": "2", "total_steps": "440", "num_evals": "5"}
HYPER = {"actor_lr": [1e-4, 1e-3, 1e-2, 1e-1]}
POPULATION = TABLE | {"hyper": HYPER, "pbt": {"fraction": 0.25, "factor": 2.0}}


def test_the_worst_of_every_seed_takes_over_from_its_best():
    returns = np.array([[1.0, 4.0], [2.0, 3.0], [3.0, 2.0], [4.0, 1.0]])
    source = pbt.sources(returns, jax.random.key(0), 1)
    assert source.tolist() == [[3, 0], [1, 1], [2, 2], [3, 0]]


def test_a_run_that_diverged_takes_part_in_nothing():
    returns = np.array([[np.nan], [2.0], [3.0], [np.nan]])
    assert pbt.sources(returns, jax.random.key(0), 2).tolist() == [[0], [2], [2], [3]]
    assert pbt.sources(np.full((4, 1), np.nan), jax.random.key(0), 2).tolist() == [[0], [1], [2], [3]]


def test_two_of_the_worst_draw_from_two_of_the_best():
    returns = np.repeat(np.arange(8.0)[:, None], 50, axis=1)
    source = np.asarray(pbt.sources(returns, jax.random.key(1), 2))
    assert (source[2:] == np.arange(2, 8)[:, None]).all()
    assert set(source[:2].ravel()) == {6, 7}


def test_what_is_taken_over_is_multiplied_or_divided_and_stays_within_its_limits():
    values, source = np.full((2, 100), 0.8, np.float32), np.array([[1] * 100, [1] * 100])
    found = np.asarray(pbt.explored(values, source, jax.random.key(0), 2.0, 0.0, 1.0))
    assert set(np.round(found[0], 4)) == {np.float32(0.4), np.float32(1.0)} and (found[1] == values[1]).all()


def test_adams_decay_rate_cannot_change_within_a_run():
    """Its moments are corrected by the rate to the power of all updates: near 1, the next step would be enormous."""
    table = SMALL | {"algo": "crossq", "hyper": {"policy_delay": 2}, "sweep": {"adam_b1": [0.5, 0.9]}, "pbt": {}}
    with pytest.raises(ValueError, match=r"^\[pbt\] cannot change adam_b1 after a run has started"):
        config.resolve_table({}, table)


def test_a_number_that_must_be_less_than_1_stays_less_than_1():
    """0.9 · 1.2 would be more than 1."""
    low, high = pbt._limits(CrossQ, "adam_b1")
    assert low == 0.0 and high < 1.0 and np.float32(high) == np.nextafter(np.float32(1), np.float32(0))
    values, source = np.full((2, 8), 0.9, np.float32), np.ones((2, 8), int)
    assert np.asarray(pbt.explored(values, source, jax.random.key(0), 1.2, low, high)).max() < 1.0


def test_numbers_have_the_limits_of_their_settings():
    assert pbt._limits(CrossQ, "gamma") == (0.0, 1.0)
    assert pbt._limits(TD3, "tau")[1] == 1.0
    assert pbt._limits(CrossQ, "actor_lr")[1] > 1e38 and pbt._limits(CrossQ, "target_entropy")[1] > 1e38


def test_agents_are_copied_and_keys_rings_and_environments_are_not():
    settings = config.resolve_table({}, SMALL | {"algo": "sac"})
    env, build = runner.prepare(settings)
    programs = mapping.programs(settings.plan, build, env, settings.hyper)
    carry = programs.run_warm_up(mapping.flowing(settings.hyper), mapping.keys(0, 3))
    after = pbt.taken_over(carry, np.array([2, 1, 2]))
    for new, old in zip(jax.tree.leaves(after.agent), jax.tree.leaves(carry.agent), strict=True):
        np.testing.assert_array_equal(new[0], old[2])
        np.testing.assert_array_equal(new[1], old[1])
    assert isinstance(after, loop.Carry) and (jax.random.key_data(after.key) == jax.random.key_data(carry.key)).all()
    for part in ("ring", "episodes"):
        for new, old in zip(jax.tree.leaves(getattr(after, part)), jax.tree.leaves(getattr(carry, part)), strict=True):
            np.testing.assert_array_equal(new, old)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pbt")
    file = write(folder / "pbt.toml", POPULATION)
    assert sweep.main([str(file), "--out", str(folder / "out"), "--checkpoint-every", "1"]) == 0
    return file, folder / "out" / "td3-fast"


def history(path):
    with open(path / pbt.FILE, newline="") as file:
        return list(csv.DictReader(file))


def test_the_history_says_what_became_of_whom(trained):
    _, path = trained
    rows = history(path)
    assert [int(row["evaluation"]) for row in rows] == np.repeat([1, 2, 3], 8).tolist()
    curves, before = run_folder.read_curves(path), np.repeat(np.float32(HYPER["actor_lr"]), 2)
    moved = 0
    for index in (1, 2, 3):
        rows_now = [row for row in rows if int(row["evaluation"]) == index]
        returns = curves["return_mean"][curves["update"] == index * 50].reshape(4, 2)
        for i, row in enumerate(rows_now):
            setting, seed, source = i // 2, i % 2, int(row["source"])
            value, old = np.float32(row["actor_lr"]), before[source * 2 + seed]
            if source == setting:
                assert value == old
            else:
                moved += 1
                assert returns[setting, seed] <= returns[source, seed] == returns[:, seed].max()
                assert value in (np.float32(old * np.float32(2)), np.float32(old / np.float32(2)))
        before = np.float32([row["actor_lr"] for row in rows_now])
    assert moved >= 3


def test_a_population_that_was_stopped_ends_as_one_that_was_not(trained, one_turn_at_a_time, tmp_path, monkeypatch):
    file, path = trained
    words = [str(file), "--out", str(tmp_path / "out")]
    with stopped_after(10 + 1 + 25 + 1 + 5, monkeypatch):  # the warm-up, an evaluation, an epoch, another; 5 cycles
        assert sweep.main(words) == sweep.INTERRUPTED
    assert len(history(tmp_path / "out" / "td3-fast")) == 8
    assert sweep.main(words) == 0
    assert_same_run(tmp_path / "out" / "td3-fast", path)
    assert history(tmp_path / "out" / "td3-fast") == history(path)


@pytest.mark.slow
def test_a_population_on_two_devices_comes_to_the_same(trained, tmp_path, monkeypatch):
    file, path = trained
    monkeypatch.setenv("JAX_NUM_CPU_DEVICES", "2")
    code = "import sys; from purerl import sweep; sys.exit(sweep.main())"
    process = start(file, "--out", tmp_path / "out", code=code)
    shown = process.communicate(timeout=300)[0]
    assert process.returncode == 0, shown
    there = tmp_path / "out" / "td3-fast"
    assert config.read_toml(there / "run.toml")["record"]["num_devices"] == 2
    assert history(there) == history(path)
    assert_same_run(there, path, rtol=1e-3)


def test_a_population_may_leave_all_to_the_defaults(tmp_path):
    (program,) = sweep_file.expand(TABLE | {"hyper": HYPER, "pbt": {}}, {})
    assert program.settings.pbt == Population()
    file = tmp_path / "run.toml"
    file.write_text(config.to_toml(program.settings))
    assert config.resolve({}, file).pbt == Population()


@pytest.mark.parametrize(
    "table, words",
    [
        ({"hyper": {}}, "[pbt] needs lists of numbers under [hyper]"),
        ({"seeds_per_batch": 2}, "[pbt] needs lists of numbers under [hyper]"),
        (
            {"algo": "sac", "hyper": {"initial_alpha": [0.1, 1.0]}},
            "[pbt] cannot change initial_alpha after a run has started",
        ),
        ({"pbt": {"fraction": 0.9}}, "fraction is 0.9"),
        ({"pbt": {"evry": 1}}, "unknown setting 'evry' under [pbt]; did you mean every"),
    ],
)
def test_bad_populations_are_refused_in_one_line(table, words, tmp_path, capfd):
    file = write(tmp_path / "bad.toml", POPULATION | table)
    assert words in refusal(capfd, file, "--out", tmp_path / "out")
