"""The command line as a user runs it, and what it leaves behind."""

import json
import tomllib
from functools import cache, partial

import jax
import numpy as np
import pytest
from commands import SMALL, arguments, assert_same_run

from purerl import environments, train
from purerl.results import run_folder
from purerl.settings import config, registry
from purerl.training import loop, mapping

pytestmark = pytest.mark.usefixtures("shared_programs")


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    """`plain(algo)`: the folder of a run of the algorithm, trained when it is first asked for."""

    @cache
    def trained(algo):
        path = tmp_path_factory.mktemp(algo)
        assert train.main([*arguments(algo=algo), "--out", str(path)]) == 0
        return path

    return trained


@pytest.fixture(scope="module", params=["td3", "sac", pytest.param("ddpg", marks=pytest.mark.slow)])
def finished(request, plain):
    """`(settings, folder)` of a run of each algorithm."""
    return config.resolve(SMALL | {"algo": request.param}), plain(request.param)


@pytest.mark.smoke
def test_a_run_leaves_its_files(finished):
    _, path = finished
    kept = {str(file.relative_to(path)) for file in path.rglob("*") if file.is_file()}
    outside = {file for file in kept if not file.startswith("checkpoints/")}
    assert outside == {"run.toml", "curves.csv", "curve.png", "report.html", "log.jsonl", "policy/actor.npz"}
    assert "checkpoints/3/label.json" in kept and all(file.startswith("checkpoints/3/") for file in kept - outside)
    assert (path / "curve.png").read_bytes().startswith(b"\x89PNG")
    events = [json.loads(line)["event"] for line in (path / "log.jsonl").read_text().splitlines()]
    assert events == ["start", "compiled", *["evaluation"] * 4, "checkpoint", "end"]


def test_run_toml_reruns_the_run_and_says_what_it_ran_on(finished):
    settings, path = finished
    assert config.resolve({}, path / "run.toml") == settings
    record = tomllib.loads((path / "run.toml").read_text())[config.RECORD]
    assert record["versions"]["jax"] == jax.__version__ and record["platform"] == jax.devices()[0].platform


@pytest.mark.smoke
def test_curves_have_a_row_per_seed_and_evaluation(finished):
    _, path = finished
    curves = run_folder.read_curves(path)
    assert curves["seed"].tolist() == [5, 6, 7] * 4
    assert curves["env_step"].tolist() == np.repeat([0, 120, 200, 280], 3).tolist()
    assert curves["update"].tolist() == np.repeat([0, 40, 80, 120], 3).tolist()
    assert np.isfinite(curves["return_mean"]).all() and (curves["episode_length"] == 20).all()
    assert np.isnan(curves["q"][:3]).all() and np.isfinite(curves["q"][3:]).all()


@pytest.mark.smoke
def test_one_scan_equals_the_chunked_command_line(finished):
    settings, path = finished
    env = environments.make("fast", episode_length=20)
    algorithm = registry.find_algorithm(settings.job.algo).build(settings.hyper, settings.plan, env)
    scan = jax.vmap(partial(loop.train, settings.plan, algorithm, env))
    _, scanned = jax.jit(scan, compiler_options=mapping.COMPILER_OPTIONS["cpu"])(mapping.keys(5, 3))
    chunked = run_folder.read_curves(path)
    for name in loop.JUDGED:
        assert (scanned.pop(name) == -1).all() and np.isnan(chunked[name]).all()
    for name, values in scanned.items():
        np.testing.assert_allclose(np.asarray(values).T.ravel(), chunked[name], rtol=2e-4, atol=1e-5, err_msg=name)


def test_the_same_seed_twice_gives_identical_files(finished, tmp_path):
    _, path = finished
    again = tmp_path / "again"
    assert train.main(["--config", str(path / "run.toml"), "--out", str(again)]) == 0
    assert_same_run(again, path)


def test_another_seed_gives_other_curves(finished):
    _, path = finished
    _, returns = run_folder.per_seed(run_folder.read_curves(path))
    assert len(set(returns[-1])) > 1 or len(set(run_folder.read_curves(path)["q"][-3:])) == 3


@pytest.mark.smoke
def test_the_kept_policy_is_the_one_that_was_evaluated(finished):
    settings, path = finished
    env = environments.make("fast", episode_length=20)
    algorithm = registry.find_algorithm(settings.job.algo).build(settings.hyper, settings.plan, env)
    run = loop.setup(settings.plan, algorithm, env)
    kept = run_folder.read_policy(path)
    statistics = kept.get("observation")
    statistics = run.normalizer.init(env.obs_size)._replace(**statistics) if statistics else ()
    trained = mapping.keys(5, 3)

    def evaluate(actor, statistics, key):
        carry = loop.Carry(
            agent=None, noise=(), episodes=None, ring=None, statistics=statistics, sums={}, key=key,
            diverged=jax.numpy.int32(-1), environment_nan=jax.numpy.int32(-1), dropped=jax.numpy.int32(0),
        )  # fmt: skip
        silent = run._replace(algorithm=algorithm._replace(policy=lambda agent: actor))
        return loop.evaluate(silent, carry, settings.plan.num_epochs)["return_mean"]

    returns = jax.vmap(evaluate)(kept["actor"], statistics, trained)
    _, curves = run_folder.per_seed(run_folder.read_curves(path))
    np.testing.assert_allclose(returns, curves[-1], rtol=1e-5)


def test_print_config_prints_what_reruns_and_makes_nothing(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert train.main([*arguments(algo="sac"), "--print-config"]) == 0
    printed = tmp_path / "printed.toml"
    printed.write_text(capsys.readouterr().out)
    assert config.resolve({}, printed) == config.resolve(SMALL | {"algo": "sac"})
    assert list(tmp_path.iterdir()) == [printed]


@pytest.mark.parametrize(
    "more",
    [
        {"algo": "td3", "noise": "ou", "noise_schedule": "linear", "n_step": "3", "normalize_observations": "true"},
        pytest.param(
            {"algo": "ddpg", "noise_schedule": "exponential", "layer_norm": "true", "weight_decay": "0.01"},
            marks=pytest.mark.slow,
        ),
        {"algo": "sac", "alpha": "0.2", "max_grad_norm": "1", "reward_scale": "3", "activation": "swish"},
        pytest.param(
            {"algo": "td3", "updates_per_step": "1", "policy_delay": "5", "total_steps": "280", "num_evals": "3"},
            marks=pytest.mark.slow,
        ),
    ],
)
def test_every_option_runs_and_changes_what_is_learned(more, plain, tmp_path):
    assert train.main([*arguments(**more), "--out", str(tmp_path / "with")]) == 0
    with_it = run_folder.read_curves(tmp_path / "with")
    assert np.isfinite(with_it["critic_loss"][3:]).all()
    without = run_folder.read_curves(plain(more["algo"]))
    assert (with_it["critic_loss"][-3:] != without["critic_loss"][-3:]).all()


def test_a_users_own_environment_trains_by_name(tmp_path, monkeypatch):
    (tmp_path / "my_module.py").write_text("from brax.envs.fast import Fast\n\nclass MyEnv(Fast):\n    pass\n")
    monkeypatch.syspath_prepend(tmp_path)
    out = tmp_path / "run"
    assert train.main([*arguments(env="my_module:MyEnv"), "--out", str(out)]) == 0
    assert run_folder.read_curves(out)["env_step"][-1] == 280


@pytest.mark.slow
@pytest.mark.parametrize("algo", [algo for algo in registry.ALGORITHMS if algo != "crossq"])
def test_the_compact_ring_trains_exactly_as_the_plain_one(algo, tmp_path):
    for ring in ("plain", "compact"):
        assert train.main([*arguments(algo=algo, ring=ring, n_step="2"), "--out", str(tmp_path / ring)]) == 0
    assert_same_run(tmp_path / "plain", tmp_path / "compact")


def test_the_compact_ring_is_refused_for_crossq(tmp_path, capsys):
    with pytest.raises(SystemExit):
        train.main([*arguments(algo="crossq", ring="compact"), "--out", str(tmp_path / "run")])
    assert "does not keep s' of terminated transitions" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()
