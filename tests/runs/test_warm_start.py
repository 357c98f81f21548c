"""A run begins with the agents of another run."""

import json
import shutil

import commands
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from commands import arguments, assert_same_run, stopped_after

from purerl import train
from purerl.results import run_folder
from purerl.runs import checkpoints, runner, warm_start
from purerl.settings import config, sweep_file
from purerl.training import loop, replay

pytestmark = pytest.mark.usefixtures("shared_programs")

KIND = {"normalize_observations": "true", "n_step": "3", "noise": "ou"}


def trained(path, *more, **settings):
    assert train.main([*arguments(**settings), "--out", str(path), *map(str, more)]) == 0
    return path


def refusal(capfd, *words, **settings):
    return commands.refusal(capfd, *arguments(**settings), *words)


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    return trained(tmp_path_factory.mktemp("source") / "run", **KIND)


def held(path, number=None):
    number = checkpoints.numbers(path)[0] if number is None else number
    return checkpoints.arrays_of(path, number)


def begun(path, source, monkeypatch, *more, **settings):
    """The checkpoint of a run that was stopped as soon as it had begun."""
    with stopped_after(1, monkeypatch):
        assert (
            train.main([*arguments(**settings), "--out", str(path), "--init-from", str(source), *map(str, more)]) == 130
        )
    return held(path)


def best(source):
    final = run_folder.final(run_folder.read_curves(source))
    return int(np.argmax(final["return_mean"]))


def test_every_seed_begins_with_the_agent_of_the_best_seed(source, tmp_path, monkeypatch):
    settings = KIND | {"seed": "70", "gamma": "0.9"}
    ours, theirs = begun(tmp_path / "run", source, monkeypatch, **settings), held(source)
    for name in theirs:
        if name.startswith((".agent", ".statistics.mean")) and ".opt_state" not in name:
            expected = theirs[name][best(source)]
            assert name.startswith(".statistics") or all((row == expected).all() for row in ours[name]), name
    count = [name for name in ours if name.endswith(".count")]
    assert count and all((ours[name] == 0).all() for name in count if ".opt_state" in name)
    assert not (ours[".key"] == theirs[".key"]).all()


def test_same_takes_each_seed_and_the_optimizer_is_taken_if_asked_for(source, tmp_path, monkeypatch):
    words = ["--init-seed", "same", "--init-parts", "critic,optimizer"]
    ours, theirs = begun(tmp_path / "run", source, monkeypatch, *words, **KIND), held(source)
    critic = [name for name in theirs if warm_start.part_of(name) == "critic"]
    assert any(".opt_state" in name for name in critic) and len(critic) > 10
    for name in critic:
        assert (ours[name] == theirs[name]).all(), name
    actor = next(name for name in theirs if name.startswith(".agent.actor.params") and name.endswith("['kernel']"))
    assert not (ours[actor] == theirs[actor]).all()


@pytest.mark.slow
def test_the_first_evaluation_is_that_of_the_policy_and_the_warm_up_explores_with_it(source, tmp_path):
    path = trained(tmp_path / "run", "--init-from", source, "--init-seed", "6", **KIND)
    settings = config.resolve({}, path / "run.toml")
    env, build = runner.prepare(settings)
    run = loop.setup(settings.plan, build(settings.hyper, settings.plan, env), env)
    arrays = held(source)
    row = 1  # seeds 5, 6, 7
    carry = jax.jit(lambda key: loop.initial_carry(run, key, loop.starts(run, key, loop.START)))(jax.random.key(5))
    agent = jax.tree_util.tree_map_with_path(
        lambda path, x: arrays[f".agent{jax.tree_util.keystr(path)}"][row] if x.size else x, carry.agent
    )
    fresh = jax.tree.map(lambda new, old: new, agent, carry.agent)
    statistics = jax.tree_util.tree_map_with_path(
        lambda path, x: arrays[f".statistics{jax.tree_util.keystr(path)}"][row], carry.statistics
    )
    carry = carry._replace(agent=fresh, statistics=statistics)
    turn = 0
    while turn < settings.plan.warmup_rows:
        turn, carry = loop.refill(run, carry, turn, settings.plan.warmup_rows)
        carry = loop._with_pool(run, carry)
        turn = int(turn)
    expected = float(loop.evaluate(run, carry, 0)["return_mean"])
    curves = run_folder.read_curves(path)
    first = curves["return_mean"][(curves["env_step"] == 0) & (curves["seed"] == 5)]
    np.testing.assert_allclose(first, expected, rtol=1e-5)


def test_a_warm_start_that_is_interrupted_equals_the_uninterrupted_one(source, tmp_path, monkeypatch):
    whole = trained(tmp_path / "whole", "--init-from", source, **KIND)
    cut = tmp_path / "cut"
    with stopped_after(3, monkeypatch):
        assert train.main([*arguments(**KIND), "--out", str(cut), "--init-from", str(source)]) == 130
    assert train.main(["--resume", str(cut)]) == 0
    assert_same_run(cut, whole)


def test_a_run_without_a_checkpoint_yet_is_begun_again_from_the_same_source_only(source, tmp_path, monkeypatch, capfd):
    path = tmp_path / "run"
    begun(path, source, monkeypatch, **KIND)
    shutil.rmtree(path / "checkpoints")
    recorded = config.read_toml(path / "run.toml")["record"]["init"]
    text = (path / "run.toml").read_text()
    (path / "run.toml").write_text(text.replace(recorded, recorded[::-1]))
    with pytest.raises(SystemExit):
        train.main(["--resume", str(path)])
    assert "has changed since the run" in capfd.readouterr().err


def assert_newest(ours, theirs, rows, count):
    """Assert that run folder `ours` began with the newest `count` of the `rows` rows of run folder `theirs`.

    Returns the transitions, `[count, 4, ...]`.
    """
    plans = [config.resolve({}, path / "run.toml") for path in (theirs, ours)]
    kinds = [replay.replay(settings.plan, runner.prepare(settings)[0], False) for settings in plans]
    envs, numbers = jnp.arange(4), jnp.arange(count)[:, None] + jnp.zeros(4, int)
    old, _ = kinds[0].read(warm_start._ring(held(theirs), 0), rows - count + numbers, envs)
    new, missing = kinds[1].read(warm_start._ring(held(ours), 0), numbers, envs)
    assert missing[-1].all() and not missing[:-1].any()
    for name in ("observation", "action", "reward", "terminated", "truncated"):
        np.testing.assert_array_equal(getattr(old, name)[:-1], getattr(new, name)[:-1], err_msg=name)
    alive = ~np.asarray(old.terminated[:-1])
    np.testing.assert_array_equal(old.next_observation[:-1][alive], new.next_observation[:-1][alive])
    return old


def test_the_newest_transitions_of_the_source_take_the_place_of_the_warm_up(source, tmp_path, monkeypatch):
    words = ["--init-parts", "ring,actor,critic,statistics", "--init-seed", "5"]
    begun(tmp_path / "run", source, monkeypatch, *words, **KIND)
    assert_newest(tmp_path / "run", source, 280 // 4, 40 // 4)
    log = (tmp_path / "run" / "log.jsonl").read_text().splitlines()
    (line,) = [json.loads(line) for line in log if "warm start" in line]
    assert line["parts"] == ["ring", "actor", "critic", "statistics"]
    assert train.main(["--resume", str(tmp_path / "run")]) == 0
    steps = run_folder.read_curves(tmp_path / "run")["env_step"]
    assert np.unique(steps).tolist() == [0, 120, 200, 280]


@pytest.mark.slow
@pytest.mark.parametrize("ring", ["compact", "plain"])
def test_a_ring_is_taken_into_another_kind_of_ring_with_the_ends_of_its_episodes(ring, tmp_path, monkeypatch):
    settings = {"ring": ring, "warmup_steps": "80", "total_steps": "320", "num_seeds": "1"}
    settings |= {"episode_length": "7", "normalize_observations": "false"}
    source = trained(tmp_path / "source", **settings)
    more = ["--init-parts", "ring,actor", "--init-seed", "5"]
    begun(tmp_path / "run", source, monkeypatch, *more, **(settings | {"ring": "plain", "seed": "9"}))
    assert assert_newest(tmp_path / "run", source, 320 // 4, 80 // 4).truncated[:-1].any()


@pytest.mark.slow
def test_crossq_takes_a_ring_only_with_the_next_observations_of_terminated_transitions(tmp_path, monkeypatch, capfd):
    settings = {"num_seeds": "1", "normalize_observations": "false", "warmup_steps": "80", "total_steps": "320"}
    for ring in ("compact", "plain"):
        trained(tmp_path / ring, **(settings | {"ring": ring}))
    more = ["--init-parts", "ring", "--init-seed", "5"]
    kind = settings | {"algo": "crossq", "policy_delay": "2"}
    shown = refusal(capfd, "--init-from", tmp_path / "compact", *more, **kind)
    assert "is compact: it does not keep s' of terminated transitions, which crossq reads; leave ring out" in shown
    begun(tmp_path / "run", tmp_path / "plain", monkeypatch, *more, **(kind | {"ring": "plain"}))
    assert_newest(tmp_path / "run", tmp_path / "plain", 320 // 4, 80 // 4)


def test_policies_without_a_checkpoint_give_actor_and_statistics(source, tmp_path, monkeypatch, capfd):
    copy = shutil.copytree(source, tmp_path / "copy")
    shutil.rmtree(copy / "checkpoints")
    assert "has no checkpoint, so it has no critic; give --init-parts actor,statistics" in refusal(
        capfd, "--init-from", copy, **KIND
    )
    ours = begun(tmp_path / "run", copy, monkeypatch, "--init-parts", "actor,statistics", **KIND)
    theirs = held(source)
    for name in theirs:
        if name.startswith((".agent.actor.params", ".agent.target_actor")):
            trained_name = name.replace(".target_actor", ".actor.params")
            assert (ours[name] == theirs[trained_name][best(source)]).all(), name


@pytest.mark.parametrize(
    ("words", "settings", "said"),
    [
        ((), {"widths": "9"}, "actor of {source} (td3) does not fit this run (td3): agent.actor"),
        ((), {"normalize_observations": "false"}, "normalizes observations; set --normalize-observations true"),
        ((), {"activation": "tanh"}, "has the activation 'relu', and this run has 'tanh'"),
        (("--init-seed", "9"), {}, "init_seed is 9: there is no seed '9' in {source}; known: 5 to 7"),
        (("--init-seed", "same"), {"seed": "6"}, "there is no seed '8'"),
        (("--init-seed", "first"), {}, "init_seed is 'first' but should be"),
        (("--init-parts", "actors"), {}, "init_parts is 'actors' but should be"),
        (("--init-parts", "optimizer"), {}, "add actor or critic"),
        (("--init-parts", "actor,optimizer"), {"lr_schedule": "linear"}, "set --lr-schedule constant"),
        (("--init-parts", "ring,actor"), {}, "add statistics"),
        (("--init-parts", "ring,actor,statistics"), {"num_envs": "2"}, "set --num-envs 4"),
        (("--init-parts", "ring,actor,statistics"), {"warmup_steps": "240", "total_steps": "480", "buffer_size": "400"},
         "set --warmup-steps 200 or less"),
        (("--init-parts", "ring,actor,statistics"), {"env": "inverted_pendulum", "backend": "generalized"}, "actor of"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_refused_in_one_line(source, words, settings, said, tmp_path, capfd):
    shown = refusal(capfd, "--init-from", source, "--out", tmp_path / "run", *words, **(KIND | settings))
    assert said.format(source=source) in shown
    assert not (tmp_path / "run").exists()


def test_a_source_that_is_no_run_is_refused(tmp_path, capfd):
    assert "is not a run folder" in refusal(capfd, "--init-from", tmp_path)
    assert "init_seed is 3 but has no effect without init_from" in refusal(capfd, "--init-seed", "3")


def test_a_seed_that_diverged_and_a_run_that_was_not_evaluated_are_refused(source, tmp_path, capfd):
    copy = shutil.copytree(source, tmp_path / "copy")
    header, *rows = (copy / "curves.csv").read_text().splitlines(keepends=True)
    lost = header.split(",").index("diverged")
    cells = [row.split(",") for row in rows]
    for row in cells:
        row[lost] = "40" if row[0] == "6" else ""
    (copy / "curves.csv").write_text(header + "".join(",".join(row) for row in cells))
    assert "seed 6 of" in refusal(capfd, "--init-from", copy, "--init-seed", "6", **KIND)
    (copy / "curves.csv").write_text(header)
    assert "has no evaluation yet" in refusal(capfd, "--init-from", copy, **KIND)


def test_initial_weights_that_another_run_brings_are_refused(source, capfd):
    words = ["--init-from", source, "--initialization", "glorot"]
    assert "initialization glorot has no effect" in refusal(capfd, *words, **KIND)


@pytest.mark.parametrize(("parts", "drawn"), [("actor,critic", "small"), ("actor", "glorot")])
def test_initial_weights_of_a_preset_are_for_the_networks_that_are_not_taken(parts, drawn):
    flags = {"algo": "sac", "preset": "paper", "env": "Hopper-v5", "init_from": "runs/a", "init_parts": parts}
    assert config.resolve(flags).plan.initialization == drawn


@pytest.mark.parametrize("file", [{"initialization": "lecun"}, {"initialization": "small"}])
def test_initial_weights_in_a_file_or_a_sweep_are_refused_if_another_run_brings_them(file):
    for make in (
        lambda: config.resolve({"init_from": "runs/a"}, file),
        lambda: sweep_file.expand({"init_from": "runs/a", "env": "Pendulum-v1"} | file, {}),
        lambda: sweep_file.expand({"init_from": "runs/a", "env": "Pendulum-v1"}, file),
    ):
        with pytest.raises(ValueError, match="has no effect, because init_from gives all networks"):
            make()


def test_the_settings_of_a_run_may_begin_from_another_run(source):
    """They have initial weights, which nobody wrote for this run."""
    assert config.resolve({"init_from": str(source)}, source / "run.toml").job.init_from == str(source)


@pytest.mark.slow
def test_a_run_with_a_checkpoint_needs_its_source_no_more(source, tmp_path, monkeypatch):
    copy = shutil.copytree(source, tmp_path / "copy")
    path = tmp_path / "run"
    with stopped_after(3, monkeypatch):
        assert train.main([*arguments(**KIND), "--out", str(path), "--init-from", str(copy)]) == 130
    shutil.rmtree(copy)
    assert train.main(["--resume", str(path)]) == 0


@pytest.mark.slow
def test_an_initial_value_that_the_actor_brings_is_refused(tmp_path, capfd):
    source = trained(tmp_path / "source", algo="sac", num_seeds="1")
    words = ["--init-from", source, "--initial-alpha", "0.5"]
    assert "initial_alpha has no effect" in refusal(capfd, *words, algo="sac", num_seeds="1")


def test_the_part_of_an_array_follows_from_the_name_of_its_field():
    assert warm_start.part_of(".agent.target_critic['params']['Dense_0']['bias']") == "critic"
    assert warm_start.part_of(".agent['critic'].params") == "critic"
    assert warm_start.part_of(".agent.log_alpha.params") == "actor"
    assert warm_start.part_of(".statistics.mean") == "statistics" and warm_start.part_of(".ring.data") == "ring"
    assert not warm_start.is_wanted(".agent.actor.opt_state[0].mu", ["actor", "critic"])
    assert warm_start.is_wanted(".agent.actor.opt_state[0].mu", ["actor", "optimizer"])
