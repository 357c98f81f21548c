"""The frame of runs, and what each seed's curve came to."""

import re
import subprocess
import sys
import tomllib

import numpy as np
import pytest
from folders import ROOT, write_run

from purerl.results import curves, published

STEPS = [0, 100, 200, 300]
# A GPU was lent for minutes. These runs ended early, after so many evaluations.
CUT_SHORT = {"million/HalfCheetah-v5-td3": 25, "million/Walker2d-v5-td3": 18, "million/Ant-v5-td3": 9}
EDITED = (  # of a commit and changes to it
    "million/HalfCheetah-v5-td3",
    "other_settings/HalfCheetah-v5-sac-40k-glorot",
    "other_settings/Reacher-v5-ddpg-small",
    "Reacher-v5-td3",
    "Swimmer-v5-ddpg-seeds-5-9",
)
RETURNS = np.array([[9.0, 1.0, 1.0], [2.0, 4.0, 3.0], [6.0, 2.0, 3.0], [4.0, 5.0, 3.0]])


@pytest.fixture
def frame(tmp_path):
    return curves.load(write_run(tmp_path / "run", STEPS, RETURNS))


def test_a_frame_has_a_row_per_run_seed_and_evaluation(tmp_path):
    write_run(tmp_path / "a" / "run", STEPS, RETURNS, algo="sac")
    write_run(tmp_path / "b" / "run", STEPS[:2], RETURNS[:2, :2], hyper={"tau": 0.02})
    frame = curves.load(tmp_path, by=["tau"])
    assert len(frame) == 16 and list(frame["run"].unique()) == ["a/run", "b/run"]
    assert frame.groupby("run")["algo"].first().tolist() == ["sac", "td3"]
    assert frame.groupby("run")["tau"].first().tolist() == [0.005, 0.02]
    assert (frame.query("run == 'a/run' and seed == 1")["return_mean"] == RETURNS[:, 1]).all()


def test_what_a_program_sweeps_is_a_column(tmp_path):
    returns = np.stack([RETURNS, RETURNS + 10], axis=1)
    frame = curves.load(write_run(tmp_path / "run", STEPS, returns, swept={"tau": [0.01, 0.1]}), by=["tau"])
    assert frame.groupby("tau")["return_mean"].max().to_dict() == {0.01: 9.0, 0.1: 19.0}
    assert curves.gather(frame).values.shape == (4, 6)


@pytest.mark.parametrize("algo", ["td3", "users_module:mine"])
def test_a_setting_that_an_older_run_does_not_name_has_its_default(algo, tmp_path, monkeypatch):
    """The module of an own algorithm is not imported: reading curves must not run a user's code."""
    (tmp_path / "users_module.py").write_text("")
    monkeypatch.syspath_prepend(tmp_path)
    write_run(tmp_path / "run", STEPS, RETURNS, algo=algo)
    assert set(curves.load(tmp_path, by=["initialization"])["initialization"]) == {"small"}
    assert "users_module" not in sys.modules


def test_a_hyperparameter_that_an_older_run_does_not_name_has_its_default(tmp_path):
    older = write_run(tmp_path / "older", STEPS, RETURNS)
    newer = write_run(tmp_path / "newer", STEPS, RETURNS, hyper={"tau": 0.005, "num_critics": 2})
    frame = curves.load(older, newer, by=["num_critics"])
    assert set(frame["num_critics"]) == {2} and not curves.differing(frame, older, newer)


def test_a_folder_that_is_named_twice_is_loaded_once(tmp_path):
    run = write_run(tmp_path / "run", STEPS, RETURNS)
    assert curves.folders(run, tmp_path / "run" / ".." / "run", tmp_path) == [run]


def test_rows_without_a_limit_are_a_group_too(tmp_path):
    for name, length in (("none", "none"), ("given", 100)):
        write_run(tmp_path / name, STEPS, RETURNS, episode_length=length)
    table = curves.summary(curves.load(tmp_path), by=("env", "algo", "limit"))
    assert table["seeds"].tolist() == [3, 3] and table["final"].nunique() == 1
    table = published.beside_published(curves.load(tmp_path), by=("env", "algo", "limit"))
    assert table["verdict"].tolist() == ["no reference"] * 2 and table["seeds"].tolist() == [3, 3]


@pytest.mark.parametrize(
    ("episode_length", "eval_length", "limit"), [(200, 100, 100), (100, 200, 100), ("none", 50, 50)]
)
def test_the_limit_is_that_of_the_evaluated_episodes(episode_length, eval_length, limit, tmp_path):
    run = write_run(tmp_path / "run", STEPS, RETURNS, episode_length=episode_length, eval_length=eval_length)
    assert set(curves.load(run)["limit"]) == {limit}


def test_a_seed_in_two_runs_is_not_counted_twice(tmp_path):
    for name in ("first", "second"):
        write_run(tmp_path / name, STEPS, RETURNS)
    frame = curves.load(tmp_path)
    with pytest.raises(ValueError, match="fast, td3: first, second share a seed, which would count more than once"):
        curves.summary(frame)
    assert len(curves.summary(frame, by=("run", "env", "algo"))) == 2


def test_a_run_whose_seeds_have_all_diverged_may_end_early(tmp_path):
    write_run(tmp_path / "whole", STEPS, RETURNS)
    path = write_run(tmp_path / "lost", STEPS[:2], RETURNS[:2], diverged={0: 100, 1: 100, 2: 100})
    rows = (path / "curves.csv").read_text()
    for seed in range(3):
        rows = rows.replace(f"\n{seed},", f"\n{seed + 5},")
    (path / "curves.csv").write_text(rows)
    (row,) = (row for _, row in curves.summary(curves.load(tmp_path)).iterrows())
    assert (row["seeds"], row["diverged"], row["unfinished"], row["env_step"]) == (6, 3, 0, 300)


def test_a_run_that_contradicts_itself_is_said_in_one_line(tmp_path):
    beyond = write_run(tmp_path / "beyond", STEPS, np.stack([RETURNS] * 2, axis=1))
    with pytest.raises(ValueError, match=r"curves.csv has a setting beyond the 1 of its run.toml"):
        curves.load(beyond)
    uneven = write_run(tmp_path / "uneven", STEPS, RETURNS, swept={"tau": [0.1], "gamma": [0.9, 0.99]})
    with pytest.raises(ValueError, match=r"run.toml has lists of different lengths under \[sweep\]"):
        curves.load(uneven)


def test_what_cannot_be_loaded_is_said_in_one_line(tmp_path):
    with pytest.raises(ValueError, match="no folder of a run is named"):
        curves.load()
    write_run(tmp_path / "run", STEPS, RETURNS)
    with pytest.raises(ValueError, match="there is no run in"):
        curves.load(tmp_path / "nowhere")
    with pytest.raises(ValueError, match="run has no setting 'taus'; did you mean tau"):
        curves.load(tmp_path, by=["taus"])


def test_runs_that_have_only_begun_or_are_damaged_are_one_line(tmp_path):
    run = write_run(tmp_path / "run", [], np.ones((0, 2)))
    with pytest.raises(ValueError, match="no evaluation has been made yet in"):
        curves.load(tmp_path)
    (run / "run.toml").write_text("algo = 'td")
    with pytest.raises(ValueError, match=r"run\.toml is not a TOML file: "):
        curves.settings(run)


def test_seeds_are_columns_and_diverged_ones_end(tmp_path):
    runs = curves.gather(curves.load(write_run(tmp_path / "run", STEPS, RETURNS, diverged={1: 150})))
    expected = RETURNS.copy()
    expected[2:, 1] = np.nan
    np.testing.assert_array_equal(runs.values, expected)
    np.testing.assert_array_equal(runs.diverged, [np.nan, 150, np.nan])


def test_runs_of_other_evaluations_meet_on_one_axis(tmp_path):
    write_run(tmp_path / "a", [0, 100, 200], [[0.0], [10.0], [20.0]])
    write_run(tmp_path / "b", [0, 150], [[0.0], [30.0]])
    runs = curves.gather(curves.load(tmp_path))
    np.testing.assert_array_equal(runs.x, [0, 100, 150, 200])
    np.testing.assert_array_equal(runs.values.T, [[0, 10, 15, 20], [0, 20, 30, np.nan]])


def test_the_mean_of_the_last_evaluations_leaves_out_step_0():
    np.testing.assert_array_equal(curves.mean_of_last(STEPS, RETURNS, 2), [5.0, 3.5, 3.0])
    np.testing.assert_array_equal(curves.mean_of_last(STEPS, RETURNS), [4.0, 11 / 3, 3.0])


def test_a_seed_whose_run_is_shorter_has_its_own_last_evaluations():
    shorter = RETURNS.copy()
    shorter[3, 0] = np.nan
    np.testing.assert_array_equal(curves.mean_of_last(STEPS, shorter, 2), [4.0, 3.5, 3.0])


def test_the_two_max_average_returns_differ_and_leave_out_step_0():
    assert curves.max_of_average_return(STEPS, RETURNS) == 4.0  # (4 + 5 + 3) / 3
    assert curves.average_of_max_return(STEPS, RETURNS) == pytest.approx((6 + 5 + 3) / 3)


def test_steps_to_a_threshold():
    np.testing.assert_array_equal(curves.steps_to_threshold(STEPS, RETURNS[:, 1:], 4.0), [100, np.inf])


def test_area_under_the_curve_is_the_mean_over_steps():
    assert curves.area_under_curve([0, 100, 400], np.array([[0.0], [2.0], [2.0]])) == pytest.approx(700 / 400)
    assert np.isnan(curves.area_under_curve([0], np.array([[3.0, 4.0]]))).tolist() == [True, True]


def test_the_summary_counts_diverged_seeds(tmp_path):
    path = write_run(tmp_path / "run", STEPS, RETURNS, diverged={1: 150})
    row = curves.summary(curves.load(path)).loc[("fast", "td3")]
    assert (row["seeds"], row["diverged"], row["env_step"]) == (3, 1, 300)
    assert row["last_3"] == row["final"] == (4.0 + 3.0) / 2
    assert row["last_3_low"] == 3.0 and row["last_3_high"] == 4.0
    assert row["average_of_max_return"] == 4.5  # 6 and 3; not the 4 of the one that diverged
    assert row["max_of_average_return"] == 4.5  # (6 + 3) / 2, of the two that are still there


@pytest.mark.parametrize(("evaluations", "name"), [(1, "last_1"), (9, "last_9"), (10, "last_10"), (25, "last_10")])
def test_a_mean_is_called_after_how_many_evaluations_it_is_of(tmp_path, evaluations, name):
    steps = np.arange(evaluations + 1) * 1000
    write_run(tmp_path / "run", steps, steps[:, None] + np.array([0.0, 2.0]), env="Hopper-v5")
    frame = curves.load(tmp_path)
    for table in (curves.summary(frame), published.beside_published(frame)):
        assert [column for column in table if column.startswith("last_")] == [name, f"{name}_low", f"{name}_high"]
        assert table[name].item() == 1 + steps[-min(10, evaluations) :].mean()


def test_means_of_different_numbers_of_evaluations_have_columns_of_their_own(tmp_path):
    write_run(tmp_path / "long", np.arange(13), np.arange(13.0)[:, None], env="Hopper-v5")
    write_run(tmp_path / "short", np.arange(3), np.arange(3.0)[:, None], env="Hopper-v5")
    table = published.beside_published(curves.load(tmp_path), by=("run", "env", "algo")).droplevel((1, 2))
    assert table["last_10"]["long"] == 7.5 and table["last_2"]["short"] == 1.5
    assert np.isnan(table["last_10"]["short"]) and np.isnan(table["last_2"]["long"])


def test_the_td3_papers_table_1_is_recomputed_from_what_is_shipped():
    """Max average return of the paper's Table 1, which was taken from a finer grid: within 2%."""
    for task, expected in {"HalfCheetah": 9637, "Hopper": 3564, "Walker2d": 4683, "Ant": 4372}.items():
        (curve,) = [curve for curve in published.find_curves(f"{task}-v5", "td3") if curve.source == "td3_paper"]
        best = curves.max_of_average_return(curve.env_step, curve.mean[:, None])
        assert best == pytest.approx(expected, rel=0.02)


def test_step_0_would_be_the_best_of_an_ant_that_never_learned():
    (curve,) = [curve for curve in published.find_curves("Ant-v5", "td3") if curve.source == "td3_paper"]
    early = curve.env_step <= 100_000
    best = curves.max_of_average_return(curve.env_step[early], curve.mean[early, None])
    assert best < curve.mean[0] and curve.mean[0] == pytest.approx(987, abs=1)


def test_no_published_curve_has_learned_before_its_warm_up_is_over():
    """JAXRL's clock counts the 10,000 random steps; Tianshou's begins after its 10,000 or 25,000, which are added."""
    there = {(curve.source, curve.algo): curve for curve in published.find_curves("HalfCheetah-v5")}
    for algo, warmup in {"sac": 10_000, "td3": 25_000, "ddpg": 25_000}.items():
        curve = there["tianshou", algo]
        assert curve.env_step[-1] == 1_000_000 + warmup and curve.mean[curve.env_step > warmup + 10_000].min() > 1000
        assert (curve.mean[curve.env_step <= warmup] < 0).all() and curve.env_step[0] >= warmup
    jaxrl = there["jaxrl", "sac"]
    assert jaxrl.env_step[0] == 10_000 and jaxrl.mean[0] < 0 and jaxrl.env_step[-1] == 1_000_000


@pytest.mark.parametrize(
    ("env", "returns", "verdict"),
    [
        ("Hopper-v5", 3300.0, "inside"),  # 1960 to 3400
        ("Hopper-v5", 1500.0, "below"),
        ("Hopper-v5", 3800.0, "above"),
        ("Walker2d-v5", 4000.0, "no reference"),
        ("hopper", 3300.0, "no reference"),
    ],
)
def test_a_verdict_is_held_against_the_published_range(tmp_path, env, returns, verdict):
    seeds = returns + np.array([-20.0, 0.0, 20.0])
    write_run(tmp_path / "run", [0, 1_000_000], [[0.0] * 3, seeds], env=env)
    row = published.beside_published(curves.load(tmp_path)).loc[(env, "td3")]
    assert row["verdict"] == verdict and row["last_1"] == pytest.approx(returns)
    assert np.isnan(row["low"]) or (row["low"], row["high"]) == (1960, 3400) or env == "Walker2d-v5"


def test_a_range_of_a_single_source_says_so(tmp_path):
    write_run(tmp_path / "run", [0, 1_000_000], [[0.0] * 3, [1000.0] * 3], env="InvertedPendulum-v5", algo="sac")
    row = published.beside_published(curves.load(tmp_path)).loc[("InvertedPendulum-v5", "sac")]
    assert (row["verdict"], row["low"], row["high"]) == ("above", 997, 997)
    assert row["of"] == "published returns at 1M steps, of 1 source"


@pytest.mark.parametrize("evaluations", [11, 26, 101, 201])
def test_published_curves_are_inside_what_is_published_however_many_evaluations_there_are(evaluations):
    """The mean of the last ten of 26 is of 36% of the run: lower, while a curve rises, than returns at its end."""
    x = np.linspace(0, 1_000_000, evaluations)
    for curve in (curve for name in ("HalfCheetah", "Ant", "Hopper") for curve in published.find_curves(f"{name}-v5")):
        mean, std = (np.interp(x, curve.env_step, values) for values in (curve.mean, curve.std))
        values = mean[:, None] + std[:, None] * np.linspace(-1.5, 1.5, curve.num_seeds)
        runs = curves.Runs(x, values, np.arange(curve.num_seeds), np.full(curve.num_seeds, np.nan))
        assert published.judge(f"{published.task(curve.env)}-v5", curve.algo, runs).verdict == "inside", curve


@pytest.mark.parametrize(
    ("returns", "settings", "reason"),
    [
        ([3300.0], {"env": "Hopper-v5"}, "a single seed has no interval"),
        ([990.0, 995.0], {"env": "HalfCheetah-v5", "episode_length": 100}, "end after 1000 steps, these after 100"),
        ([-4.0, -4.0], {"env": "Reacher-v5", "episode_length": 200}, "end after 50 steps, these after 200"),
    ],
)
def test_what_cannot_be_held_against_anything_has_no_verdict(tmp_path, returns, settings, reason):
    write_run(tmp_path / "run", [0, 500_000], [[0.0] * len(returns), returns], **settings)
    row = published.beside_published(curves.load(tmp_path)).iloc[0]
    assert row["verdict"] == "no reference" and reason in row["of"]


def test_every_source_is_compared_with_its_own_interval_and_settings(tmp_path):
    steps = [0, 20_000, 60_000, 90_000]
    for algo in ("td3", "sac"):
        write_run(tmp_path / algo, steps, [[0.0] * 3, *[[900.0, 1000.0, 1100.0]] * 3], env="Hopper-v5", algo=algo)
    table = published.beside_sources(curves.load(tmp_path))
    assert list(table.index) == [
        ("Hopper-v5", "sac", "Tianshou"),
        ("Hopper-v5", "sac", "JAXRL"),
        ("Hopper-v5", "td3", "Fujimoto et al. 2018"),
    ]  # Tianshou's TD3 begins at step 25,000.
    for (env, algo, source), row in table.iterrows():
        (curve,) = (curve for curve in published.find_curves(env, algo) if published.SOURCES[curve.source][0] == source)
        mean, std = (np.interp(steps[1:], curve.env_step, values).mean() for values in (curve.mean, curve.std))
        assert row["mean"] == 1000 and row["published"] == pytest.approx(mean)
        assert row["published_high"] - mean == pytest.approx(2.2622 * std / 3, rel=1e-4)  # t of 9 degrees of freedom
        high = row["high"] < row["published_low"], row["low"] > row["published_high"]
        assert row["verdict"] == {(True, False): "below", (False, True): "above"}.get(high, "inside")
    assert (
        table.loc[("Hopper-v5", "sac", "JAXRL"), "settings"] == "target entropy -dim(A)/2, orthogonal initial weights"
    )


@pytest.mark.parametrize(
    ("env", "algo", "random_steps"),
    [
        ("Hopper-v5", "td3", {"td3_paper": "1,000"}),
        ("Ant-v5", "td3", {"td3_paper": "10,000"}),
        ("Reacher-v5", "td3", {"tianshou": "25,000"}),
        ("Reacher-v5", "sac", {"tianshou": "10,000"}),
        ("Hopper-v5", "sac", {}),
        ("Swimmer-v5", "ddpg", {}),
    ],
)
def test_random_steps_are_a_difference_where_the_preset_has_others(env, algo, random_steps):
    for curve in published.find_curves(env, algo):
        if curve.source in random_steps:
            assert curve.settings.endswith(f"{random_steps[curve.source]} random steps")
        else:
            assert "random steps" not in curve.settings


def test_sources_of_another_task_and_a_single_seed_give_no_verdict(tmp_path):
    write_run(tmp_path / "walker", [0, 90_000], [[0.0] * 2, [9000.0] * 2], env="Walker2d-v5")
    write_run(tmp_path / "single", [0, 90_000], [[0.0], [9000.0]], env="Hopper-v5")
    table = published.beside_sources(curves.load(tmp_path))
    assert set(table["verdict"]) == {"no reference"} and len(table) > 2
    write_run(tmp_path / "long" / "run", [0, 3_000_000], [[0.0] * 2, [9000.0] * 2], env="Hopper-v5")
    assert not len(published.beside_sources(curves.load(tmp_path / "long")))


def test_reachers_verdict_says_that_its_reward_is_not_quite_that_of_the_sources(tmp_path):
    write_run(tmp_path / "run", [0, 500_000], [[-40.0] * 2, [-4.0, -4.1]], env="Reacher-v5", episode_length=50)
    row = published.beside_published(curves.load(tmp_path)).loc[("Reacher-v5", "td3")]
    assert row["verdict"] == "inside" and "v5 pays about 0.2 more" in row["of"]


def test_settings_and_programs_are_judged_apart(tmp_path):
    returns = np.array([[[0.0] * 3] * 2, [[100.0] * 3, [3300.0] * 3]])
    run = write_run(tmp_path / "run", [0, 1_000_000], returns, env="Hopper-v5", swept={"actor_lr": [1e-4, 3e-4]})
    frame = curves.spoken(curves.load(run), run)
    table = published.beside_published(frame, by=("run", "setting", "env", "algo"))
    assert table["verdict"].to_dict() == {
        ("run", "actor_lr 0.0001", "Hopper-v5", "td3"): "below",
        ("run", "actor_lr 0.0003", "Hopper-v5", "td3"): "inside",
    }


def test_runs_that_were_evaluated_at_other_steps_are_no_one_set_of_seeds(tmp_path):
    write_run(tmp_path / "long", [0, 1_000_000], [[0.0] * 2, [3300.0] * 2], env="Hopper-v5")
    write_run(tmp_path / "short", [0, 100_000], [[0.0] * 2, [100.0] * 2], env="Hopper-v5")
    frame = curves.load(tmp_path)
    with pytest.raises(
        ValueError, match="Hopper-v5, td3: long, short were evaluated at different steps; separate them"
    ):
        published.beside_published(frame)
    with pytest.raises(ValueError, match="were evaluated at different steps"):
        published.beside_sources(frame)
    assert len(published.beside_published(frame, by=("run", "env", "algo"))) == 2
    apart = published.beside_sources(frame, by=("run", "env", "algo"))
    assert apart.index.names == ["run", "env", "algo", "source"] and {key[0] for key in apart.index} == {
        "long",
        "short",
    }


def test_returns_after_a_million_steps_are_held_against_none(tmp_path):
    write_run(tmp_path / "run", [0, 3_000_000], [[0.0] * 2, [9000.0] * 2], env="Hopper-v5")
    row = published.beside_published(curves.load(tmp_path)).loc[("Hopper-v5", "td3")]
    assert row["verdict"] == "no reference" and row["of"] == "none published after 1M steps"


def test_unfinished_seeds_are_counted_and_have_no_return(tmp_path):
    """Two of four seeds were stopped after two evaluations, low on a rising curve."""
    run = write_run(tmp_path / "run", [0, 100, 200, 300], np.arange(4.0)[:, None] + [0.0, 0.1, 0.0, 0.0])
    rows = (run / "curves.csv").read_text().splitlines()
    kept = [row for row in rows if not (row.startswith(("2,", "3,")) and row.split(",")[2] in ("200", "300"))]
    (run / "curves.csv").write_text("\n".join([*kept, ""]))
    row = curves.summary(curves.load(run)).iloc[0]
    assert (row["seeds"], row["diverged"], row["unfinished"], row["env_step"]) == (4, 0, 2, 300)
    assert row["final"] == pytest.approx(3.05) and row["last_3"] == pytest.approx(2.05)
    assert row["area_under_curve"] == pytest.approx(1.55) and row["average_of_max_return"] == pytest.approx(3.05)


def test_a_setting_may_have_the_name_of_what_is_measured(tmp_path):
    for alpha in (0.1, 0.2):
        write_run(tmp_path / str(alpha), STEPS, RETURNS, hyper={"alpha": alpha})
    frame = curves.load(tmp_path, by=["alpha"])
    assert set(frame["alpha"]) == {0.1, 0.2} and frame["measured_alpha"].isna().all()


def test_seeds_that_have_not_come_to_the_last_step_are_not_judged():
    values = np.array([[0.0, 0.0, 0.0], [3300.0, 3300.0, 50.0], [3300.0, 3300.0, np.nan]])
    runs = curves.Runs(np.array([0, 500_000, 1_000_000]), values, np.arange(3), np.full(3, np.nan))
    assert published.judge("Hopper-v5", "td3", runs).verdict == "inside"


def test_a_shorter_run_is_held_against_the_curves_at_its_steps(tmp_path):
    curves_there = {curve.source: curve for curve in published.find_curves("Hopper-v5", "td3")}
    at = {name: np.interp(100_000, curve.env_step, curve.mean) for name, curve in curves_there.items()}
    write_run(tmp_path / "run", [0, 100_000], [[0.0] * 3, [at["td3_paper"] + x for x in (-1, 0, 1)]], env="Hopper-v5")
    row = published.beside_published(curves.load(tmp_path)).loc[("Hopper-v5", "td3")]
    assert row["verdict"] == "inside" and row["low"] < min(at.values()) and row["high"] > max(at.values())
    assert "Tianshou" in row["of"] and "same steps" in row["of"] and row["sources"] == len(at)


def test_what_is_shipped_of_real_runs_is_whole_and_says_where_it_comes_from():
    folders = curves.folders(ROOT / "results")
    assert {*CUT_SHORT, *EDITED} <= {folder.relative_to(ROOT / "results").as_posix() for folder in folders}
    for folder in folders:
        said, record = curves.settings(folder)[0], tomllib.loads((folder / "run.toml").read_text())["record"]
        rows, name = curves.load(folder), folder.relative_to(ROOT / "results").as_posix()
        planned = [0, *np.linspace(said["warmup_steps"], said["total_steps"], said["num_evals"])[1:].astype(int)]
        ran = sorted(rows["env_step"].unique())
        assert ran == planned[: CUT_SHORT.get(name)] and len(rows) == said["num_seeds"] * len(ran)
        assert name not in CUT_SHORT or said["time_limit"]
        assert re.fullmatch(r"[0-9a-f]{40}" + r"\+" * (name in EDITED), record["commit"])
        assert record["versions"]["jax"]


def test_drawing_and_statistics_need_no_jax():
    modules = "curves, figures, page, published, run_folder"
    code = f"import sys; from purerl import plot; from purerl.results import {modules}; sys.exit('jax' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


@pytest.mark.parametrize(
    ("algo", "verdict", "of"),
    [
        ("td3", "inside", "Fujimoto et al. 2018, at the same steps"),  # Tianshou's curve begins at 35,000 steps.
        ("sac", "no reference", "none published before step 10,000"),
    ],
)
def test_a_published_curve_counts_only_where_it_has_begun(algo, verdict, of):
    (curve,) = [curve for curve in published.find_curves("InvertedPendulum-v5", "td3") if curve.source == "td3_paper"]
    x = np.array([0.0, 2000.0, 3000.0])
    values = np.interp(x, curve.env_step, curve.mean)[:, None] + np.array([-1.0, 0.0, 1.0])
    runs = curves.Runs(x, values, np.arange(3), np.full(3, np.nan))
    found = published.judge("InvertedPendulum-v5", algo, runs)
    assert (found.verdict, found.of, found.sources) == (verdict, of, verdict == "inside")
