"""Which policies a path means: those of a run, of one of its checkpoints, or of a file of a run."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from commands import arguments
from folders import KEPT

import purerl
from purerl import evaluate, export, render, train
from purerl.policies import acting, from_checkpoint, load
from purerl.results import choice, run_folder
from purerl.runs import checkpoints

pytestmark = pytest.mark.usefixtures("shared_programs")

STATES = np.random.default_rng(0).normal(size=(16, 3)).astype(np.float32)


@pytest.fixture
def run(tmp_path):
    return Path(shutil.copytree(KEPT, tmp_path / "run"))


@pytest.fixture(scope="module")
def grouped(tmp_path_factory):
    """Two seeds, one after the other, with a checkpoint after every evaluation."""
    path = tmp_path_factory.mktemp("runs") / "run"
    words = arguments(env="Pendulum-v1", num_seeds="2", seeds_per_batch="1", normalize_observations="true")
    assert train.main([*words, "--checkpoint-every", "1", "--checkpoint-keep", "10", "--out", str(path)]) == 0
    return path


def stored(path, number):
    """`{name: array}` of a checkpoint."""
    (file,) = (path / "checkpoints" / str(number)).rglob(checkpoints.ARRAYS)
    return checkpoints.read_arrays(file)[0]


def relabelled(path, number, **more):
    """Write the label of a checkpoint anew, with `more` in it."""
    file = path / "checkpoints" / str(number) / checkpoints.LABEL
    label = {name: value for name, value in json.loads(file.read_text()).items() if name != "label"} | more
    file.write_text(json.dumps(label | {"label": checkpoints._digest_of_label(label)}))


def by_hand(arrays, row, low=-2.0, high=2.0):
    """The actions of TD3's actor of one hidden layer, from the arrays of a checkpoint."""
    mean, variance = (arrays[f".statistics.{name}"][row] for name in ("mean", "variance"))
    params = ".agent.actor.params['params']"
    (w1, b1), (w2, b2) = (
        [arrays[f"{params}{layer}['{name}']"][row] for name in ("kernel", "bias")]
        for layer in ("['torso']['Dense_0']", "['Dense_0']")
    )
    x = np.clip((STATES - mean) / np.sqrt(variance + 1e-8), -10, 10)
    return low + (high - low) * (np.tanh(np.maximum(x @ w1 + b1, 0) @ w2 + b2) + 1) / 2


def says(function, *parts):
    """Whether `function` raises ValueError, in one line with all of `parts`."""
    with pytest.raises(ValueError) as error:
        function()
    message = str(error.value)
    assert "\n" not in message and all(str(part) in message for part in parts), message
    return True


@pytest.mark.parametrize("inside", ["run.toml", "curves.csv", "log.jsonl", "policy", "policy/actor.npz"])
def test_a_file_of_a_run_means_the_run(inside):
    expected = purerl.load_policy(KEPT, seed=6)(STATES)
    np.testing.assert_array_equal(purerl.load_policy(KEPT / inside, seed=6)(STATES), expected)
    assert load.read_policies(KEPT / inside).path == KEPT


def test_a_file_of_a_run_means_the_run_wherever_one_is(run, monkeypatch):
    expected = purerl.load_policy(run)(STATES)
    monkeypatch.chdir(run / "policy")
    for path in ("actor.npz", ".", "..", "../run.toml", "../policy/../curves.csv"):
        np.testing.assert_array_equal(purerl.load_policy(path)(STATES), expected)
    monkeypatch.chdir(run)
    assert load.read_policies("policy/actor.npz").path == Path(".")
    assert export.main(["policy", "--seed", "5"]) == 0  # into the run's own folder
    assert (run / "policy" / "seed-5.npz").is_file()
    assert purerl.load_policy("policy/seed-5.npz")(STATES).shape == (16, 1)


def test_what_is_no_policy_of_a_run_says_what_to_name(run, tmp_path):
    for other in ("checkpoints", "checkpoints/7", "metrics.csv", "policies"):
        assert says(lambda other=other: purerl.load_policy(run / other), run, "checkpoints/2 (step 200)")
    shutil.copy(run / "policy" / "actor.npz", tmp_path / "mine.npz")
    assert says(lambda: purerl.load_policy(tmp_path / "mine.npz"), "holds no exported policy", "give the folder")
    for name in ("a.npz", "a.onnx", "a.stablehlo"):
        (tmp_path / name).write_bytes(b"nothing")
        assert says(lambda name=name: purerl.load_policy(tmp_path / name), name, "cannot be read")
    assert says(lambda: purerl.load_policy(tmp_path), "no run.toml", "give one of the runs in it: run")
    assert export.main([str(run), "--seed", "5", "--out", str(tmp_path / "it.npz")]) == 0
    assert says(lambda: purerl.load_policy(tmp_path / "it.npz", at=200), "leave out at")


@pytest.mark.parametrize(("number", "step"), [(2, 200), (3, 280)])
@pytest.mark.parametrize("seed", [5, 6])
def test_a_checkpoint_acts_as_the_state_that_it_holds(number, step, seed):
    expected = by_hand(stored(KEPT, number), seed - 5)
    assert np.ptp(expected) > 1e-4
    for path, at in ((KEPT, step), (KEPT / "run.toml", str(step)), (KEPT / "checkpoints" / str(number), None)):
        kept = load.read_policies(path, at)
        assert kept.name(seed - 5) == f"seed {seed} at step {step}" and kept.env_step.tolist() == [step, step]
        np.testing.assert_allclose(purerl.load_policy(path, seed, at=at)(STATES), expected, atol=1e-5)
        np.testing.assert_allclose(acting.trained(kept, seed - 5)(STATES), expected, atol=1e-5)
    deep = KEPT / "checkpoints" / str(number) / "default" / "arrays.npy"
    np.testing.assert_allclose(purerl.load_policy(deep, seed)(STATES), expected, atol=1e-5)


def test_a_checkpoint_at_the_end_is_the_policy_that_the_run_kept():
    at_the_end, kept = load.read_policies(KEPT, 280), load.read_policies(KEPT)
    jax.tree.map(np.testing.assert_array_equal, at_the_end.actor, kept.actor)
    jax.tree.map(np.testing.assert_array_equal, at_the_end.statistics, kept.statistics)


def test_best_is_the_best_of_that_time():
    """Seed 6 returned more at step 200, seed 5 at the end."""
    assert [choice.choose(load.read_policies(KEPT, at), "best") for at in (200, 280, None)] == [1, 0, 0]
    assert load.read_policies(KEPT, 200).final["return_mean"].tolist() == [-123.8973, -114.5462]


def test_a_step_without_a_checkpoint_lists_those_that_there_are(run):
    for at in (0, 120, "120", 281):
        assert says(lambda at=at: purerl.load_policy(run, at=at), f"no checkpoint at step {at}", "at 200 or 280")
    for at in ("x", -1, 200.5, True, [200]):
        assert says(lambda at=at: purerl.load_policy(run, at=at), "whole number")
    assert says(lambda: purerl.load_policy(run / "checkpoints" / "2", at=200), "leave out")
    shutil.rmtree(run / "checkpoints")
    assert load.read_policies(run, 280).at == 280  # the policy that was kept is of that step
    assert says(lambda: purerl.load_policy(run, at=200), "no checkpoint at step 200", "at 280")
    (run / "policy" / "actor.npz").unlink()
    assert says(lambda: purerl.load_policy(run, at=200), "it has none; train with --checkpoint-every")


def test_a_run_that_was_killed_says_which_checkpoints_there_are(run):
    (run / "policy" / "actor.npz").unlink()
    for path in (run, run / "policy" / "actor.npz"):
        assert says(lambda path=path: purerl.load_policy(path), "has saved no policy yet", "--resume", "at 200 or 280")
    assert purerl.load_policy(run, at=200)(STATES).shape == (16, 1)


def test_a_checkpoint_that_is_not_as_it_was_written_is_not_used(run):
    (file,) = (run / "checkpoints" / "2").rglob(checkpoints.ARRAYS)
    content = bytearray(file.read_bytes())
    content[-9] ^= 1
    file.write_bytes(content)
    assert says(lambda: purerl.load_policy(run, at=200), "checkpoint 2 of", "is damaged: default/arrays.npy")
    label = run / "checkpoints" / "3" / checkpoints.LABEL
    label.write_text(label.read_text()[:-20])
    assert says(lambda: purerl.load_policy(run / "checkpoints" / "3"), "checkpoint 3 of", "is damaged: its label")
    assert says(lambda: purerl.load_policy(run, at=281), "at 200 or 280")  # the kept policy's
    relabelled(run, 2, computation={"algo": "sac", "seeds_per_batch": "none", "num_seeds": 2, "hyper": {}})
    assert says(lambda: purerl.load_policy(run / "checkpoints" / "2"), "another run", "algo is sac there")


def test_the_label_says_the_step_of_a_checkpoint_amid_two_evaluations(run):
    relabelled(run, 2, progress={"env_step": 228, "row": 57})
    assert load.read_policies(run, 228).env_step.tolist() == [228, 228]
    assert load.read_policies(run, 228).final["env_step"].tolist() == [200, 200]
    assert says(lambda: purerl.load_policy(run, at=200), "at 228 or 280")


def test_a_checkpoint_of_a_group_holds_its_runs_and_a_step_those_of_all_groups(grouped):
    kept = load.read_policies(grouped)
    for number, seed, step in ((1, 5, 120), (2, 5, 200), (1_000_001, 6, 120), (1_000_003, 6, 280)):
        one = load.read_policies(grouped / "checkpoints" / str(number))
        assert one.final["seed"].tolist() == [seed] and one.env_step.tolist() == [step]
        assert one.final["env_step"].tolist() == [step]
        np.testing.assert_allclose(one.function(0)(STATES), by_hand(stored(grouped, number), 0), atol=1e-5)
    whole = load.read_policies(grouped, 280)
    assert whole.final["seed"].tolist() == [5, 6]
    jax.tree.map(np.testing.assert_array_equal, whole.actor, kept.actor)
    earlier = load.read_policies(grouped, 120)
    for index, number in enumerate((1, 1_000_001)):
        np.testing.assert_allclose(earlier.function(index)(STATES), by_hand(stored(grouped, number), 0), atol=1e-5)


def test_a_checkpoint_of_a_share_of_the_runs_is_of_those_that_its_curves_tell_of(grouped, tmp_path):
    """As of a process of several, whose run.toml names all runs."""
    share = Path(shutil.copytree(grouped, tmp_path / "0-of-2"))
    header, *rows = (share / "curves.csv").read_text().splitlines(keepends=True)
    (share / "curves.csv").write_text(header + "".join(row for row in rows if row.startswith("6,")))
    shutil.rmtree(share / "checkpoints")
    shutil.copytree(grouped / "checkpoints" / "1000002", share / "checkpoints" / "2")
    assert load.read_policies(share, 200).final["seed"].tolist() == [6]


def test_a_checkpoint_is_evaluated_and_exported(run, tmp_path, capsys):
    assert evaluate.main([str(run), "--at", "200", "--episodes", "2"]) == 0
    shown = capsys.readouterr().out
    assert "seed 5 at step 200" in shown and "seed 6 at step 200" in shown
    assert export.main([str(run), "--at", "200", "--seed", "6"]) == 0
    assert export.main([str(run / "checkpoints" / "2"), "--seed", "6", "--out", str(tmp_path / "it.onnx")]) == 0
    with np.load(run / "policy" / "seed-6-at-step-200.npz") as file:
        assert json.loads(str(file["about"]))["env_step"] == 200
    expected = by_hand(stored(run, 2), 1)
    np.testing.assert_allclose(
        purerl.load_policy(run / "policy" / "seed-6-at-step-200.npz")(STATES), expected, atol=1e-5
    )


@pytest.mark.parametrize("command", [evaluate, export, render])
def test_a_command_says_in_one_line_which_checkpoints_there_are(command, run, capsys, monkeypatch):
    more = ["--film", "none"] if command is render else []
    with pytest.raises(SystemExit) as ended:
        command.main([str(run), "--at", "120", *more])
    message = capsys.readouterr().err
    assert ended.value.code == 2 and message.startswith("error: ") and message.count("\n") == 1
    assert "no checkpoint at step 120; there are policies at 200 or 280" in message


def test_an_older_run_without_its_sizes_has_those_of_its_arrays(run):
    kept = load.read_policies(run)
    assert "obs_size" not in (run / "run.toml").read_text() and kept.sizes == (3, 1, None)
    assert load.read_policies(run, 200).sizes == (3, 1, None)


def test_policies_of_which_no_return_is_known_are_chosen_by_their_seed(run):
    header = (run / "curves.csv").read_text().partition("\n")[0]
    (run / "curves.csv").write_text(header + "\n")
    assert says(lambda: purerl.load_policy(run), "have no return yet; give one of 5 to 6")
    np.testing.assert_array_equal(purerl.load_policy(run, 6)(STATES), purerl.load_policy(KEPT, 6)(STATES))
    assert evaluate.main([str(run), "--episodes", "2"]) == 0


def test_policies_belong_to_their_seeds_in_whatever_order_the_rows_are(run):
    header, *rows = (run / "curves.csv").read_text().splitlines(keepends=True)
    (run / "curves.csv").write_text(header + "".join(rows[::-1]))
    run_folder.append_evaluation(run, [(0, 4)], {"env_step": 280}, {"return_mean": np.array([1e6])})  # of no policy
    kept = load.read_policies(run)
    assert kept.final["seed"].tolist() == [5, 6] and kept.final["return_mean"].tolist() == [-149.8224, -172.8927]


def test_a_policy_of_a_run_is_loaded_without_jax():
    code = f"import sys, purerl; purerl.load_policy({str(KEPT)!r}); assert not {{'jax', 'brax'}} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_states_of_other_types_come_out_of_a_checkpoint_as_they_were():
    """NumPy's files call bfloat16 a void of two bytes; keys are kept as their data."""
    key = jax.vmap(lambda i: jax.random.key(i, impl="rbg"))(jnp.arange(2))
    like = {
        "half": jax.ShapeDtypeStruct((3,), jnp.bfloat16),
        "key": jax.eval_shape(lambda: jax.random.key(0, impl="rbg")),
        "none": jax.ShapeDtypeStruct((0,), jnp.float32),
    }
    half = np.asarray(jnp.arange(6, dtype=jnp.bfloat16).reshape(2, 3))
    arrays = {".agent['half']": half.view("V2"), ".agent['key']": np.asarray(jax.random.key_data(key))}
    found = from_checkpoint._restored("it", arrays, ".agent", like)
    np.testing.assert_array_equal(found["half"].astype(float), half.astype(float))
    assert (found["key"] == key).all() and found["none"].shape == (2, 0)
    for wrong in (half.astype(np.float32), half[:, :2].view("V2")):
        assert says(
            lambda wrong=wrong: from_checkpoint._restored("it", arrays | {".agent['half']": wrong}, ".agent", like),
            "it does not match this version of purerl",
            ".agent['half'] is",
            "bfloat16[2, 3] here",
        )
