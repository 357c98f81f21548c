"""The benchmarks run, small, and keep what they print."""

import csv
import re
import sys
from functools import partial
from importlib import import_module

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from benchmarks import (
    compile,
    end_to_end,
    headline,
    kernels,
    precision,
    ring,
    seeds,
    table,
    timing,
    updates,
)
from benchmarks.training import Training, Updates, plan_of
from purerl.settings.schema import Plan
from purerl.training import mapping

environments = pytest.importorskip("benchmarks.environments")
mjx_changes = pytest.importorskip("benchmarks.mjx_changes")
own_model = import_module("benchmarks.own_model")
peers = import_module("benchmarks.peers.__main__")

SMALL = ["--widths", "8", "--batch-size", "16", "--steps", "8", "--rounds", "2"]


@pytest.fixture
def kept(tmp_path, monkeypatch):
    """The rows of a file that a benchmark has written."""
    monkeypatch.setattr(table, "__file__", str(tmp_path / "table.py"))

    def read(name):
        with open(tmp_path / "results" / f"{name}.csv", newline="") as file:
            return list(csv.DictReader(file))

    return read


def test_what_is_compared_is_measured_in_turns():
    order = []
    times = timing.interleaved({"a": lambda: order.append("a"), "b": lambda: order.append("b")}, 3)
    assert order == ["a", "b"] * 3
    assert {name: len(taken) for name, taken in times.items()} == {"a": 3, "b": 3}


def test_a_ratio_is_the_median_over_rounds():
    noisy = [timing.Taken(2.0, 1.0), timing.Taken(40.0, 1.0), timing.Taken(3.0, 9.0)]
    calm = [timing.Taken(1.0, 1.0), timing.Taken(10.0, 2.0), timing.Taken(1.0, 3.0)]
    assert timing.ratio(noisy, calm) == (3.0, 1.0)


@pytest.mark.slow
def test_the_bare_loop_makes_the_updates_of_the_real_program():
    plan = plan_of(8, num_envs=2, widths=(8,), batch_size=16, buffer_size=1024, warmup_steps=64)
    real, bare = Training("td3", plan, 2), Updates("td3", plan, 2)
    assert real.updates == bare.updates == 16 and real.env_steps == 16
    done = {
        path: loop.opt_state[0].count.tolist()
        for path, loop in (("real", real.carry.agent.critic), ("bare", bare.agents.critic))
    }
    assert done == {"real": [8, 8], "bare": [8, 8]}


@pytest.mark.slow
def test_benchmarks_keep_their_figures_with_what_they_were_measured_on(kept, capsys):
    updates.main([*SMALL, "--algo", "ddpg", "--seeds", "2"])
    end_to_end.main([*SMALL, "--algo", "sac", "--seeds", "2", "--buffer-size", "1024"])
    seeds.main(["--widths", "8", "--batch-size", "16", "--updates", "16", "--rounds", "2", "--seeds", "1", "2"])
    assert "updates/s" in capsys.readouterr().out
    (bare,), (whole,), (alone, beside) = kept("updates"), kept("end_to_end"), kept("seeds")
    assert float(bare["us_per_update"]) > 0 and bare["jax"] and bare["device"]
    assert float(whole["share"]) > 0
    assert (alone["num_seeds"], alone["ratio"], beside["num_seeds"]) == ("1", "1.0000", "2")


def test_the_speed_of_an_environment_is_beside_gymnasiums(kept, capsys):
    environments.main(["--env", "Pendulum-v1", "--batch", "4", "8", "--steps", "8", "--rounds", "2"])
    assert capsys.readouterr().out.count("steps/s") == 3
    theirs, few, many = kept("environments")
    assert (theirs["backend"], theirs["of_the_first"], few["batch"], many["batch"]) == ("gymnasium", "1.000", "4", "8")


@pytest.mark.slow
def test_the_bare_loop_trains_as_many_agents_at_a_time_as_the_real_program(monkeypatch):
    """And puts out what they put out all at once."""
    plan = plan_of(8, widths=(8,), batch_size=16, buffer_size=1024, warmup_steps=64)
    agents = {}
    for name, cache in (("at once", {}), ("in twos", {jax.default_backend(): 1})):
        monkeypatch.setattr(mapping, "CACHE", cache)
        bare = Updates("ddpg", plan, 4)
        agents[name] = bare.agents
        inner = str(bare.function.trace(bare.numbers, bare.state).jaxpr)
        assert ("length=2" in inner) == (name == "in twos")
    jax.tree.map(partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-7), *agents.values())


@pytest.mark.parametrize(
    ("main", "arguments", "says"),
    [
        (updates.main, ["--algo", "td3", "--steps", "201"], "the nearest total_steps is"),
        (end_to_end.main, ["--steps", "25"], "the nearest total_steps is"),
        (precision.main, ["--env", "nope"], "nope"),
        (headline.main, ["--precision", "fp32"], "invalid choice: 'fp32'"),
        (mjx_changes.main, ["--env", "Pendulum-v1"], "invalid choice: 'Pendulum-v1'"),
        (kernels.main, ["--table", "--algo", "sac"], "--table measures its own rows"),
        (kernels.main, ["--backend", "spring"], "--backend is for Brax's environments"),
        (peers.main, ["--peer", "brax", "--algo", "td3"], "brax has sac, one seed at a time"),
        (peers.main, ["--peer", "rltools", "--algo", "ddpg"], "rltools has td3, sac in Pendulum-v1, one seed per core"),
        (peers.main, ["--algo", "tqc"], "invalid choice: 'tqc'"),
        (peers.main, ["--steps", "25"], "--steps 25 is not a positive even number"),
    ],
)
def test_what_cannot_be_measured_is_refused_in_one_line(main, arguments, says, capsys):
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    error = capsys.readouterr().err
    assert ended.value.code == 2 and says in error and "Traceback" not in error


def test_what_never_ends_is_left_out(kept, monkeypatch, capsys):
    monkeypatch.setattr(environments, "never_ends", lambda name, backend, size: size == 8)
    environments.main(["--env", "Pendulum-v1", "--batch", "4", "8", "--steps", "8", "--rounds", "2"])
    assert "Pendulum-v1         jax     8: left out" in capsys.readouterr().out
    assert [row["batch"] for row in kept("environments")] == ["1", "4"]


def test_nothing_is_kept_where_all_is_left_out(kept, monkeypatch, capsys):
    monkeypatch.setattr(environments, "never_ends", lambda *job: True)
    environments.main(["--env", "inverted_pendulum", "--backend", "spring", "--batch", "4"])
    assert capsys.readouterr().out.count("left out") == 1 and kept("environments") == []


def test_a_backend_that_an_environment_does_not_have_is_refused(capsys):
    with pytest.raises(SystemExit):
        environments.main(["--env", "swimmer", "--backend", "spring"])
    assert "swimmer has none of the backends spring; it has generalized" in capsys.readouterr().err


def test_a_change_to_mjx_has_its_price(kept, capsys):
    small = ["--batch", "2", "--steps", "4", "--rounds", "2"]
    mjx_changes.main(["--env", "InvertedPendulum-v5", "--variant", "purerl", *small])
    (ours,) = kept("mjx_changes")
    assert (ours["variant"], ours["of_the_first"]) == ("purerl", "1.000") and float(ours["steps_per_s"]) > 0
    assert "compiled in" in capsys.readouterr().out


@pytest.mark.slow
def test_a_model_of_ones_own_is_measured(kept):
    own_model.main(["--variant", "purerl", "purerl, randomized", "--batch", "2", "--steps", "4", "--rounds", "2"])
    assert [row["variant"] for row in kept("own_model")] == ["purerl", "purerl, randomized"]


@pytest.mark.slow
def test_no_change_to_mjx_changes_the_numbers():
    quick, seen = {"xla_backend_optimization_level": 0}, []
    for variant in mjx_changes.VARIANTS:
        with mjx_changes.varied(variant, "InvertedPendulum-v5") as env:

            def seen_after_a_step(key, env=env):
                return env.observe(env.step(env.reset(key), jnp.full(1, 0.5))[0])

            key = jax.random.key(0)
            seen.append(jax.jit(seen_after_a_step).lower(key).compile(quick)(key))
    np.testing.assert_allclose(seen[1:], seen[:1] * (len(seen) - 1), atol=1e-5)


@pytest.mark.slow
def test_precisions_are_compared_by_the_curves_of_the_same_seeds(kept):
    precision.main(["--env", "Pendulum-v1", "--seeds", "2", "--total-steps", "2800"])
    full, tf32, bf16 = kept("precision")
    assert [row["precision"] for row in (full, tf32, bf16)] == ["float32", "tf32", "bf16"]
    assert (full["difference"], full["of_float32"]) == ("0", "1.000")
    assert tf32["area"] == full["area"] and float(full["area"]) < 0, "on a CPU tf32 is float32"
    difference = float(bf16["area"]) - float(full["area"])
    assert difference != 0 and float(bf16["difference"]) == pytest.approx(difference, abs=0.011)  # two decimals


def test_figures_of_other_columns_are_not_mixed(kept):
    table.add("figures", ("a", "b"), [(1, 2)])
    with pytest.raises(ValueError, match="move it away"):
        table.add("figures", ("a", "c"), [(1, 2)])
    assert [row["b"] for row in kept("figures")] == ["2"]


ANSWERS = """
import sys
print("noise")
print('{"versions": {"other": "1.0"}, "start_seconds": 2.0}', flush=True)
for _ in sys.stdin:
    print('{"wall": 3.0, "cpu": 6.0, "updates": 30}', flush=True)
"""
LAZY = ANSWERS.replace(": 30", ": 15")
DIES = ANSWERS.replace("for _ in sys.stdin:", "sys.stdin.readline()\nraise MemoryError('too much')\nif True:")


def test_peers_are_timed_in_turns_and_a_broken_one_says_why(kept, monkeypatch, tmp_path, capsys):
    """Stand-ins for the peers, so that nothing is installed: each is a program that answers as `serve` does."""
    programs = {"purerl": ANSWERS.replace("3.0", "1.5"), "rejax": ANSWERS, "sbx": "raise ValueError('no such thing')"}
    programs |= {"lazy": LAZY, "dies": DIES, "slow": ANSWERS.replace(": 30", ": 2"), "elsewhere": ANSWERS}
    same = peers.PEERS["rejax"]._replace(part=1)
    changes = {"slow": {"part": 20}, "elsewhere": {"environment": "Pendulum-v1"}}
    for name in ("rejax", "lazy", "dies", *changes):
        monkeypatch.setitem(peers.PEERS, name, same._replace(**changes.get(name, {})))

    def cannot_install(name, folder):
        if name == "brax":
            raise peers.Failed("not installed: no matching distribution")
        return sys.executable

    monkeypatch.setattr(peers, "command", lambda name, python, job: [python, "-c", programs[name]])
    monkeypatch.setattr(peers, "installed", cannot_install)
    monkeypatch.setattr(peers, "PEERS", {name: peers.PEERS[name] for name in (*programs, "brax")})
    peers.main(["--algo", "sac", "--seeds", "1", "--rounds", "3", "--steps", "30"])
    rows = {row["peer"]: row for row in kept("peers")}
    assert list(rows) == ["purerl", "rejax", "sbx", "lazy", "dies", "slow", "brax"], "purerl's row is the first"
    assert rows["rejax"]["purerl_is_faster"] == "2.000" and rows["rejax"]["env_steps_per_s"] == "10.0"
    assert (rows["rejax"]["environment"], rows["rejax"]["processes"]) == ("walk", "1")
    assert rows["slow"]["updates_per_s"] == "0.7", "30 / 20 steps are 2 at the least, and took 3 seconds"
    assert "elsewhere" not in rows
    assert rows["sbx"]["remark"] == "does not run: ValueError: no such thing"
    assert rows["lazy"]["remark"] == "made 15 updates of 30" and not rows["lazy"]["updates_per_s"]
    assert rows["dies"]["remark"] == "does not run: MemoryError: too much"
    assert rows["brax"]["remark"].startswith("not installed") and not rows["brax"]["updates_per_s"]
    assert "no such thing" in capsys.readouterr().out


def test_the_median_and_the_extremes_of_the_rounds_are_kept():
    purerl = [timing.Taken(0.5, 0.5), timing.Taken(0.1, 0.1), timing.Taken(0.2, 0.1)]
    peer = [timing.Taken(0.5, 0.5), timing.Taken(0.4, 0.2), timing.Taken(0.25, 0.3)]
    kept = dict(zip(peers.FIGURES, peers.figures(peer, purerl), strict=True))
    # 1 / 0.4, 1 / 0.5 and 1 / 0.25 updates per second; ratios 1, 4 and 1.25, and by CPU time 1, 2 and 3
    assert [kept[f"updates_per_s{which}"] for which in ("", "_min", "_max")] == ["2.5", "2.0", "4.0"]
    assert [kept[f"purerl_is_faster{which}"] for which in ("", "_min", "_max")] == ["1.250", "1.000", "4.000"]
    assert kept["by_cpu_time"] == "2.000"


def test_every_case_has_a_peer_and_rltools_trains_one_process_per_core():
    others = [peer for name, peer in peers.PEERS.items() if name != "purerl"]
    assert all(any(case.taken_by(peer) for peer in others) for case in peers.CASES)
    rltools = [case for case in peers.CASES if case.taken_by(peers.PEERS["rltools"])]
    assert {case.environment for case in rltools} == {"Pendulum-v1"} and len(rltools) == 4
    assert {case.processes_of("rltools") for case in rltools} == {peers.NUM_CORES}
    assert {case.processes_of("purerl") for case in rltools} == {1}
    assert not any(case.num_seeds > 1 and case.taken_by(peers.PEERS["jaxnasium"]) for case in peers.CASES)


def test_a_stretch_of_every_peer_has_whole_actor_updates():
    steps = [case.steps_of(name) for case in peers.CASES for name in peers.PEERS]
    assert all(number > 0 and number % 2 == 0 for number in steps)
    assert peers.CASES[0]._replace(steps=2).steps_of("skrl") == 2


def test_kept_figures_of_peers_have_the_columns_of_new_ones():
    with open(peers.ROOT / "benchmarks/results/peers.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == [*peers.COLUMNS, *table.WHERE]
    assert all(row["environment"] and int(row["processes"]) > 0 for row in rows)


@pytest.mark.slow
@pytest.mark.parametrize("environment", ["walk", "Pendulum-v1"])
def test_purerl_answers_as_a_peer_does(environment):
    job = {"algo": "td3", "num_seeds": 2, "width": 8, "batch_size": 16, "buffer_size": 512, "environment": environment}
    worker = peers.Worker("purerl", sys.executable, job | {"warmup_steps": 64, "steps": 6})
    assert worker.train(6).wall > 0 and worker.versions["jax"] == jax.__version__
    with pytest.raises(peers.Failed, match="made 6 updates of 7"):
        worker.train(7)
    worker.end()


@pytest.mark.slow
def test_full_rings_are_timed(kept, monkeypatch):
    monkeypatch.setattr(ring, "VARIANTS", [("plain", "float32", 512), ("compact", "bfloat16", 1024)])
    monkeypatch.setattr(ring, "STEPS", 2)
    assert ring.trained_by("plain", "float32", 512, 1).plan.warmup_steps == 512
    ring.main(["--rounds", "2"])
    assert [(row["capacity"], float(row["ms_per_step"]) > 0) for row in kept("ring")] == [("512", True), ("1024", True)]


@pytest.mark.slow
def test_the_start_is_timed_cold_and_cached(kept, monkeypatch):
    monkeypatch.setattr(compile, "commit", lambda checkout: "abc1234")
    flags = [part for name, value in headline.SMALL.items() for part in (f"--{name.replace('_', '-')}", str(value))]
    compile.main(["--starts", "1", "--against", str(peers.ROOT), "--", "--env", "fast", *flags])
    assert [row["program"] for row in kept("compile")] == [
        *("cycles", "starts", "initial_carry", "begin_play", "play_on", "judged")
    ]
    assert all(float(row["compile_seconds"]) > 0 for row in kept("compile"))
    rows = kept("start")
    assert [row["start"] for row in rows] == ["cold", "cached", "cold at abc1234", "cached at abc1234"]
    for row in rows:
        assert 0 < float(row["to_first_line"]) < float(row["to_compiled"]) <= float(row["to_first_training_step"])


@pytest.mark.slow
def test_the_headline_runs_small_and_a_wrong_flag_is_a_remark(tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(headline.FLAGS, "no graphs", "--xla_no_such_flag=1")
    command = ["--small", "--algo", "td3", "--env", "fast", "--flags", "none", "no graphs"]
    headline.main([*command, "--profile", str(tmp_path)])
    shown = capsys.readouterr().out
    assert re.search(r"td3 on fast in tf32, XLA flags: none: *\n +minutes 0\.\d+\n +epochs 4 of 4\n", shown)
    assert "kernels per cycle" not in shown, "on a CPU, the program's main loop is over rows"
    assert re.search(r"no graphs: failed: .*xla_no_such_flag", shown)
    assert re.search(r"\d ms +\d+ x \w+", shown), "the profile's top kernels"


@pytest.mark.parametrize(("flag", "word"), [("--out", "--out"), ("--seed", "--seed"), ("--num-env", "num_envs")])
def test_the_headline_refuses_what_it_would_ignore(flag, word, capsys):
    with pytest.raises(SystemExit):
        headline.main([flag, "3"])
    assert "unknown argument" in (shown := capsys.readouterr().err) and word in shown


def test_another_checkout_must_be_one(tmp_path, capsys):
    with pytest.raises(SystemExit):
        compile.main(["--against", str(tmp_path)])
    assert "is not a checkout of purerl" in capsys.readouterr().err


AUTHORS = """
import numpy as np


class TD3:
    def __init__(self, obs_size, action_size, most, policy_noise, noise_clip):
        assert (obs_size, action_size, most) == (3, 1, 2.0) and (policy_noise, noise_clip) == (0.4, 1.0)
        self.trained = []

    def select_action(self, state):
        return np.zeros(1)

    def train(self, buffer, batch_size):
        self.trained.append((buffer.count, [x.copy() for x in buffer.sample(batch_size)]))
"""


def test_the_authors_agents_train_as_purerl_counts_steps_and_bootstrap_at_time_limits(tmp_path):
    authors = import_module("benchmarks.authors")
    (tmp_path / "TD3.py").write_text(AUTHORS)
    agent = authors.agent_of(str(tmp_path), "td3", "Pendulum-v1")
    lengths = {"warmup_steps": 300, "total_steps": 500, "num_evals": 5, "eval_episodes": 2}
    plan = Plan(num_envs=1, updates_per_step=1, batch_size=256, **lengths)
    rows = list(authors.trained(agent, "Pendulum-v1", 0, plan, np.asarray))
    assert [step for step, _ in rows] == [0, 350, 400, 450, 500]
    assert all(value < -100 for _, value in rows)
    assert [count for count, _ in agent.trained] == list(range(301, 501))  # one update per step after the warm-up
    state, action, after, reward, alive = agent.trained[-1][1]
    assert alive.shape == reward.shape == (256, 1) and (alive == 1).all()  # Pendulum-v1 only ends by its time limit.
    assert state.shape == after.shape == (256, 3) and np.abs(action).max() > 1
    assert np.ptp(action[np.abs(action) < 1]) > 0.3  # exploration noise around 0


def test_an_agent_that_explores_by_itself_gets_no_noise():
    authors = import_module("benchmarks.authors")
    rng = np.random.default_rng(0)

    class Explorer:
        def explore(self, state):
            return state + 0.5

    class Greedy:
        def select_action(self, state):
            return state

    assert authors.explored(Explorer(), np.zeros(2), 1.0, rng).tolist() == [0.5, 0.5]
    drawn = np.array([authors.explored(Greedy(), np.zeros(2), 2.0, rng) for _ in range(1000)])
    assert drawn.std() == pytest.approx(0.2, rel=0.05)  # a tenth of the largest action
    assert (authors.explored(Greedy(), np.full(2, 5.0), 2.0, rng) == 2.0).all()
