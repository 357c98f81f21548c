"""Running statistics of a network, those of CrossQ, are kept, resumed, taken over and exported with its parameters."""

import shutil
from types import SimpleNamespace

import jax
import numpy as np
import pytest
from commands import SMALL, arguments, assert_same_run, cut_after, refusal
from toys import learner

import purerl
from purerl import evaluate, export, train
from purerl.policies import acting, formats, load
from purerl.runs import checkpoints, pbt, runner, warm_start
from purerl.settings import config
from purerl.settings.schema import Plan
from purerl.training import loop

pytestmark = pytest.mark.usefixtures("shared_programs")

KIND = {
    "algo": "crossq",
    "policy_delay": "3",
    "updates_per_step": "3",
    "renorm_warmup": "50",  # critics pass it in the first of three epochs, the actor in the last
    "normalize_observations": "true",
    "actor_layer_norm": "true",
}
PASSES = "['batch_stats']['torso']['BatchRenorm_1']['passes']"


def arrays(path):
    """The newest checkpoint of a run."""
    return checkpoints.arrays_of(path, checkpoints.numbers(path)[0])


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A finished run of CrossQ with all its checkpoints."""
    path = tmp_path_factory.mktemp("crossq") / "run"
    kept = ["--out", str(path), "--checkpoint-every", "1", "--checkpoint-keep", "9"]
    assert train.main([*arguments(**KIND), *kept]) == 0
    return path


@pytest.mark.slow
@pytest.mark.parametrize("number", [1, 2])
def test_a_resumed_run_has_the_same_statistics_and_counters_bit_for_bit(whole, number, tmp_path):
    path = cut_after(whole, number, tmp_path / "run")
    before = arrays(path)
    assert (before[f".agent.critic.variables{PASSES}"] == 50).all()
    assert (before[f".agent.actor.variables{PASSES}"] == 20 * number).all()
    assert train.main(["--resume", str(path)]) == 0
    assert_same_run(path, whole)
    ours, theirs = arrays(path), arrays(whole)
    assert ours.keys() == theirs.keys() and (ours[f".agent.actor.variables{PASSES}"] == 50).all()
    for name in ours:
        np.testing.assert_array_equal(ours[name], theirs[name], err_msg=name)


@pytest.mark.slow
def test_a_run_made_longer_ends_as_the_longer_run(whole, tmp_path):
    path = tmp_path / "run"
    assert train.main([*arguments(**KIND, total_steps="200", num_evals="3"), "--out", str(path)]) == 0
    assert train.main(["--resume", str(path), "--total-steps", "280"]) == 0
    assert_same_run(path, whole)


@pytest.mark.slow
@pytest.mark.parametrize("format", [None, *formats.WRITERS])
def test_a_policy_acts_as_it_was_trained_at_the_end_and_at_a_checkpoint(whole, format, tmp_path):
    seen = np.random.default_rng(0).normal(size=(20, load.read_policies(whole).obs_size)).astype(np.float32)
    for at in (None, 200):
        kept = load.read_policies(whole, at)
        expected = np.asarray(acting.trained(kept, 1)(seen))
        path, choice = whole, {"seed": 6, "at": at}
        if format is not None:
            path, choice = tmp_path / f"{at}.{format}", {}
            step = [] if at is None else ["--at", str(at)]
            words = [str(whole), "--format", format, "--seed", "6", "--out", str(path), *step]
            assert export.main(words) == 0
        np.testing.assert_allclose(purerl.load_policy(path, **choice)(seen), expected, atol=1e-5)
    assert np.ptp(expected) > 1e-4


@pytest.mark.slow
def test_a_run_is_evaluated_and_its_policies_are_read_from_python(whole, capsys):
    assert evaluate.main([str(whole), "--episodes", "2"]) == 0
    assert "seed 6" in capsys.readouterr().out
    policy = purerl.load(whole).policy(seed=6)
    seen = np.ones((2, load.read_policies(whole).obs_size), np.float32)
    np.testing.assert_array_equal(policy(seen), purerl.load_policy(whole, seed=6)(seen))


def source_and_names(source, **more):
    """The run at `source` as the beginning of another, and the names of the arrays that are taken."""
    settings = config.resolve(SMALL | KIND | {"init_from": str(source), "init_seed": "6"} | more)
    env, build = runner.prepare(settings)
    found = warm_start.read_source(settings, env, build)
    like = warm_start._agent(settings, env, build) | warm_start._statistics(settings, env)
    return found, warm_start._wanted(found, settings, like)


@pytest.mark.slow
def test_a_warm_start_takes_the_statistics_of_a_network_with_its_parameters(whole, tmp_path):
    for part in ("actor", "critic"):
        found, names = source_and_names(whole, init_parts=part)
        taken = {name for name in found.groups[0].arrays if name.startswith(f".agent.{part}.variables")}
        assert found.from_checkpoint and len(taken) == 6 and taken < set(names)
    copy = shutil.copytree(whole, tmp_path / "copy")
    shutil.rmtree(copy / "checkpoints")
    found, names = source_and_names(copy, init_parts="actor,statistics")
    ends, there = arrays(whole), found.groups[0].arrays
    assert not found.from_checkpoint
    assert {name for name in names if name.startswith(".agent")} == {
        name for name in ends if name.startswith((".agent.actor.params", ".agent.actor.variables"))
    }
    for name in names:
        np.testing.assert_array_equal(there[name], ends[name], err_msg=name)


@pytest.mark.slow
@pytest.mark.parametrize("parts", ["actor", "actor,statistics"])
def test_a_network_with_normalization_is_not_taken_into_one_without(whole, parts, tmp_path, capfd):
    """All arrays of SAC's actor are there, with the same shapes. But they would compute something else."""
    words = arguments(normalize_observations="true", algo="sac", actor_layer_norm="true")
    shown = refusal(capfd, *words, "--init-from", whole, "--init-parts", parts, "--out", tmp_path / "run")
    assert f"actor of {whole} (crossq) does not fit this run (sac)" in shown and "and absent here" in shown


def test_a_run_that_takes_over_from_another_gets_its_statistics_and_counters():
    plan = Plan(num_envs=4, widths=(8,))
    begin = jax.eval_shape(learner("crossq", plan, SimpleNamespace(obs_size=3, action_size=2)).init, jax.random.key(0))
    agent = jax.tree.map(lambda x: np.arange(3 * x.size).reshape(3, *x.shape).astype(x.dtype), begin)
    numbers = np.arange(3)
    carry = loop.Carry(agent, (), (), (), (), {}, numbers, numbers, numbers, jax.random.split(jax.random.key(0), 3))
    after = pbt.taken_over(carry, np.array([2, 1, 2]))
    for part in (after.agent.actor.variables, after.agent.critic.variables):
        assert len(jax.tree.leaves(part)) == 6
    jax.tree.map(lambda new, old: np.testing.assert_array_equal(new, old[[2, 1, 2]]), after.agent, agent)
