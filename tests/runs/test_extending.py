"""A run is made longer: it ends as a run that was longer from its start, or it is refused."""

import shutil

import numpy as np
import pytest
from commands import SMALL, arguments, assert_same_run, options, refusal, stopped_after

from purerl import train
from purerl.results import run_folder
from purerl.runs import checkpoints, extending, runner, stretches
from purerl.settings import config

pytestmark = pytest.mark.usefixtures("shared_programs")

SHORT, LONG = {"total_steps": "200", "num_evals": "3"}, {"total_steps": "360", "num_evals": "5"}


def trained(path, *more, **settings):
    assert train.main([*arguments(**settings), "--out", str(path), *more]) == 0
    return path


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """A short and a long run of TD3 that differ in nothing else."""
    folder = tmp_path_factory.mktemp("runs")
    return {
        name: trained(folder / name, **options("td3"), **length) for name, length in (("short", SHORT), ("long", LONG))
    }


def copied(runs, tmp_path):
    return shutil.copytree(runs["short"], tmp_path / "run")


def test_a_finished_run_made_longer_equals_the_longer_run_bit_for_bit(runs, tmp_path, capsys):
    path = copied(runs, tmp_path)
    assert train.main(["--resume", str(path), "--total-steps", "360"]) == 0
    assert "resumed after 200 steps" in capsys.readouterr().out
    assert_same_run(path, runs["long"])
    settings = config.resolve({}, path / "run.toml")
    assert settings == config.resolve({}, runs["long"] / "run.toml")
    assert config.read_toml(path / "run.toml")["record"]["earlier_lengths"] == [[200, 3]]


@pytest.mark.slow
@pytest.mark.parametrize("algo", ["sac", "ddpg"])
def test_sac_and_ddpg_made_longer_equal_the_longer_run_bit_for_bit(algo, tmp_path):
    short, long = (trained(tmp_path / str(i), **options(algo), **length) for i, length in enumerate((SHORT, LONG)))
    assert train.main(["--resume", str(short), "--total-steps", "360"]) == 0
    assert_same_run(short, long)


@pytest.mark.slow
def test_a_run_can_be_made_longer_twice_and_interrupted_in_between(runs, tmp_path, monkeypatch):
    path = copied(runs, tmp_path)
    assert train.main(["--resume", str(path), "--total-steps", "280"]) == 0
    with stopped_after(2, monkeypatch):
        assert train.main(["--resume", str(path), "--total-steps", "360"]) == 130
    assert train.main(["--resume", str(path), "--total-steps", "360"]) == 0  # the same command goes on
    assert_same_run(path, runs["long"])
    assert config.read_toml(path / "run.toml")["record"]["earlier_lengths"] == [[200, 3], [280, 4]]


def test_an_unfinished_run_can_be_made_longer(runs, tmp_path, monkeypatch):
    path = tmp_path / "run"
    with stopped_after(4, monkeypatch):
        assert train.main([*arguments(**options("td3"), **SHORT), "--out", str(path)]) == 130
    assert train.main(["--resume", str(path), "--total-steps", "360"]) == 0
    assert_same_run(path, runs["long"])


@pytest.mark.slow
def test_every_group_of_seeds_is_made_longer(tmp_path):
    groups = {"num_seeds": "2", "seeds_per_batch": "1"}
    short, long = (trained(tmp_path / str(i), **groups, **length) for i, length in enumerate((SHORT, LONG)))
    assert train.main(["--resume", str(short), "--total-steps", "360"]) == 0
    assert_same_run(short, long)
    assert checkpoints.numbers(short) == [1_000_004, 4]


@pytest.mark.slow
def test_what_a_longer_run_has_not_reached_yet_keeps_its_policies(tmp_path, monkeypatch):
    path = trained(tmp_path / "run", num_seeds="2", seeds_per_batch="1", **SHORT)
    with stopped_after(2, monkeypatch):
        assert train.main(["--resume", str(path), "--total-steps", "360"]) == 130
    held = run_folder.read_policy(path)
    assert held["seed"].tolist() == [5, 6] and held["env_step"][1] == 200 and held["env_step"][0] >= 200
    assert train.main(["--resume", str(path)]) == 0
    assert run_folder.read_policy(path)["env_step"].tolist() == [360, 360]
    assert sorted(file.name for file in (path / "policy").iterdir()) == ["actor.npz"]


@pytest.mark.slow
def test_a_group_of_which_every_run_has_diverged_is_left_as_it_is(tmp_path):
    (tmp_path / "sweep.toml").write_text("[sweep]\nreward_scale = [1.0, 1e30]\n")
    words = ["--config", str(tmp_path / "sweep.toml"), "--seeds-per-batch", "1"]
    path = trained(tmp_path / "run", *words, num_seeds="1", **SHORT)
    assert train.main(["--resume", str(path), "--total-steps", "360"]) == 0
    final = run_folder.final(run_folder.read_curves(path))
    assert final["env_step"][0] == 360 and final["env_step"][1] < 360 and final["diverged"][1] > 0
    assert not list(path.glob("*-before-*"))


@pytest.mark.slow
def test_a_finished_group_without_a_checkpoint_is_refused(tmp_path, monkeypatch, capfd):
    groups = {"num_seeds": "2", "seeds_per_batch": "1"}
    with stopped_after(12, monkeypatch):
        words = [*arguments(**groups, **SHORT), "--out", str(tmp_path / "run"), "--checkpoint-every", "0"]
        assert train.main(words) == 130
    assert checkpoints.numbers(tmp_path / "run") and checkpoints.numbers(tmp_path / "run")[-1] >= 1_000_000
    shown = refusal(capfd, "--resume", tmp_path / "run", "--total-steps", "360")
    assert "has no checkpoint of its end" in shown


@pytest.mark.slow
def test_a_population_made_longer_exploits_at_its_former_end(tmp_path):
    table = "[hyper]\nactor_lr = [1e-3, 3e-4]\n[pbt]\nfraction = 0.5\n"
    (tmp_path / "pbt.toml").write_text(table.replace("[hyper]", "[sweep]"))
    paths = []
    for name, length in (("short", SHORT), ("long", LONG)):
        paths.append(trained(tmp_path / name, "--config", str(tmp_path / "pbt.toml"), **length))
    assert train.main(["--resume", str(paths[0]), "--total-steps", "360"]) == 0
    assert_same_run(*paths)
    ours, theirs = ((path / "pbt.csv").read_text() for path in paths)
    assert ours == theirs and len(ours.splitlines()) == 1 + 3 * 6


@pytest.mark.slow
def test_a_population_made_longer_and_killed_at_once_exploits_again(tmp_path, monkeypatch):
    (tmp_path / "pbt.toml").write_text("[sweep]\nactor_lr = [1e-3, 3e-4]\n[pbt]\nfraction = 0.5\n")
    words = ["--config", str(tmp_path / "pbt.toml")]
    short, long = (trained(tmp_path / str(i), *words, **length) for i, length in enumerate((SHORT, LONG)))

    def killed(*arguments):
        raise RuntimeError("killed")

    with monkeypatch.context() as patched, pytest.raises(RuntimeError, match="killed"):
        patched.setattr(stretches, "advance", killed)
        train.main(["--resume", str(short), "--total-steps", "360"])
    assert len((short / "pbt.csv").read_text().splitlines()) == 1 + 2 * 6 and checkpoints.numbers(short) == [2]
    assert train.main(["--resume", str(short)]) == 0
    assert_same_run(short, long)
    assert (short / "pbt.csv").read_text() == (long / "pbt.csv").read_text()


@pytest.mark.slow
def test_a_schedule_needs_consent_and_says_how_it_goes_on(tmp_path, capfd):
    path = trained(tmp_path / "run", lr_schedule="linear", num_seeds="1", **SHORT)
    before = {file: file.read_bytes() for file in path.rglob("*") if file.is_file()}
    shown = refusal(capfd, "--resume", path, "--total-steps", "360")
    assert "lr_schedule 'linear'" in shown and "from 100% to 56% at step 200" in shown
    assert before == {file: file.read_bytes() for file in path.rglob("*") if file.is_file()}
    assert train.main(["--resume", str(path), "--total-steps", "360", "--rescale-schedules"]) == 0
    assert run_folder.read_curves(path)["env_step"].max() == 360


def test_the_checkpoint_of_the_end_stays_unless_none_is_wanted(runs, tmp_path, capfd):
    assert checkpoints.numbers(runs["short"]) == [2]
    path = trained(tmp_path / "run", "--checkpoint-every", "0", **options("td3"), **SHORT)
    assert checkpoints.numbers(path) == []
    shown = refusal(capfd, "--resume", path, "--total-steps", "360")
    assert "has no checkpoint of its end" in shown and f"--init-from {path}" in shown


def test_a_checkpoint_too_large_to_stay_is_written_without_its_ring(tmp_path, monkeypatch, capsys):
    usage = shutil.disk_usage(tmp_path)
    small = type(usage)(usage.total, usage.used, 2**26 + 60_000)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: small)
    monkeypatch.setattr(checkpoints, "size", lambda carry, runs: 2**26 if carry.ring is not None else 1000)
    path = trained(tmp_path / "run", **options("td3"), **SHORT)
    assert "written without its replay buffer" in capsys.readouterr().out
    names = checkpoints.read_arrays(next((path / "checkpoints").rglob("arrays.npy")))[0]
    assert names and not any(name.startswith(".ring") for name in names)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--total-steps", "120"], "but the run in {path} is longer: 200; give more steps"),
        (["--total-steps", "350"], "is evaluated every 80 steps; the nearest total_steps is 280 or 360"),
        (["--total-steps", "210"], "the nearest total_steps is 280"),
        (["--total-steps", "many"], "total_steps is 'many' but should be a whole number"),
        (["--total-steps", "360", "--gamma", "0.9"], "leave out --gamma"),
        ([], "is complete already; make it longer with --resume and --total-steps"),
    ],
)
def test_a_length_that_does_not_fit_is_refused_in_one_line(runs, words, said, capfd):
    assert said.format(path=runs["short"]) in refusal(capfd, "--resume", runs["short"], *words)


def test_the_command_of_a_longer_run_names_the_way_to_make_it_longer(runs, capfd):
    words = [*arguments(**options("td3"), **LONG), "--out", runs["short"]]
    assert "or make that run longer with --resume and --total-steps 360" in refusal(capfd, *words)
    assert "--rescale-schedules needs --resume" in refusal(capfd, *arguments(**SMALL), "--rescale-schedules")
    assert "--rescale-schedules needs --resume" in refusal(capfd, "--resume", runs["short"], "--rescale-schedules")


def test_the_settings_of_a_longer_run_are_printed_with_its_length(runs, capfd):
    assert train.main(["--resume", str(runs["short"]), "--total-steps", "360", "--print-config"]) == 0
    shown = capfd.readouterr().out
    assert "total_steps = 360\n" in shown and "num_evals = 5\n" in shown
    words = ["--resume", runs["short"], "--total-steps", "281", "--print-config"]
    assert "nearest total_steps is 280 or 360" in refusal(capfd, *words)


def test_an_algorithm_that_uses_the_length_is_found(runs):

    before = config.resolve(SMALL | SHORT)
    after = config.resolve(SMALL | LONG)
    env, build = runner.prepare(before)
    assert extending.depending(before, after, env, build) == []

    def by_length(hyper, plan, env):
        made = build(hyper, plan, env)

        def update_critic(state, batch, value, key):
            state, metrics = made.update_critic(state, batch, value / plan.total_steps, key)
            return state, metrics

        return made._replace(update_critic=update_critic)

    assert extending.depending(before, after, env, by_length) == ["the learner of td3"]
    noise = build(before.hyper, before.plan, env).noise

    def fading(hyper, plan, env):
        return build(hyper, plan, env)._replace(
            noise=noise._replace(draw=lambda state, progress, key: (state, noise.draw(state, 0.0, key)[1] * progress))
        )

    assert extending.depending(before, after, env, fading) == ["the noise of td3"]
    assert np.isclose(extending.share(after.plan, 90), 0.25)
