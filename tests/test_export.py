"""A policy that leaves purerl acts as the one that was trained."""

import dataclasses
import json
import subprocess
import sys

import jax.numpy as jnp
import numpy as np
import pytest
from conftest import PENDULUMS
from folders import ROOT

import purerl
from purerl import errors, export
from purerl.policies import acting, formats, load
from purerl.results import choice, run_folder


def states(count=64):
    """Observations `[count, 3]` of a pendulum."""
    angle, speed = np.random.default_rng(1).uniform([-3, -8], [3, 8], (count, 2)).T
    return np.stack([np.cos(angle), np.sin(angle), speed], axis=1).astype(np.float32)


def is_one_line(capsys, arguments, *parts):
    with pytest.raises(SystemExit) as ended:
        export.main([str(part) for part in arguments])
    message = capsys.readouterr().err
    assert ended.value.code == 2 and message.startswith("error: ") and message.count("\n") == 1, message
    for part in parts:
        assert part in message, message
    return True


@pytest.mark.parametrize("algo", PENDULUMS)
@pytest.mark.parametrize("format", formats.WRITERS)
def test_a_file_acts_as_the_policy_that_was_trained(pendulums, algo, format, capsys):
    assert export.main([str(pendulums[algo]), "--format", format, "--seed", "6"]) == 0
    file = pendulums[algo] / "policy" / f"seed-6.{format}"
    assert str(file) in capsys.readouterr().out
    kept = load.read_policies(pendulums[algo])
    expected = np.asarray(acting.trained(kept, 1)(states()))
    assert np.ptp(expected) > 1e-4
    np.testing.assert_allclose(purerl.load_policy(file)(states()), expected, atol=2e-5)
    np.testing.assert_allclose(purerl.load_policy(pendulums[algo], seed=6)(states()), expected, atol=2e-5)


def test_a_policy_takes_one_observation_or_any_batch_of_them(pendulums):
    for format in formats.WRITERS:
        assert export.main([str(pendulums["td3"]), "--format", format, "--seed", "7"]) == 0
    for path in (pendulums["td3"], *(pendulums["td3"] / "policy" / f"seed-7.{format}" for format in formats.WRITERS)):
        policy = purerl.load_policy(path, seed=7) if path.is_dir() else purerl.load_policy(path)
        whole = policy(states())
        assert policy(states()[3]).shape == (1,) and policy(states().reshape(4, 16, 3)).shape == (4, 16, 1)
        np.testing.assert_allclose(policy(states()[3]), whole[3], atol=1e-6)


def test_actions_are_in_the_units_of_the_environment(pendulums, tmp_path):
    kept = load.read_policies(pendulums["sac"])
    unit = np.asarray(acting.act(kept)(*acting.one(kept, 0), jnp.asarray(states())))
    np.testing.assert_allclose(purerl.load_policy(pendulums["sac"], seed=5)(states()), 2 * unit, atol=1e-6)
    assert export.main([str(pendulums["sac"]), "--seed", "5", "--out", str(tmp_path / "it.npz")]) == 0
    with np.load(tmp_path / "it.npz") as file:
        about = json.loads(str(file["about"]))
    assert about == {
        "env": "Pendulum-v1",
        "algo": "sac",
        "seed": 5,
        "env_step": 280,
        "action_low": [-2.0],
        "action_high": [2.0],
    }


def test_files_run_without_purerl(pendulums, tmp_path):
    for format in formats.WRITERS:
        assert export.main([str(pendulums["td3"]), "--format", format, "--out", str(tmp_path / f"it.{format}")]) == 0
    np.save(tmp_path / "observation.npy", states())
    code = """
import json, sys
import numpy as np
observation = np.load("observation.npy")

import onnxruntime
by_onnx = onnxruntime.InferenceSession("it.onnx").run(None, {"observation": observation})[0]

from jax import export
by_jax = export.deserialize(bytearray(open("it.stablehlo", "rb").read())).call(observation)

file = np.load("it.npz")
x = (observation - file["0.mean"]) / file["0.std"]
assert json.loads(str(file["layers"]))[:3] == ["normalize", "dense", "layer_norm"]
np.testing.assert_allclose(by_onnx, by_jax, atol=2e-5)
np.save("action.npy", by_onnx)
assert not any(name.startswith(("purerl", "flax", "brax")) for name in sys.modules)
"""
    subprocess.run([sys.executable, "-I", "-c", code], cwd=tmp_path, check=True)
    np.testing.assert_allclose(
        np.load(tmp_path / "action.npy"), purerl.load_policy(pendulums["td3"])(states()), atol=2e-5
    )


def test_the_choice_goes_by_the_final_return_and_leaves_out_what_diverged(pendulums, tmp_path):
    kept = load.read_policies(pendulums["td3"])

    def choose(returns, diverged=(np.nan,) * 3, which="best"):
        final = kept.final | {"return_mean": np.array(returns), "diverged": np.array(diverged)}
        return choice.choose(dataclasses.replace(kept, final=final), which)

    assert [choose([1.0, 3.0, 2.0], which=which) for which in choice.CHOICES] == [1, 2, 0]
    assert choose([1.0, 3.0, 2.0], diverged=(np.nan, 40.0, np.nan)) == 2
    assert choose([1.0, 3.0, 2.0], which="7") == 2
    with pytest.raises(ValueError, match="have diverged"):
        choose([1.0, 3.0, 2.0], diverged=(1.0, 2.0, 3.0))


def test_a_seed_that_is_not_kept_is_not_among_those_that_are_known(pendulums):
    kept = load.read_policies(pendulums["td3"])
    with_a_gap = dataclasses.replace(kept, final=kept.final | {"seed": np.array([0.0, 2.0, 3.0])})
    with pytest.raises(ValueError, match=r"there is no seed '1' in .*; known: 0, 2 to 3, best, median, worst"):
        choice.choose(with_a_gap, "1")
    of_two = kept.final | {"seed": np.array([0.0, 1.0, 1.0]), "setting": np.array([0.0, 1.0, 3.0])}
    with pytest.raises(ValueError, match="seed 1 was run with 2 settings; choose one with --setting 1, 3"):
        choice.choose(dataclasses.replace(kept, final=of_two), "1")


def test_bad_input_is_one_line_that_says_what_works(pendulums, tmp_path, capsys, monkeypatch):
    run = pendulums["td3"]
    assert is_one_line(capsys, [tmp_path], "is not a run folder", "--out")
    assert is_one_line(capsys, [run, "--seed", "9"], "no seed '9'", "5 to 7", "best, median, worst")
    assert is_one_line(capsys, [run, "--seed", "-1"], "no seed '-1'")
    assert is_one_line(capsys, [run, "--setting", "3"], "no setting 3")
    assert is_one_line(capsys, [run, "--format", "torch"], "torch", "onnx")
    assert is_one_line(capsys, [run, "--out", "/proc/nothing/it.npz"], "/proc/nothing")
    (tmp_path / "it.txt").touch()
    for bad in (tmp_path / "nothing", tmp_path / "it.txt"):
        with pytest.raises(ValueError, match=r"neither a run folder nor an exported policy: \.npz, \.onnx"):
            purerl.load_policy(bad)
    monkeypatch.setitem(sys.modules, "onnx", None)
    assert is_one_line(capsys, [run, "--format", "onnx"], f"the package onnx; pip install -e '{ROOT}[export]'")
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "run.toml").write_bytes((run / "run.toml").read_bytes())
    assert is_one_line(
        capsys, [tmp_path / "run"], "has saved no policy yet; it has no checkpoint either; train it again"
    )
    (tmp_path / "run" / "checkpoints" / "1").mkdir(parents=True)
    assert is_one_line(capsys, [tmp_path / "run"], "has saved no policy yet", "--resume")
    (tmp_path / "run" / "policy").mkdir()
    (tmp_path / "run" / run_folder.POLICY).write_bytes((run / run_folder.POLICY).read_bytes()[:-40])
    assert is_one_line(capsys, [tmp_path / "run"], "is damaged")
    kept = run_folder.read_policy(run)
    two_heads = {"params": kept["actor"]["params"] | {"Dense_1": kept["actor"]["params"]["Dense_0"]}}
    run_folder.write_policy(tmp_path / "run", kept | {"actor": two_heads})
    assert is_one_line(capsys, [tmp_path / "run"], "an older version of purerl", "the commit that its run.toml names")


def test_a_file_that_acts_otherwise_is_not_written(pendulums, tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(formats.READERS, "npz", lambda content: lambda observation: np.full((len(observation), 1), 9.0))
    assert is_one_line(capsys, [pendulums["td3"], "--out", tmp_path / "it.npz"], "differ by", "more than 1e-05")
    assert list(tmp_path.iterdir()) == []


def refused(policy, observation, *shapes):
    """Whether `policy` refuses an observation in one line that names both shapes, or the type."""
    with pytest.raises(ValueError) as error:
        policy(observation)
    message = str(error.value)
    assert "\n" not in message and all(shape in message for shape in shapes), message
    return True


@pytest.mark.parametrize("algo", ["td3", "sac"])
@pytest.mark.parametrize("format", [None, *formats.WRITERS])
def test_observations_of_another_shape_are_refused_and_there_may_be_none(pendulums, tmp_path, algo, format):
    """TD3's run normalises observations, which would broadcast others."""
    path = pendulums[algo]
    if format is not None:
        path = tmp_path / f"it.{format}"
        assert export.main([str(pendulums[algo]), "--format", format, "--out", str(path)]) == 0
    policy = purerl.load_policy(path)
    for shape in ((5, 1), (1,), (3, 5), (4,), (0,), (2, 3, 1), (3, 0)):
        assert refused(policy, np.ones(shape), f"the shape {shape}", "(..., 3)")
    assert refused(policy, 1.0, "the shape ()", "(..., 3)")
    for wrong in (np.array([object()] * 3), ["1", "2", "3"], {"x": 1}, None, np.ones(3) * 1j):
        assert refused(policy, wrong, "has the type", "(..., 3)")
    for ragged in ((np.ones(3), {}), [[1.0, 2.0], [1.0]]):
        assert refused(policy, ragged, "differ in shape", "(..., 3)")
    for leading in ((), (0,), (1,), (4, 0), (0, 2), (2, 1, 3)):
        action = policy(np.ones((*leading, 3)))
        assert action.shape == (*leading, 1) and action.dtype == np.float32
    one = policy(np.ones(3))
    for same in ([1, 1, 1], np.ones(3, bool), jnp.ones(3, jnp.bfloat16), np.ones(3, np.float16)):
        np.testing.assert_allclose(policy(same), one, atol=1e-6)


def test_purerl_is_imported_without_jax():
    code = "import sys, purerl; purerl.load_policy; assert not {'jax', 'brax', 'flax'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = purerl.nothing


def test_what_is_needed_is_imported_or_named():
    assert errors.require("json", "export", "it") is json
    with pytest.raises(ValueError, match=r"^it needs the package nowhere; pip install -e '.*\[export\]'$"):
        errors.require("nowhere", "export", "it")
