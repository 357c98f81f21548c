"""An algorithm from outside of the package, `tqc.py`: it trains, resumes, sweeps, exports and draws its own metric."""

import shutil
import sys
from dataclasses import dataclass, make_dataclass
from pathlib import Path
from typing import Annotated

import jax.numpy as jnp
import numpy as np
import pytest
import tqc
from commands import arguments, assert_same_run, stopped_after
from pydantic import Field

import purerl
from purerl import export, plot, sweep, train
from purerl.policies import acting, load
from purerl.results import curves, page, run_folder
from purerl.runs import runner
from purerl.settings import config, kinds, registry, sweep_file

WORDS = {"algo": "tqc:tqc", "env": "Pendulum-v1", "num_quantiles": "4"}


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    path = tmp_path_factory.mktemp("runs") / "run"
    words = [*arguments(**WORDS), "--log", "csv", "--checkpoint-every", "1", "--checkpoint-keep", "9"]
    words += ["--out", str(path)]
    assert train.main(words) == 0
    return path


def test_it_takes_one_file_of_eighty_lines():
    assert len(Path(tqc.__file__).read_text().splitlines()) <= 80


def test_its_metric_is_in_the_curves_the_page_and_the_loggers(trained):
    spread = run_folder.read_curves(trained)["quantile_spread"]
    assert np.isnan(spread[:3]).all() and (spread[3:] > 0).all()
    assert "quantile spread" in page.html(trained) and "quantile_spread/iqm" in (trained / "metrics.csv").read_text()


def test_its_name_and_its_colour_are_in_the_figures(trained, tmp_path):
    frame = curves.load(trained)
    assert set(frame["colour"]) == {"#cc79a7"} and curves.gather(frame).colour == "#cc79a7"
    text = page.html(trained)
    assert "TQC on Pendulum-v1" in text and "#cc79a7" in text
    assert plot.main([str(trained), "--out", str(tmp_path / "it.png")]) == 0


def test_it_resumes_bit_for_bit(trained, tmp_path, monkeypatch, one_turn_at_a_time):
    command = [*arguments(**WORDS), "--out", str(tmp_path / "run")]
    with stopped_after(30, monkeypatch):
        assert train.main(command) == train.INTERRUPTED
    assert train.main(["--resume", str(tmp_path / "run")]) == 0
    assert_same_run(trained, tmp_path / "run")


@pytest.mark.slow
def test_its_numbers_are_swept_inside_a_program_and_its_shapes_make_programs(tmp_path):
    lists = "[hyper]\ntau = [0.01, 0.02]\ndropped = [0, 1]\nnum_quantiles = 4\n"
    (tmp_path / "it.toml").write_text(f'algo = "tqc:tqc"\n{lists}')
    small = arguments(**{name: value for name, value in WORDS.items() if name == "env"}, num_seeds="2")
    assert sweep.main([str(tmp_path / "it.toml"), *small, "--out", str(tmp_path / "out")]) == 0
    for dropped in (0, 1):
        (folder,) = (tmp_path / "out").glob(f"*dropped={dropped}*")
        found = run_folder.read_curves(folder)
        assert set(found["setting"]) == {0, 1} and np.isfinite(found["quantile_spread"]).any()


@pytest.mark.parametrize("format", ["npz", "onnx", "stablehlo"])
def test_it_is_exported_from_its_end_and_from_a_checkpoint(trained, format, tmp_path):
    for at in (None, "200"):
        words = [str(trained), "--seed", "6", "--format", format, "--out", str(tmp_path / f"it.{format}")]
        assert export.main([*words, *(("--at", at) if at else ())]) == 0
        action = purerl.load_policy(tmp_path / f"it.{format}")(np.ones((5, 3), np.float32))
        kept = load.read_policies(trained, at)
        np.testing.assert_allclose(action, np.asarray(acting.trained(kept, 1)(np.ones((5, 3)))), atol=1e-4)


def test_help_and_presets_are_its_own(capsys):
    with pytest.raises(SystemExit):
        train.main(["--algo", "tqc:tqc", "--help"])
    shown = capsys.readouterr().out
    assert "hyperparameters of tqc:tqc" in shown and "--dropped N" in shown and "--noise " not in shown
    settings = config.resolve({"algo": "tqc:tqc", "env": "swimmer"})
    assert (settings.plan.num_evals, settings.hyper.dropped, settings.hyper.policy_delay) == (11, 3, 1)
    assert config.resolve({"algo": "tqc:tqc", "env": "swimmer", "dropped": "1"}).hyper.dropped == 1


def test_its_own_presets_override_those_that_it_takes(monkeypatch, tmp_path):
    own = {"paper": {"initialization": "lecun", "hyper": {"tau": 0.1}}}
    theirs = registry.ALGORITHMS["tqc"]
    spec = registry.AlgorithmSpec(theirs.hyperparameters, theirs.constructor, presets=own, presets_of="tqc")
    monkeypatch.setattr(tqc, "tqc", spec)
    (tmp_path / "it.toml").write_text('env = "Hopper-v5"\n[paper."tqc:tqc"]\nbatch_size = 100\n')
    settings = config.resolve({"algo": "tqc:tqc", "preset": "paper", "env": f"{tmp_path}/it.toml"})
    assert (settings.plan.initialization, settings.hyper.tau, settings.plan.batch_size) == ("lecun", 0.1, 100)
    assert settings.plan.critic_widths == (512, 512, 512)  # of purerl's TQC


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--algo", "tqc:tcq"], ("tqc has no 'tcq' that is an AlgorithmSpec", "did you mean tqc?")),
        (
            ["--algo", "tqc:build"],
            ("has no 'build' that is an AlgorithmSpec", "known: tqc", "annotate its first parameter"),
        ),
        (["--algo", "nowhere:tqc"], ("importing 'nowhere' fails", "No module named 'nowhere'; run from the folder")),
        (["--algo", "tqc:"], ("is not of the form module:NAME", "my_package.my_module:my_algorithm")),
        (["--algo", "tcq"], ("'tcq', which is not an algorithm", "or module:NAME")),
        (["--algo", "tqc:tqc", "--num-quantile", "3"], ("unknown argument '--num-quantile'; did you mean",)),
        (["--algo", "tqc:tqc", "--num-quantiles", "0"], ("num_quantiles is '0' but",)),
        (
            ["--algo", "tqc:tqc", "--policy-delay", "2"],
            ("'policy_delay' belongs to td3, redq, droq and crossq, not to tqc:tqc",),
        ),
        (["--num-quantiles", "3"], ("setting 'num_quantiles' belongs to tqc, not to td3",)),
        (["--dropped", "3"], ("unknown argument '--dropped'",)),
    ],
)
def test_what_is_wrong_is_one_line(words, says, capsys):
    with pytest.raises(SystemExit) as ended:
        train.main(words)
    shown = capsys.readouterr().err
    assert ended.value.code == 2 and shown.startswith("error: ") and shown.count("\n") == 1
    assert all(text in shown for text in says), shown


def changed(**changes):
    """A constructor of TQC with other functions."""
    return lambda hyper, plan, env: tqc.build(hyper, plan, env)._replace(**changes)


def branching(hyper, plan, env):
    return tqc.build(hyper, plan, env) if hyper.tau > 0 else None


@pytest.mark.parametrize(
    ("build", "says"),
    [
        (lambda hyper: None, "its constructor fails: TypeError"),
        (lambda hyper, plan, env: None, "its constructor returns NoneType; it should be an Algorithm"),
        (branching, "its constructor fails: TracerBoolConversionError"),
        (changed(init=lambda: ()), "init fails: TypeError"),
        (changed(explore=lambda state, observation: observation), "explore fails: TypeError"),
        (changed(explore=lambda state, observation, noise, key: observation), "explore returns .*; actions should be"),
        (changed(act=lambda policy, observation: observation[:, 0]), "act returns .*; actions should be"),
        (changed(next_value=lambda state, batch, key: batch.reward[0]), "next_value returns .* the 1 critic updates"),
        (
            changed(update_critic=lambda state, batch, value, key: (state[:2], {})),
            "update_critic returns a state of another structure",
        ),
        (
            changed(update_actor=lambda state, batch, key: (state, {"q": batch.rewards})),
            "update_actor fails: Attribute",
        ),
    ],
)
def test_what_an_algorithm_cannot_do_is_one_line(build, says, monkeypatch):
    monkeypatch.setattr(tqc, "tqc", registry.AlgorithmSpec(tqc.Hyper, build))
    with pytest.raises(ValueError, match=f"^tqc:tqc: {says}") as error:
        runner.prepare(config.resolve({"algo": "tqc:tqc", "env": "Pendulum-v1"}))
    assert "\n" not in str(error.value)


@dataclass(frozen=True, kw_only=True)
class WithRate(tqc.Hyper):
    rate: Annotated[
        kinds.FixedNumber, Field(ge=0, lt=1, description="a rate that a network wants as a Python number")
    ] = 0.1


def test_a_fixed_number_is_no_tracer_and_makes_a_program_of_its_own(monkeypatch):
    seen = []

    def build(hyper, plan, env):
        seen.append((type(hyper.rate), type(hyper.tau)))
        return tqc.build(hyper, plan, env)

    monkeypatch.setattr(tqc, "tqc", registry.AlgorithmSpec(WithRate, build))
    runner.prepare(config.resolve({"algo": "tqc:tqc", "env": "Pendulum-v1"}))
    assert {rate for rate, _ in seen} == {kinds.Fixed} and any(tau is not float for _, tau in seen)
    table = {"algo": "tqc:tqc", "env": "Pendulum-v1", "hyper": {"rate": [0.1, 0.2], "tau": [0.1, 0.2]}}
    programs = sweep_file.expand(table, {})
    assert [(each.settings.hyper.rate, each.settings.swept) for each in programs] == [
        (rate, {"tau": (0.1, 0.2)}) for rate in (0.1, 0.2)
    ]
    with pytest.raises(ValueError, match="only numbers that are inputs of the program can be swept"):
        config.resolve_table({}, {"algo": "tqc:tqc", "env": "Pendulum-v1", "sweep": {"rate": [0.1, 0.2]}})


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"hyperparameters": dict}, "hyperparameters is .* derived from Hyperparameters"),
        ({"constructor": None}, "constructor is None"),
        ({"colour": "red"}, "colour is 'red'; it should be like '#0072b2'"),
        ({"presets": {"papers": {}}}, "unknown preset 'papers'; did you mean paper"),
        ({"presets": {"paper": {"hyper": 3}}}, "presets: paper is .*and hyper in it a dict"),
    ],
)
def test_a_declaration_is_checked_when_it_is_made(changes, says):
    declared = {"hyperparameters": tqc.Hyper, "constructor": tqc.build} | changes
    with pytest.raises(ValueError, match=says):
        registry.AlgorithmSpec(**declared)


def hyper(name, kind=tqc.Hyper, **fields):
    """A class of hyperparameters with other fields, `{name: (kind, default)}`."""
    return make_dataclass(
        name, [(field, *rest) for field, rest in fields.items()], bases=(kind,), frozen=True, kw_only=True
    )


ANY = Annotated[kinds.Number, Field(description="any number")]


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        (
            {"hyperparameters": hyper("H", seed=(ANY, 0.0))},
            "has a hyperparameter 'seed', which is the name of another",
        ),
        ({"hyperparameters": hyper("H", widths=(ANY, 0.0))}, "has a hyperparameter 'widths'"),
        ({"hyperparameters": hyper("H", out=(ANY, 0.0))}, "has a hyperparameter 'out'"),
        ({"hyperparameters": hyper("H", _zeta=(ANY, 0.0))}, "has a hyperparameter '_zeta'"),
        ({"hyperparameters": hyper("H", zeta=(ANY,))}, "hyperparameter 'zeta' of H should have a default"),
        ({"hyperparameters": type("H", (tqc.Hyper,), {})}, "H should be decorated with @dataclass"),
        ({"hyperparameters": type("H", (tqc.Hyper,), {"policy_delay": 0})}, "H should be decorated"),
        ({"presets": {"paper": {"algo": "sac"}}}, "preset 'paper' sets 'algo', which is not a setting of the plan"),
        ({"presets": {"paper": {"num_env": 3}}}, "sets 'num_env', .*; did you mean num_envs"),
        ({"presets": {"paper": {"num_envs": "many"}}}, "in the preset 'paper', num_envs is 'many' but"),
        (
            {"presets": {"paper": {"hyper": {"drop": 3}}}},
            "sets 'drop', which is not a hyperparameter; did you mean dropped",
        ),
        ({"presets": {"paper": {"hyper": {"dropped": -1}}}}, "in the preset 'paper', dropped is -1 but"),
    ],
)
def test_what_cannot_be_set_as_it_is_declared_is_one_line(changes, says, monkeypatch):
    monkeypatch.setattr(
        tqc, "tqc", registry.AlgorithmSpec(**{"hyperparameters": tqc.Hyper, "constructor": tqc.build} | changes)
    )
    with pytest.raises(ValueError, match=says) as error:
        config.resolve({"algo": "tqc:tqc"})
    assert str(error.value).startswith("tqc:tqc: ") and "\n" not in str(error.value)


def test_a_constructor_that_exits_is_an_error(monkeypatch, capsys, tmp_path):
    monkeypatch.setattr(tqc, "tqc", registry.AlgorithmSpec(tqc.Hyper, lambda *given: sys.exit(0)))
    with pytest.raises(SystemExit) as ended:
        train.main([*arguments(**WORDS), "--out", str(tmp_path / "run")])
    assert ended.value.code == 2 and "its constructor fails: SystemExit" in capsys.readouterr().err


def test_algorithms_of_one_name_are_told_apart(trained, tmp_path, capsys):
    for name in ("tqc:sac", "sac", "other:sac"):
        path = tmp_path / name.replace(":", "-")
        shutil.copytree(trained, path)
        (path / "run.toml").write_text((path / "run.toml").read_text().replace("tqc:tqc", name))
    assert plot.main([str(tmp_path), "--out", str(tmp_path / "it.png")]) == 0
    shown = capsys.readouterr().out
    assert all(f"Pendulum-v1: {name}, 3 seeds" in shown for name in ("SAC", "tqc:sac", "other:sac"))


def test_a_file_of_settings_may_name_it_and_a_flag_its_hyperparameters(tmp_path, capsys):
    (tmp_path / "it.toml").write_text('algo = "tqc:tqc"\nenv = "fast"\n')
    assert train.main(["--config", str(tmp_path / "it.toml"), "--num-quantiles", "7", "--print-config"]) == 0
    assert "num_quantiles = 7" in capsys.readouterr().out


def test_a_file_of_an_environment_may_have_its_settings(tmp_path):
    (tmp_path / "it.toml").write_text('env = "fast"\n[tuned."tqc:tqc"]\nhyper.num_critics = 3\n[tuned.all.hyper]\n')
    settings = config.resolve({"algo": "tqc:tqc", "env": str(tmp_path / "it.toml")})
    assert settings.hyper.num_critics == 3


def test_the_truncated_quantiles_are_the_least_of_all_critics_together():
    q = jnp.array([[[1.0, 5.0, 9.0]], [[2.0, 3.0, 4.0]]])  # two critics of one transition
    assert tqc.truncated(q, 1).tolist() == [[1.0, 2.0, 3.0, 4.0]]


def test_the_quantile_loss_is_least_at_the_quantiles_of_the_target():
    target = jnp.arange(100.0)[None] * 1e3  # errors beyond the quadratic part
    at = [float(tqc.quantile_huber_loss(jnp.array([[[x, 75e3]]]), target)) for x in (10e3, 25e3, 40e3)]
    assert at[1] < at[0] and at[1] < at[2]
