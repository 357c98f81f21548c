"""The run folder is a format: curves.csv by its header, and the folder of purerl 0.1.0 that is kept under data/."""

import csv
import json
import shutil
import tomllib
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest
from commands import arguments
from folders import KEPT, write_run
from toys import construct

import purerl
from purerl import plot, report
from purerl import train as training
from purerl.algorithms import sac
from purerl.policies import acting, exporting, formats, layers, load
from purerl.results import comparison, curves, page, run_folder
from purerl.runs import claims, runner, sinks
from purerl.settings import config, hyperparameters, registry

pytestmark = pytest.mark.usefixtures("shared_programs")

STEPS = [0, 120, 200, 280]


def read(path):
    with open(path / "curves.csv", newline="") as file:
        return list(csv.DictReader(file))


def rewritten(path, change):
    """The folder `path`, after `change(header, rows)` of its curves.csv, which returns both."""
    header, *rows = csv.reader((path / "curves.csv").read_text().splitlines())
    header, rows = change(header, rows)
    (path / "curves.csv").write_text(run_folder.lines([header, *rows]))
    return path


def reordered(header, rows):
    order = np.random.default_rng(0).permutation(len(header))
    return [header[i] for i in order], [[row[i] for i in order] for row in rows]


def with_others(header, rows):
    """Two columns that this version does not know, in front: numbers and text."""
    return ["later", "note", *header], [[f"{i}.5", f"a, {i}", *row] for i, row in enumerate(rows)]


def without(*names):
    def change(header, rows):
        kept = [i for i, name in enumerate(header) if name not in names]
        return [header[i] for i in kept], [[row[i] for i in kept] for row in rows]

    return change


def copied(tmp_path):
    return Path(shutil.copytree(KEPT, tmp_path / "run"))


def sums(path):
    return {file.relative_to(path): file.read_bytes() for file in path.rglob("*") if file.is_file()}


# The kept folder


def test_the_kept_folder_says_what_it_said(tmp_path, capsys):
    table = run_folder.read_curves(KEPT)
    assert table["env_step"].tolist() == np.repeat(STEPS, 2).tolist() and table["seed"].tolist() == [5, 6] * 4
    assert table["return_mean"][-2:].tolist() == [-149.8224, -172.8927]
    assert np.isnan(table["alpha"]).all() and np.isnan(table["diverged"]).all()
    frame = curves.load(KEPT)
    assert frame["env"].unique() == ["Pendulum-v1"] and len(frame) == 8 and frame["limit"].unique() == [20]
    assert curves.summary(frame)["final"].tolist() == [pytest.approx(-161.35755)]
    assert plot.main([str(KEPT), "--out", str(tmp_path / "it.png")]) == 0
    assert "Pendulum-v1: TD3, 2 seeds" in capsys.readouterr().out
    text = page.html(KEPT)
    assert "TD3 on Pendulum-v1" in text and "critic loss" in text and "record.versions" not in text
    assert [len(one.series) for one in sinks.evaluations(KEPT, 2)] == [3 * 6 + 1, *[6 * 6 + 1] * 3]
    assert comparison.table(comparison.lines(KEPT, "Pendulum-v1"))[1][4] == "280"


def test_the_kept_folder_is_of_the_settings_that_it_says():
    resolved = config.resolve({}, KEPT / "run.toml")
    assert claims.check_same_run(KEPT, resolved) == resolved and resolved.plan.widths == (8,)
    assert claims.is_complete(KEPT, resolved)
    with pytest.raises(ValueError, match="seed is 5 there and 6 here"):
        claims.check_same_run(KEPT, config.resolve({"seed": "6"}, KEPT / "run.toml"))


def test_the_kept_folder_goes_on_or_is_refused_and_nothing_is_lost(tmp_path, capfd):
    path = copied(tmp_path)
    (path / "policy" / "actor.npz").unlink()
    before = sums(path)
    try:
        status = training.main(["--resume", str(path)])
    except SystemExit as ended:
        status = ended.code
    after = sums(path)
    if status == 0:
        assert (path / "policy" / "actor.npz").is_file() and read(path) == read(KEPT)
    else:  # where the state that training changes is not what it was then
        assert status == 2 and after == before and capfd.readouterr().err.startswith("error: ")
    assert all(after[name] == content for name, content in before.items() if name.parts[0] == "checkpoints")


# Columns


@pytest.mark.parametrize("change", [reordered, with_others])
def test_columns_are_found_by_their_header(change, tmp_path):
    path = rewritten(copied(tmp_path), change)
    table, expected = run_folder.read_curves(path), run_folder.read_curves(KEPT)
    assert list(table)[: len(run_folder.COLUMNS)] == list(run_folder.COLUMNS) and "note" not in table
    for name, values in expected.items():
        np.testing.assert_array_equal(table[name], values)
    assert ("later" in table) == (change is with_others)
    assert ("later/seed_5" in sinks.evaluations(path, 2)[0].series) == (change is with_others)


@pytest.mark.parametrize("name", [*run_folder.COLUMNS, "q"])
def test_an_absent_column_is_empty_and_one_that_says_whose_a_row_is_is_missed(name, tmp_path):
    path = rewritten(copied(tmp_path), without(name))
    if name in run_folder.KEYS:
        with pytest.raises(ValueError, match=f"damaged: it has no column '{name}'"):
            run_folder.read_curves(path)
        return
    table = run_folder.read_curves(path)
    assert np.isnan(table[name]).all() if name in run_folder.COLUMNS else name not in table
    assert len(curves.load(path)) == 8 and len(page.html(path)) > 1000
    assert len(sinks.evaluations(path, 2)) == 4
    with sinks.feed(path, ["csv", "jsonl"], 2) as feed:
        feed()
    assert "NaN" not in (path / "metrics.jsonl").read_text()


@pytest.mark.parametrize("change", [reordered, with_others, without("diverged", "return_std", "alpha"), lambda *x: x])
def test_what_is_cut_copied_and_added_follows_the_header_that_the_file_has(change, tmp_path):
    path = rewritten(copied(tmp_path), change)
    header = (path / "curves.csv").read_text().partition("\n")[0]
    rows = read(path)
    assert run_folder.truncate(path, [(0, 5), (0, 6)], 200) == 6.596
    assert read(path) == rows[:6]
    values = {"return_mean": np.float32([-1, 2]), "critic_loss": np.array([np.nan, 0.5])}
    run_folder.append_evaluation(path, [(0, 5), (0, 6)], {"env_step": 280, "update": 120, "wall_s": 7.5}, values)
    assert (path / "curves.csv").read_text().partition("\n")[0] == header
    *_, first, second = read(path)
    assert first["return_mean"] == "-1" and first["critic_loss"] == "" and second["critic_loss"] == "0.5"
    assert second["wall_s"] == "7.5" and second["env_step"] == "280" and second["seed"] == "6"
    assert all(second.get(name, "") == "" for name in ("later", "note"))
    (tmp_path / "other").mkdir()
    run_folder.create(tmp_path / "other", "", ("q",))
    run_folder.copy_rows(path, tmp_path / "other", [0], 120)
    for there, row in zip(read(tmp_path / "other"), rows[:4], strict=True):
        assert {name: there[name] for name in row} == row


def test_a_column_that_the_file_lacks_is_added_and_no_row_is_lost(tmp_path):
    path = rewritten(copied(tmp_path), with_others)
    rows = read(path)
    with open(path / "curves.csv", "a") as file:
        file.write("8.5,torn")  # a row that was being written
    common = {"env_step": 300, "update": 130, "wall_s": 8.0}
    run_folder.append_evaluation(path, [(0, 5)], common, {"dropped": np.array([2]), "q": np.array([0.25])})
    *before, last = read(path)
    assert before == [row | {"dropped": ""} for row in rows]
    assert (last["dropped"], last["q"], last["note"], last["env_step"]) == ("2", "0.25", "", "300")
    assert run_folder.read_curves(path)["dropped"][-1] == 2
    assert [file.name for file in path.iterdir() if "partial" in file.name] == []


def test_a_fixed_column_of_a_later_version_is_one_name_more(tmp_path, monkeypatch):
    monkeypatch.setattr(run_folder, "COLUMNS", (*run_folder.COLUMNS, "of_later"))
    path = copied(tmp_path)
    assert np.isnan(run_folder.read_curves(path)["of_later"]).all()
    assert np.isnan(curves.load(path)["of_later"]).all()
    common = {"env_step": 300, "update": 130, "wall_s": 8.0}
    run_folder.append_evaluation(path, [(0, 5), (0, 6)], common, {"of_later": np.array([0, 7])})
    assert run_folder.read_curves(path)["of_later"][-3:].tolist()[1:] == [0, 7]
    assert sinks.evaluations(path, 2)[-1].series["of_later/max"] == 7
    assert "of later" in page.html(path)


@pytest.mark.parametrize("end", ["\n", "", "\r\n"])
def test_a_header_without_rows_is_understood(end, tmp_path, capsys):
    path, begun = copied(tmp_path / "a"), copied(tmp_path / "b")
    header = (path / "curves.csv").read_text().splitlines()[0]
    (path / "curves.csv").write_bytes((header + end).encode())
    table = run_folder.read_curves(path)
    assert all(len(values) == 0 for values in table.values()) and len(table) == 16
    assert run_folder.final(table)["seed"].shape == (0,) and run_folder.per_seed(table)[1].size == 0
    assert sinks.evaluations(path, 2) == [] and comparison.lines(path, "fast") == []
    assert run_folder.truncate(path, [(0, 5)], -1) == 0.0
    for command in (plot.main, report.main):
        with pytest.raises(SystemExit):
            command([str(path), *(["--out", str(tmp_path / "it.png")] if command is plot.main else [])])
        assert "no evaluation has been made yet in" in capsys.readouterr().err
    assert len(curves.load(path, begun)) == 8
    (path / "curves.csv").write_bytes((header + end).encode())
    run_folder.append_evaluation(path, [(0, 5)], {"env_step": 0, "update": 0, "wall_s": 1.0}, {})
    assert len(run_folder.read_curves(path)["seed"]) == 1
    run_folder.copy_rows(begun, path)
    assert run_folder.read_curves(path)["seed"].tolist() == [5, *[5, 6] * 4]


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("", "it has no column 'seed'"),
        ("seed,setting,env_step,q,q\n", "two columns 'q'"),
        ("seed,setting,env_step,q\n0,0,1\n", "row 1 has 3 cells under 4 columns"),
        ("seed,setting,env_step,q\n0,0,1,1\n0,0,2,x\n", "q: could not convert"),
        ("seed,setting,env_step,return_mean\n0,0,1,x\n", "return_mean: could not convert"),
        ("seed,setting,env_step\n0,,1\n", "setting is not a whole number"),
        ("seed,setting,env_step\n0,0,inf\n", "env_step is not a whole number"),
        ("seed,setting,env_step\n0,0,1.5\n", "env_step is not a whole number"),
    ],
)
def test_what_is_no_table_is_called_damaged(text, what, tmp_path):
    (tmp_path / "curves.csv").write_text(text)
    with pytest.raises(ValueError, match=f"curves.csv is damaged: .*({what})"):
        run_folder.read_curves(tmp_path)


def test_columns_that_are_called_as_those_of_a_frame_are_told_apart(tmp_path):
    path = write_run(tmp_path / "run", [0, 100], np.ones((2, 2)), metrics=("env", "limit", "tau"))
    frame = curves.load(path, by=["tau"])
    assert frame["tau"].tolist() == [0.005] * 4 and frame["env"].tolist() == ["fast"] * 4
    assert {"measured_env", "measured_limit", "measured_tau"} <= set(curves.metrics(frame))
    assert len(page.html(path)) > 1000


# Numbers


@pytest.mark.parametrize("number", [0, 7, 2**24 + 1, 10**7 + 1, 2**31 + 1, 2**53 - 1])
def test_whole_numbers_keep_all_their_digits(number, tmp_path):
    run_folder.create(tmp_path, "")
    values = {"diverged": np.array([float(number)]), "return_mean": np.array([number])}
    run_folder.append_evaluation(
        tmp_path, [(3, 2**31 - 1)], {"env_step": number, "update": number, "wall_s": 1}, values
    )
    (row,) = read(tmp_path)
    assert [row[name] for name in ("env_step", "update", "diverged", "return_mean")] == [str(number)] * 4
    assert (row["seed"], row["setting"]) == ("2147483647", "3")
    assert run_folder.read_curves(tmp_path)["env_step"].tolist() == [number]


def test_measured_numbers_are_read_back_as_they_were(tmp_path):
    rng = np.random.default_rng(0)
    values = (rng.normal(size=200) * 10.0 ** rng.integers(-30, 30, 200)).astype(np.float32)
    values = np.concatenate([values, np.float32([16777217, 1 / 3, 0.1, 1e-38, 3.4e38, np.inf, -np.inf, 9998.5625])])
    run_folder.create(tmp_path, "", ("q", "wide", "small"))
    runs = [(0, i) for i in range(len(values))]
    more = {"wide": values * np.float64(np.pi), "small": np.asarray(jnp.asarray(values, jnp.bfloat16))}
    run_folder.append_evaluation(tmp_path, runs, {"env_step": 0, "wall_s": 123456789.125}, {"q": values} | more)
    table = run_folder.read_curves(tmp_path)
    np.testing.assert_array_equal(table["q"].astype(np.float32), values)
    np.testing.assert_array_equal(table["wide"], more["wide"])
    np.testing.assert_array_equal(table["small"].astype(np.float32), more["small"].astype(np.float32))
    assert table["wall_s"][0] == 123456789.125


def test_tables_of_sweeps_keep_all_digits_of_steps_and_settings(tmp_path):
    returns = np.ones((2, 2, 1))
    path = write_run(tmp_path / "run", [0, 123_456_789], returns, swept={"tau": [0.0012345678, 0.0012345679]})
    header, *rows = comparison.table(comparison.lines(path, "fast"))
    assert [row[header.index("env_step")] for row in rows] == ["123456789"] * 2
    assert [row[header.index("tau")] for row in rows] == ["0.0012345678", "0.0012345679"]


# Metrics


def gaussian(changes=None, **metrics):
    """The constructor of a Gaussian algorithm that is not called sac, whose actor update returns other `metrics`."""

    def build(hyper, plan, env):
        made = sac.sac(hyperparameters.SAC(), plan, env)

        def update_actor(state, batch, key):
            state, found = made.update_actor(state, batch, key)
            return state, found | {name: jnp.asarray(value) for name, value in metrics.items()}

        more = made._replace(update_actor=update_actor, metrics=(*made.metrics, *metrics))
        more = more._replace(policy_delay=hyper.policy_delay)
        return more._replace(**changes(more) if changes else {})

    return build


@pytest.mark.parametrize(
    ("build", "says"),
    [
        (gaussian(lambda made: {"metrics": made.metrics[:-1]}), "return the metric 'entropy', which .* not name"),
        (gaussian(lambda made: {"metrics": ()}), "return the metric 'critic_loss'.*known: none"),
        (gaussian(lambda made: {"metrics": (*made.metrics, "entopy")}), "names 'entopy', .* not return.*mean entropy"),
        (gaussian(lambda made: {"metrics": (*made.metrics, "q")}), "names 'q' twice"),
        (gaussian(return_mean=1.0), "'return_mean' has the name of a column"),
        (gaussian(seed=1.0), "'seed' has the name of a column"),
        (gaussian(**{"a/b": 1.0}), "'a/b' is not a valid name"),
        (gaussian(lambda made: {"metrics": made.metrics[:5]}, q=1.0), "both return the metric 'q'"),
        (gaussian(each=[1.0, 2.0]), r"'each' is float32\[2\]; it should be a number"),
        (gaussian(lambda made: {"policy_delay": 3}), "its policy_delay is 3, but 2 in its hyperparameters"),
        (gaussian(sound=True), r"'sound' is bool\[\]; it should be a number"),
        (gaussian(lambda made: {"policy": lambda state: (state.actor.params,)}), "has the part .* nested dicts"),
        (gaussian(lambda made: {"policy": lambda state: state.log_alpha.params}), "its policy is .* nested dicts"),
    ],
)
def test_what_an_algorithm_does_not_do_as_it_declares_is_one_line(build, says, monkeypatch):
    construct(monkeypatch, build)
    with pytest.raises(ValueError, match=f"^td3: .*{says}") as error:
        runner.prepare(config.resolve({"env": "Pendulum-v1"}))
    assert "\n" not in str(error.value)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A run of the Gaussian algorithm, which is called td3."""
    path = tmp_path_factory.mktemp("runs") / "run"
    words = arguments(env="Pendulum-v1", algo="td3", num_seeds="2", normalize_observations="true")
    with pytest.MonkeyPatch.context() as patch:
        construct(patch, gaussian(quantile_spread=2.0**24, zero_everywhere=0.0))
        words += ["--log", "csv,jsonl", "--checkpoint-every", "1", "--checkpoint-keep", "9", "--out", str(path)]
        assert training.main(words) == 0
    return path


@pytest.mark.slow
def test_the_metrics_of_an_algorithm_reach_the_curves_the_page_and_the_loggers(trained):
    path = trained
    rows, losses = read(path), ("critic_loss", "q", "actor_loss", "alpha", "entropy")
    assert tuple(rows[0]) == (*run_folder.COLUMNS, *losses, "quantile_spread", "zero_everywhere")
    assert all(float(rows[-1][name]) for name in losses) and rows[-1]["zero_everywhere"] == "0"
    text = page.html(path)
    assert "quantile spread" in text and "zero everywhere" not in text
    last = json.loads((path / "metrics.jsonl").read_text().splitlines()[-1])
    assert last["quantile_spread/seed_5"] == 2.0**24 and last["entropy/iqm"]
    assert "quantile_spread/mean" in (path / "metrics.csv").read_text()
    ran_on = tomllib.loads((path / "run.toml").read_text())["record"]
    assert (ran_on["obs_size"], ran_on["action_size"]) == (3, 1)


@pytest.mark.parametrize("algo", registry.ALGORITHMS)
def test_every_algorithm_declares_what_it_does(algo):
    made = config.resolve({"algo": algo, "env": "Pendulum-v1"})
    assert registry.find_algorithm(algo).build(made.hyper, made.plan, runner.prepare(made)[0]).metrics[:2] == (
        "critic_loss",
        "q",
    )


def test_the_size_of_an_action_is_what_the_run_recorded_whatever_the_algorithm_is_called(trained, monkeypatch):
    """This one has a mean and a deviation for an action of one number."""
    construct(monkeypatch, gaussian(quantile_spread=0.0, zero_everywhere=0.0))
    states = np.random.default_rng(0).normal(size=(16, 3)).astype(np.float32)
    for at in (None, 120):
        kept = load.read_policies(trained, at)
        expected = np.asarray(acting.trained(kept, 1)(states))
        action = purerl.load_policy(trained, seed=6, at=at)(states)
        assert action.shape == (16, 1) and np.ptp(action) > 1e-4
        np.testing.assert_allclose(layers.apply(kept.layers(1), states), expected, atol=1e-5)
        np.testing.assert_allclose(action, expected, atol=1e-5)
        for format in formats.WRITERS:
            assert exporting.export(kept, 1, format, trained / f"it.{format}") < 1e-5


def test_an_actor_that_is_not_made_of_known_layers_acts_in_jax(trained, monkeypatch, tmp_path):
    """Its parameters are called otherwise, and its action is another function of them."""

    def build(hyper, plan, env):
        made = gaussian(quantile_spread=0.0, zero_everywhere=0.0)(hyper, plan, env)
        return made._replace(
            policy=lambda state: {"mine": made.policy(state)},
            act=lambda policy, observation: jnp.sin(made.act(policy["mine"], observation)),
        )

    construct(monkeypatch, build)
    kept, states = load.read_policies(trained, 200), np.ones((4, 3), np.float32)
    policy = purerl.load_policy(trained, seed=5, at=200)
    np.testing.assert_allclose(policy(states), acting.trained(kept, 0)(states), atol=1e-6)
    assert policy(np.ones((2, 0, 3))).shape == (2, 0, 1)
    with pytest.raises(ValueError, match="the shape \\(5, 1\\)"):
        policy(np.ones((5, 1)))
    assert exporting.export(kept, 0, "stablehlo", tmp_path / "it.stablehlo") < 1e-6
    with pytest.raises(ValueError, match="not made of layers that npz supports; use stablehlo"):
        exporting.export(kept, 0, "npz", tmp_path / "it.npz")
    with pytest.raises(ValueError, match=r"an older version of purerl: \['params'\].* here; use the commit"):
        purerl.load_policy(trained, seed=5)
