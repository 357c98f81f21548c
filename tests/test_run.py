"""The command line as a user runs it, and what it leaves behind."""

import json
import os
import shutil
import signal
import subprocess
import sys
import tomllib
from functools import partial

import jax
import numpy as np
import pytest

from purerl import batch, config, environments, loop, results, runner, train

SMALL = {
    "env": "fast",
    "episode_length": "20",
    "num_envs": "4",
    "updates_per_step": "2",
    "batch_size": "16",
    "widths": "8",
    "warmup_steps": "40",
    "buffer_size": "200",
    "total_steps": "280",
    "num_evals": "4",
    "eval_episodes": "2",
    "num_seeds": "3",
    "seed": "5",
}


def arguments(**more):
    settings = SMALL | more
    return [part for name, value in settings.items() for part in (f"--{name.replace('_', '-')}", value)]


@pytest.fixture(scope="module", params=["ddpg", "td3", "sac"])
def finished(request, tmp_path_factory):
    """`(settings, folder)` of a run of each algorithm."""
    path = tmp_path_factory.mktemp("runs") / request.param
    assert train.main([*arguments(algo=request.param), "--out", str(path)]) == 0
    return config.resolve(SMALL | {"algo": request.param}), path


def without_clock(curves):
    return {name: values for name, values in curves.items() if name != "wall_s"}


def test_a_run_leaves_its_files(finished):
    _, path = finished
    kept = {str(file.relative_to(path)) for file in path.rglob("*") if file.is_file()}
    assert kept == {"run.toml", "curves.csv", "curve.png", "log.jsonl", "policy/actor.npz"}
    assert (path / "curve.png").read_bytes().startswith(b"\x89PNG")
    events = [json.loads(line)["event"] for line in (path / "log.jsonl").read_text().splitlines()]
    assert events == ["start", "compiled", *["evaluation"] * 4, "end"]


def test_run_toml_reruns_the_run_and_says_what_it_ran_on(finished):
    settings, path = finished
    assert config.resolve({}, path / "run.toml") == settings
    record = tomllib.loads((path / "run.toml").read_text())[config.RECORD]
    assert record["versions"]["jax"] == jax.__version__ and record["platform"] == jax.devices()[0].platform


def test_curves_have_a_row_per_seed_and_evaluation(finished):
    _, path = finished
    curves = results.read_curves(path)
    assert curves["seed"].tolist() == [5, 6, 7] * 4
    assert curves["env_step"].tolist() == np.repeat([0, 120, 200, 280], 3).tolist()
    assert curves["update"].tolist() == np.repeat([0, 40, 80, 120], 3).tolist()
    assert np.isfinite(curves["return_mean"]).all() and (curves["episode_length"] == 20).all()
    assert np.isnan(curves["q"][:3]).all() and np.isfinite(curves["q"][3:]).all()


def test_one_scan_equals_the_chunked_command_line(finished):
    settings, path = finished
    env = environments.make("fast", episode_length=20)
    algorithm = runner.ALGORITHMS[settings.job.algo](settings.hyper, settings.plan, env)
    _, scanned = jax.jit(jax.vmap(partial(loop.train, settings.plan, algorithm, env)))(batch.keys(5, 3))
    chunked = results.read_curves(path)
    for name, values in scanned.items():
        np.testing.assert_allclose(np.asarray(values).T.ravel(), chunked[name], rtol=2e-4, atol=1e-5, err_msg=name)


def test_the_same_seed_twice_gives_identical_files(finished, tmp_path):
    _, path = finished
    again = tmp_path / "again"
    assert train.main(["--config", str(path / "run.toml"), "--out", str(again)]) == 0
    assert (again / "policy/actor.npz").read_bytes() == (path / "policy/actor.npz").read_bytes()
    first, second = (without_clock(results.read_curves(folder)) for folder in (path, again))
    np.testing.assert_equal(first, second)


def test_another_seed_gives_other_curves(finished):
    _, path = finished
    _, returns = results.per_seed(results.read_curves(path))
    assert len(set(returns[-1])) > 1 or len(set(results.read_curves(path)["q"][-3:])) == 3


def test_the_kept_policy_is_the_one_that_was_evaluated(finished):
    settings, path = finished
    env = environments.make("fast", episode_length=20)
    algorithm = runner.ALGORITHMS[settings.job.algo](settings.hyper, settings.plan, env)
    run = loop.setup(settings.plan, algorithm, env)
    kept = results.read_policy(path)
    statistics = kept.get("observation")
    statistics = run.normalizer.init(env.obs_size)._replace(**statistics) if statistics else ()
    trained = batch.keys(5, 3)

    def evaluate(actor, statistics, key):
        carry = loop.Carry(None, (), None, None, statistics, key)
        silent = run._replace(algorithm=algorithm._replace(policy=lambda agent: actor))
        return loop.evaluate(silent, carry, settings.plan.num_epochs)["return_mean"]

    returns = jax.vmap(evaluate)(kept["actor"], statistics, trained)
    _, curves = results.per_seed(results.read_curves(path))
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
        {"algo": "ddpg", "noise_schedule": "exponential", "layer_norm": "true", "weight_decay": "0.01"},
        {"algo": "sac", "alpha": "0.2", "max_grad_norm": "1", "reward_scale": "3", "activation": "swish"},
        {"algo": "td3", "updates_per_step": "1", "policy_delay": "5", "total_steps": "280", "num_evals": "3"},
    ],
)
def test_every_option_runs_and_changes_what_is_learned(more, tmp_path):
    assert train.main([*arguments(**more), "--out", str(tmp_path / "with")]) == 0
    with_it = results.read_curves(tmp_path / "with")
    assert np.isfinite(with_it["critic_loss"][3:]).all()
    (tmp_path / "plain").mkdir()
    assert train.main([*arguments(algo=more["algo"]), "--out", str(tmp_path / "plain")]) == 0
    assert (with_it["critic_loss"][-3:] != results.read_curves(tmp_path / "plain")["critic_loss"][-3:]).all()


def test_an_interrupted_run_keeps_all_it_has(tmp_path):
    path = tmp_path / "run"
    long = arguments(algo="ddpg", total_steps=str(40 + 4 * 500 * 400), num_evals="401")
    command = [sys.executable, "-m", "purerl.train", *long, "--out", str(path)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=os.environ | {"PYTHONUNBUFFERED": "1"})
    for line in process.stdout:
        if "return (IQM)" in line:
            break
    process.send_signal(signal.SIGINT)
    shown = process.stdout.read()
    assert process.wait(timeout=60) == train.INTERRUPTED
    assert "interrupted" in shown
    steps, returns = results.per_seed(results.read_curves(path))
    assert 1 <= len(steps) < 401 and returns.shape == (len(steps), 3)
    assert (path / "policy/actor.npz").exists() and (path / "curve.png").exists()


@pytest.mark.parametrize(
    "more",
    [
        {"algo": "td3", "noise": "ou", "n_step": "3", "normalize_observations": "true"},
        {"algo": "ddpg", "noise": "ou", "n_step": "3", "normalize_observations": "true"},
        {"algo": "sac", "n_step": "3", "normalize_observations": "true"},
    ],
    ids=lambda more: more["algo"],
)
def test_a_resumed_run_ends_as_the_uninterrupted_one_bit_for_bit(more, tmp_path):
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    assert train.main([*arguments(**more), "--out", str(whole), "--checkpoint-every", "1"]) == 0
    shutil.copytree(whole, cut)
    shutil.rmtree(cut / "checkpoints" / "3")
    (cut / "policy" / "actor.npz").unlink()  # as if the run had died after its last evaluation
    assert train.main(["--resume", str(cut)]) == 0
    first, second = (without_clock(results.read_curves(path)) for path in (whole, cut))
    np.testing.assert_equal(first, second)
    assert (cut / "policy/actor.npz").read_bytes() == (whole / "policy/actor.npz").read_bytes()


def test_an_interrupted_run_can_be_resumed(tmp_path, monkeypatch):
    path = tmp_path / "run"
    monkeypatch.setattr(runner.Interrupt, "__enter__", lambda self: runner.Interrupt.ask(self, None, None) or self)
    monkeypatch.setattr(runner.Interrupt, "__exit__", lambda self, *error: None)
    assert train.main([*arguments(algo="td3"), "--out", str(path)]) == train.INTERRUPTED
    assert set(results.read_curves(path)["env_step"]) == {0.0}
    monkeypatch.undo()
    assert train.main(["--resume", str(path)]) == 0
    assert results.read_curves(path)["env_step"][-1] == 280


def test_a_resumed_run_keeps_its_settings(tmp_path, capfd):
    for wrong in (["--resume", str(tmp_path)], ["--resume", str(tmp_path), "--num-seeds", "4", "--out", "x"]):
        with pytest.raises(SystemExit):
            train.main(wrong)
    assert "has no checkpoint" in (err := capfd.readouterr().err) and "leave out --num-seeds --out" in err


def test_a_users_own_environment_trains_by_name(tmp_path, monkeypatch):
    (tmp_path / "my_module.py").write_text("from brax.envs.fast import Fast\n\nclass MyEnv(Fast):\n    pass\n")
    monkeypatch.syspath_prepend(tmp_path)
    out = tmp_path / "run"
    assert train.main([*arguments(env="my_module:MyEnv"), "--out", str(out)]) == 0
    assert results.read_curves(out)["env_step"][-1] == 280


def test_a_finished_run_is_not_resumed(tmp_path, capfd):
    path = tmp_path / "run"
    assert train.main([*arguments(algo="ddpg"), "--out", str(path), "--checkpoint-every", "1"]) == 0
    with pytest.raises(SystemExit):
        train.main(["--resume", str(path)])
    assert "complete already" in capfd.readouterr().err
