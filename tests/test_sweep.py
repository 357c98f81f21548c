"""A sweep is many runs, and each of them is the run it would have been alone."""

import csv
import json
import logging
import os
import shutil
import signal
import socket
import time
from dataclasses import dataclass, field, replace
from functools import partial
from random import Random

import jax
import numpy as np
import pytest
import tomli_w
from commands import SMALL, assert_same_run, ended, forked, killed, start
from folders import ROOT

from purerl import sweep, train
from purerl.results import picture, run_folder
from purerl.runs import claims, runner
from purerl.runs.display import Display
from purerl.settings import config, sweep_file
from purerl.sweeps import hosts
from purerl.training import mapping

pytestmark = pytest.mark.usefixtures("shared_programs")

TABLE = SMALL | {"algo": "td3", "num_seeds": "4", "total_steps": "440", "num_evals": "3"}
GRID = {"actor_lr": [1e-4, 1e-3, 1e-2], "tau": 0.05}


def write(path, table):
    path.write_text(tomli_w.dumps(table))
    return path


def expanded(hyper=None, **table):
    return sweep_file.expand(TABLE | table | {"hyper": hyper or {}}, {})


def swept(programs):
    return [program.settings.swept for program in programs]


@pytest.fixture(scope="module")
def grid(tmp_path_factory):
    """`(settings, folder of the program, names of what was compiled)` of three settings and four seeds."""
    folder, compiled = tmp_path_factory.mktemp("grid"), []
    handler = logging.Handler()
    handler.emit = lambda record: compiled.append(record.getMessage())
    logger = logging.getLogger("jax._src.dispatch")
    logger.addHandler(handler)
    jax.config.update("jax_log_compiles", True)  # of all threads
    file = write(folder / "grid.toml", TABLE | {"hyper": GRID})
    assert sweep.main([str(file), "--out", str(folder / "out")]) == 0
    jax.config.update("jax_log_compiles", False)
    logger.removeHandler(handler)
    return sweep_file.expand(config.read_toml(file), {})[0].settings, folder / "out" / "td3-fast", compiled


def alone(settings, setting, seed):
    """What a single run ends with: its actor, and the mean losses of its last epoch."""
    chosen = {name: values[setting] for name, values in settings.swept.items()}
    hyper = replace(settings.hyper, **chosen)
    single = replace(settings, hyper=hyper, swept={})
    if "alone" not in CACHE:
        env, build = runner.prepare(single)
        CACHE["alone"] = mapping.programs(single.plan, build, env, single.hyper), build(hyper, single.plan, env)
    programs, algorithm = CACHE["alone"]
    numbers = mapping.flowing(single.hyper)
    carry = programs.run_warm_up(numbers, mapping.keys(seed, 1))
    for index in range(single.plan.num_epochs):
        carry, metrics = programs.run_epoch(numbers, carry, index)
    return algorithm.policy(carry.agent), metrics


CACHE = {}


def test_three_settings_and_four_seeds_in_one_program_are_twelve_single_runs(grid):
    settings, path, _ = grid
    assert settings.plan.num_updates == 200 and settings.num_runs == 12
    kept, final = run_folder.read_policy(path), run_folder.final(run_folder.read_curves(path))
    for i, (setting, seed) in enumerate(settings.runs):
        actor, metrics = alone(settings, setting, seed)
        assert (final["setting"][i], final["seed"][i]) == (setting, seed) == (kept["setting"][i], kept["seed"][i])
        flat = run_folder.joined([{"actor": actor}])
        for name, leaf in run_folder.joined([{"actor": kept["actor"]}]).items():
            np.testing.assert_allclose(leaf[i], flat[name][0], rtol=1e-3, atol=1e-5, err_msg=f"{setting} {seed} {name}")
        for name, values in metrics.items():
            np.testing.assert_allclose(final[name][i], values[0], rtol=1e-3, atol=1e-5, err_msg=name)


def test_the_settings_differ(grid):
    """Else the test above would not notice that none of them flows."""
    actor = run_folder.read_policy(grid[1])["actor"]
    last = next(iter(run_folder.joined([actor]).values())).reshape(3, 4, -1)
    assert (np.abs(last[0] - last[1]).max(axis=-1) > 1e-3).all() and (
        np.abs(last[1] - last[2]).max(axis=-1) > 1e-3
    ).all()


def test_the_whole_grid_is_compiled_once(grid):
    compiled = [line for line in grid[2] if line.startswith("Finished XLA compilation")]
    for name in ("starts", "initial_carry", "warm_up_and_cycles", "play_on", "judged"):
        assert sum(f"jit({name})" in line for line in compiled) == 1, (name, compiled)


def test_every_setting_sees_the_same_seeds(grid):
    curves = run_folder.read_curves(grid[1])
    first = curves["return_mean"][curves["env_step"] == 0].reshape(3, 4)
    assert (first == first[0]).all() and len(set(first[0])) > 1


def test_only_what_is_swept_has_an_axis(grid):
    settings = grid[0]
    numbers = mapping.flowing(settings.hyper, settings.swept, [setting for setting, _ in settings.runs])
    assert {name for name, x in numbers.items() if x.shape} == {"actor_lr"}
    assert numbers["actor_lr"].tolist() == np.repeat(np.float32(GRID["actor_lr"]), 4).tolist()
    assert "policy_delay" not in numbers


@pytest.mark.slow
def test_groups_of_a_sweep_give_what_all_at_once_give(grid, tmp_path):
    _, path, _ = grid
    file = write(tmp_path / "grid.toml", TABLE | {"hyper": GRID, "seeds_per_batch": 6})
    assert sweep.main([str(file), "--out", str(tmp_path / "out")]) == 0
    assert_same_run(tmp_path / "out" / "td3-fast", path, rtol=1e-3)


def test_runs_that_the_cache_does_not_hold_train_in_turns_and_end_as_side_by_side(grid, tmp_path, monkeypatch):
    settings, path, _ = grid
    env, build = runner.prepare(settings)
    programs = mapping.programs(settings.plan, build, env, settings.hyper, settings.swept)
    numbers = mapping.flowing(settings.hyper, settings.swept, [setting for setting, _ in settings.runs])
    agents = mapping.abstract_carry(programs, numbers, settings.num_runs).agent
    size = sum(x.size * x.dtype.itemsize for x in jax.tree.leaves(agents))
    caches = (None, size, size // 2 + 1, size * 5 // 12, 1)
    assert [mapping.side_by_side(agents, cache) for cache in caches] == [12, 12, 6, 4, 2]
    monkeypatch.setitem(mapping.CACHE, jax.default_backend(), size // 2 + 1)
    file = write(tmp_path / "grid.toml", TABLE | {"hyper": GRID})
    assert sweep.main([str(file), "--out", str(tmp_path / "out")]) == 0
    assert_same_run(tmp_path / "out" / "td3-fast", path, rtol=1e-3)


def test_the_folder_of_a_program_is_that_of_a_run(grid, tmp_path, capfd):
    settings, path, _ = grid
    assert config.resolve({}, path / "run.toml") == settings
    with pytest.raises(SystemExit):
        train.main(["--resume", str(path)])
    assert "complete already" in capfd.readouterr().err
    assert run_folder.read_settings(path) == [{"actor_lr": rate} for rate in GRID["actor_lr"]]


def test_a_table_and_a_figure_compare_the_settings(grid):
    folder = grid[1].parent
    with open(folder / "table.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [float(row["actor_lr"]) for row in rows] == GRID["actor_lr"]
    curves = run_folder.read_curves(grid[1])
    for setting, row in enumerate(rows):
        last = run_folder.of_setting(curves, setting)["return_mean"][-4:]
        assert float(row["final_max"]) == pytest.approx(last.max()) and row["num_seeds"] == "4"
        assert float(row["final_iqm"]) == pytest.approx(np.sort(last)[1:3].mean(), abs=1e-6)
    assert (folder / "figure.png").read_bytes().startswith(b"\x89PNG")


def test_a_list_under_hyper_is_an_axis_and_one_at_the_top_a_program_each():
    programs = expanded({"actor_lr": [0.1, 0.2], "tau": [0.3, 0.4, 0.5]}, algo=["td3", "sac"], batch_size=[8, 16])
    assert [p.name for p in programs] == [f"batch_size={size}-{algo}" for size in (8, 16) for algo in ("td3", "sac")]
    assert swept(programs) == [{"actor_lr": (0.1,) * 3 + (0.2,) * 3, "tau": (0.3, 0.4, 0.5) * 2}] * 4
    assert programs[3].settings.plan.batch_size == 16 and programs[3].settings.num_runs == 24


def test_zipped_lists_go_together():
    (program,) = expanded({"actor_lr": [0.1, 0.2], "tau": [0.3, 0.4]}, mode="zip")
    assert program.settings.swept == {"actor_lr": (0.1, 0.2), "tau": (0.3, 0.4)}


def test_what_shapes_the_program_makes_one_per_value():
    programs = expanded({"policy_delay": [1, 2], "tau": [0.1, 0.2]})
    assert [p.settings.hyper.policy_delay for p in programs] == [1, 2]
    assert swept(programs) == [{"tau": (0.1, 0.2)}] * 2
    learned, fixed = expanded({"alpha": ["none", 0.1, 0.2]}, algo="sac")
    assert learned.settings.hyper.alpha is None and learned.settings.swept == {}
    assert fixed.settings.swept == {"alpha": (0.1, 0.2)}


def test_zipping_pairs_what_flows_with_what_does_not():
    programs = expanded({"policy_delay": [1, 2, 2], "tau": [0.1, 0.2, 0.3]}, mode="zip")
    assert [(p.settings.hyper.policy_delay, p.settings.swept or p.settings.hyper.tau) for p in programs] == [
        (1, 0.1),
        (2, {"tau": (0.2, 0.3)}),
    ]


def test_numbers_are_drawn_from_their_interval_and_the_same_again():
    drawn = {"log_uniform": [1e-4, 1e-2], "samples": 200}
    (program,), (again,) = expanded({"actor_lr": drawn}), expanded({"actor_lr": drawn})
    values = np.array(program.settings.swept["actor_lr"])
    assert len(values) == 200 and (values >= 1e-4).all() and (values <= 1e-2).all()
    assert 0.4 < (values < 1e-3).mean() < 0.6  # as many under the geometric mean as over it
    assert again.settings == program.settings
    (other,) = expanded({"actor_lr": drawn | {"seed": 1}})
    assert other.settings != program.settings


def test_programs_by_name_say_what_differs():
    programs = expanded(
        {"tau": [0.1, 0.2]}, programs=[{"name": "a b"}, {"name": "c", "algo": "sac", "hyper": {"alpha": 0.1}}]
    )
    assert [(p.name, p.settings.job.algo) for p in programs] == [("a-b", "td3"), ("c", "sac")]
    assert swept(programs) == [{"tau": (0.1, 0.2)}] * 2


def test_widths_are_a_list_themselves():
    assert [p.settings.plan.widths for p in expanded(widths=[8, 8])] == [(8, 8)]
    assert [p.settings.plan.widths for p in expanded(widths=[[8], [8, 4]])] == [(8,), (8, 4)]
    for name in ("actor_widths", "critic_widths"):
        assert [getattr(p.settings.plan, name) for p in expanded(**{name: [8, 8]})] == [(8, 8)]
        assert [getattr(p.settings.plan, name) for p in expanded(**{name: ["none", [8, 4]]})] == [None, (8, 4)]
    assert [p.settings.plan.actor_layer_norm for p in expanded(actor_layer_norm=[True, "none"])] == [True, None]


BAD = [
    ({"hyper": {"actor_rl": [0.1]}}, "unknown setting 'actor_rl'; did you mean actor_lr"),
    ({"bacth_size": 8}, "unknown setting 'bacth_size'; did you mean batch_size"),
    ({"hyper": {"tau": []}}, "hyper.tau is an empty list"),
    ({"batch_size": []}, "batch_size is an empty list"),
    ({"mode": "zip", "hyper": {"tau": [0.1], "gamma": [0.9, 0.8]}}, "one length under [hyper]; tau has 1, gamma has 2"),
    ({"hyper": {"batch_size": [8, 16]}}, "'batch_size' belongs at the top, not under [hyper]"),
    ({"tau": [0.1, 0.2]}, "'tau' belongs under [hyper]"),
    ({"hyper": {"alpha": [0.1]}}, "'alpha' belongs to sac, tqc, redq, droq and crossq, not to td3"),
    ({"hyper": {"tau": [0.1, 2]}}, "tau is 2 but should be less than or equal to 1"),
    ({"hyper": {"tau": [0.1, 0.1]}}, "[hyper] lists a setting twice: tau 0.1"),
    ({"mode": "cross"}, "mode is 'cross'; known: grid, zip"),
    ({"programs": [{"name": "a"}, {"name": "a", "n_step": 2}]}, "two programs are called 'a'"),
    ({"programs": 3}, "programs should be tables"),
    ({"hyper": {"tau": {"log_uniform": [0.1, 0.2], "sample": 2}}}, "unknown 'sample'; did you mean samples"),
    ({"hyper": {"tau": {"log_uniform": [0, 0.2], "samples": 2}}}, "two positive numbers, the smaller one first"),
    ({"hyper": {"tau": {"uniform": [0, 1], "samples": 0}}}, "it should be like { log_uniform"),
    ({"sweep": {"tau": [0.1]}}, "write lists under [hyper]"),
    ({"hyper": {"ou_theta": [0.1, 0.2]}}, "ou_theta is 0.1 but has no effect when noise is 'gaussian'"),
    ({"env": ["fast", "nowhere"]}, "nowhere"),
    ({"seeds_per_batch": 5, "hyper": {"tau": [0.1, 0.2]}}, "does not divide the 8 runs (settings x seeds)"),
]


def refusal(capfd, *words):
    capfd.readouterr()
    with pytest.raises(SystemExit) as refused:
        sweep.main([str(word) for word in words])
    out, err = capfd.readouterr()
    assert refused.value.code == 2 and err.startswith("error: ") and err.count("\n") == 1 and out == "", err
    return err


@pytest.mark.parametrize("table, words", BAD, ids=[words for _, words in BAD])
def test_bad_sweep_files_are_refused_in_one_line_and_nothing_is_started(table, words, tmp_path, capfd):
    file = write(tmp_path / "bad.toml", TABLE | table)
    assert words in refusal(capfd, file, "--out", tmp_path / "out")
    assert list(tmp_path.iterdir()) == [file]


def test_bad_arguments_are_refused_in_one_line(tmp_path, capfd):
    file = write(tmp_path / "good.toml", TABLE)
    assert "there is no sweep file 'quik'; did you mean quick" in refusal(capfd, "quik")
    assert "unknown argument '--tau'" in refusal(capfd, file, "--tau", "0.1")
    for name in ("sac", "1"):
        assert f"has no program '{name}'; known: td3-fast" in refusal(capfd, file, "--only", name)
    (tmp_path / "torn.toml").write_text("algo = [")
    assert "is not a TOML file" in refusal(capfd, tmp_path / "torn.toml")


def test_two_sweeps_of_one_name_are_refused_with_the_difference(grid, tmp_path, capfd):
    folder, words = grid[1].parent, ["--out", grid[1].parent]
    other = write(tmp_path / "grid.toml", TABLE | {"hyper": GRID | {"actor_lr": [1e-4, 1e-3, 2e-2]}})
    assert "actor_lr is [0.0001, 0.001, 0.01] there and [0.0001, 0.001, 0.02] here" in refusal(capfd, other, *words)
    other = write(tmp_path / "grid.toml", TABLE | {"algo": ["td3", "sac"]})
    assert "holds another sweep: program 'td3-fast' is only in the folder" in refusal(capfd, other, *words)
    assert "holds no sweep" in refusal(capfd, other, "--out", grid[1])
    assert {file.name for file in folder.iterdir()} == {
        "sweep.toml",
        "td3-fast",
        "table.csv",
        "figure.png",
        "report.html",
    }


def test_the_dry_run_shows_what_would_be_run_and_makes_nothing(tmp_path, capfd):
    file = write(tmp_path / "dry.toml", TABLE | {"hyper": GRID, "batch_size": [8, 16], "seeds_per_batch": 6})
    assert sweep.main([str(file), "--dry-run", "--out", str(tmp_path / "out")]) == 0
    shown = capfd.readouterr().out
    assert "2 programs, 24 runs" in shown and "batch_size=8" in shown and "2 x 6" in shown and "new" in shown
    assert list(tmp_path.iterdir()) == [file]


@pytest.mark.slow
def test_a_failed_program_stops_no_other_and_is_reported_at_the_end(tmp_path, capfd, monkeypatch):
    file = write(tmp_path / "two.toml", TABLE | {"batch_size": [8, 16], "num_seeds": 2})
    words, run = [str(file), "--out", str(tmp_path / "out")], runner.run

    def failing(settings, *rest, **named):
        if settings.plan.batch_size == 8:
            raise RuntimeError("the device is lost\nand more")
        return run(settings, *rest, **named)

    with monkeypatch.context() as patch:
        patch.setattr(runner, "run", failing)
        assert sweep.main(words) == sweep.FAILED
    out, err = capfd.readouterr()
    assert err == "error: program batch_size=8 failed: the device is lost\n"
    assert run_folder.read_curves(tmp_path / "out" / "batch_size=16")["env_step"].max() == 440
    assert not (tmp_path / "out" / "batch_size=8").exists()
    assert sweep.main(words) == 0
    out, err = capfd.readouterr()
    assert "program 2 of 2, batch_size=16: complete already" in out and err == ""
    assert run_folder.read_curves(tmp_path / "out" / "batch_size=8")["env_step"].max() == 440


def rows_of(folder):
    """How many lines there are in all curves of a sweep."""
    return sum(file.read_bytes().count(b"\n") for file in folder.glob("*/curves.csv"))


@pytest.mark.slow
@pytest.mark.parametrize("number, evals", [(10, 61)])
def test_kills_at_random_lose_no_run_and_double_none(number, evals, tmp_path):
    longer = {"num_evals": evals, "total_steps": 40 + 4 * (evals - 1) * 100, "num_seeds": "2", "checkpoint_every": 1}
    file = write(tmp_path / "sweep.toml", TABLE | longer | {"batch_size": [8, 16], "hyper": {"tau": [0.1, 0.2]}})
    begun = partial(forked, sweep.main, file, "--out")
    whole, path, random, kills = tmp_path / "whole", tmp_path / "killed", Random(2), 0

    def assert_whole():
        for program in ("batch_size=8", "batch_size=16"):
            assert_same_run(path / program, whole / program)
            curves = run_folder.read_curves(path / program)
            rows = list(zip(curves["setting"], curves["seed"], curves["env_step"], strict=True))
            assert len(rows) == len(set(rows)) == 2 * 2 * evals

    assert ended(begun(whole)) == 0
    while kills < number:
        process, rows = begun(path), rows_of(path) + 4 * 2 * random.randint(0, 5)
        while process.is_alive() and rows_of(path) < rows:
            time.sleep(0.02)
        if killed(process, random.uniform(0, 0.3)):
            kills += 1
        else:  # a fast machine
            assert_whole()
            shutil.rmtree(path)
    assert ended(begun(path)) == 0
    assert_whole()


ON_EIGHT_DEVICES = """
import re, sys
import jax, jax.numpy as jnp
from purerl import sweep
from purerl.training import mapping

def talks(program):
    words = "all-reduce|all-gather|all-to-all|collective-permute|collective-broadcast|reduce-scatter| send| recv"
    return sorted(set(re.findall(words, program.as_text())))

def watched(programs, numbers, num_runs):
    found = compiled(programs, numbers, num_runs)
    print("rows", num_runs, "of which on each device", found.carry.key.sharding.shard_shape(found.carry.key.shape))
    print("communication", [talks(program) for program in found[:4]])
    spread = mapping.laid_out(programs.mesh, jnp.zeros(num_runs))
    print("communication of a sum", talks(jax.jit(jnp.sum).lower(spread).compile()))
    return found

compiled, mapping.compiled = mapping.compiled, watched
sys.exit(sweep.main())
"""


@pytest.mark.slow
def test_eight_devices_give_what_one_gives_and_do_not_talk(grid, tmp_path, monkeypatch):
    _, path, _ = grid
    monkeypatch.setenv("JAX_NUM_CPU_DEVICES", "8")
    file = write(tmp_path / "grid.toml", TABLE | {"hyper": GRID})
    process = start(file, "--devices", "8", "--out", tmp_path / "out", code=ON_EIGHT_DEVICES)
    shown, _ = process.communicate(timeout=300)
    assert process.returncode == 0, shown
    assert "rows 12 of which on each device (2,)" in shown  # Six of the eight take two of the twelve runs each.
    assert "communication [[], [], [], []]" in shown and "communication of a sum ['all-reduce']" in shown
    assert_same_run(tmp_path / "out" / "td3-fast", path, rtol=1e-3)


def both(file, out, *more):
    """`[(exit status, what it showed)]` of two processes that train the sweep `file` over loopback."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    code = "import sys; from purerl import sweep; sys.exit(sweep.main())"
    words = [file, "--out", out, *more, "--coordinator", address, "--num-processes", "2", "--process-id"]
    started = [start(*words, str(number), code=code) for number in (0, 1)]
    shown = [process.communicate(timeout=300)[0] for process in started]
    return [(process.returncode, "".join(text.split())) for process, text in zip(started, shown, strict=True)]


@pytest.mark.slow
def test_two_processes_give_what_one_gives_and_go_on_where_they_were_stopped(grid, tmp_path, capfd):
    """Of the three settings with four seeds each, both have six runs."""
    file, out = write(tmp_path / "grid.toml", TABLE | {"hyper": GRID}), tmp_path / "out"
    for status, shown in both(file, out, "--time-limit", "0.01"):
        assert status == 130 and "endedearly" in shown, shown
    assert {share.name for share in (out / "td3-fast" / "shares").iterdir()} == {"0-of-2", "1-of-2"}
    assert "exists already and holds no run" in refusal(capfd, file, "--out", out)  # by one process
    for number, (status, shown) in enumerate(both(file, out)):
        assert status == 0 and f"shares/{number}-of-2" in shown and "resumedafter" in shown, shown
    assert_same_run(out / "td3-fast", grid[1], rtol=1e-3)
    assert not (out / "td3-fast" / "shares").exists() and (out / "table.csv").exists()


@pytest.mark.parametrize(
    "num_runs, count",
    [(1, 2), pytest.param(2, 3, marks=pytest.mark.slow), pytest.param(3, 5, marks=pytest.mark.slow)],
)
def test_more_processes_than_runs_lose_none(num_runs, count, tmp_path):
    settings = config.resolve(SMALL | {"num_seeds": str(num_runs), "log": "jsonl"})
    env, build = runner.prepare(settings)
    trained = [host for host in (hosts.Host(index, count) for index in range(count)) if host.share(settings.runs)]
    for host in trained:
        runner.run(settings, env, build, host.folder(tmp_path), Display(), share=host.share(settings.runs))
    lost = trained[-1].folder(tmp_path)
    lost.rename(tmp_path / "lost")
    with pytest.raises(ValueError, match=r"cannot read .*curves.csv"):
        hosts.merge(tmp_path, settings, env, count)
    (tmp_path / "lost").rename(lost)
    hosts.merge(tmp_path, settings, env, count)
    assert claims.is_complete(tmp_path, settings) and not (tmp_path / "shares").exists()
    logged = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    seeds = {name for line in logged for name in line if name.startswith("return_mean/seed_")}
    assert len(seeds) == num_runs and "return_mean/iqm" in logged[-1]


@dataclass(frozen=True)
class Others(hosts.Host):
    """The first of two processes, the other of which says `word`, whatever is asked."""

    word: str = "complete"
    heard: list = field(default_factory=list)

    def agree(self, name, word):
        self.heard.append(word)
        return [word, self.word]


def test_processes_hear_of_what_fails_in_one():
    others = Others(0, 2)
    with pytest.raises(KeyError):
        hosts._together(others, "merged", lambda: {}["there"])
    assert others.heard == ["failed"]
    with pytest.raises(RuntimeError, match="process 1 of 2 failed"):
        hosts._together(Others(0, 2, "failed"), "merged", lambda: None)
    assert hosts._together(Others(0, 2, "SIGTERM"), "merged", lambda: None) == "SIGTERM"
    assert hosts._together(others, "merged", lambda: None) is None


@pytest.mark.slow
def test_a_signal_that_comes_too_late_for_a_program_ends_the_sweep(tmp_path, monkeypatch):
    draw = picture.write_picture

    def late(*arguments):
        draw(*arguments)
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(0.2)

    file, out = write(tmp_path / "two.toml", TABLE | {"n_step": [1, 2]}), tmp_path / "out"
    with monkeypatch.context() as patched:
        patched.setattr(picture, "write_picture", late)
        assert sweep.main([str(file), "--out", str(out)]) == sweep.INTERRUPTED
    complete = sorted(path.parent.parent.name for path in out.glob("*/policy/actor.npz"))
    assert complete == ["n_step=1"]
    assert sweep.main([str(file), "--out", str(out)]) == 0


def test_a_full_disk_is_one_line_and_what_it_leaves_is_no_sweep(tmp_path, monkeypatch, capsys):
    file, out = write(tmp_path / "grid.toml", TABLE), tmp_path / "out"

    def full(scratch, path):
        raise OSError(28, "No space left on device", str(path))

    with monkeypatch.context() as patched:
        patched.setattr(run_folder.os, "replace", full)
        assert sweep.main([str(file), "--out", str(out)]) == sweep.FAILED
    shown = capsys.readouterr().err
    assert shown.startswith("error: cannot write") and "No space left" in shown and shown.count("\n") == 1
    assert [path.suffix for path in out.iterdir()] == [".partial"]
    assert sweep.main([str(file), "--out", str(out)]) == 0


def test_what_one_of_two_processes_refuses_ends_both(tmp_path):
    file, out = write(tmp_path / "grid.toml", TABLE | {"hyper": GRID}), tmp_path / "out"
    out.mkdir()
    (out / "notes.txt").write_text("mine")
    for status, shown in both(file, out):
        assert status == 2 and "process0:out" in shown and "holdsnosweep" in shown, shown
    assert [path.name for path in out.iterdir()] == ["notes.txt"]


def test_processes_need_to_know_each_other(tmp_path, capfd):
    file = write(tmp_path / "grid.toml", TABLE)
    assert "need --coordinator HOST:PORT" in refusal(capfd, file, "--process-id", "1")
    words = ["--coordinator", "127.0.0.1:1", "--num-processes", "2"]
    assert "num_processes is 2 and process_id 2" in refusal(capfd, file, *words, "--process-id", "2")


def test_more_devices_than_there_are_are_refused(tmp_path, capfd):
    file = write(tmp_path / "grid.toml", TABLE)
    assert "devices is 99, but this machine has 1" in refusal(capfd, file, "--devices", "99", "--out", tmp_path / "out")


SHIPPED = sorted(file.stem for file in (ROOT / "sweeps").glob("*.toml"))
TINY = SMALL | {"warmup_steps": "64", "buffer_size": "256", "total_steps": "192", "num_evals": "2", "num_seeds": "2"}
TINY = {name: value for name, value in TINY.items() if name not in ("num_envs", "updates_per_step")}
SMALLER = {"gpu_minutes": {"num_envs": "4"}, "sample_efficiency": {"critic_widths": "8", "total_steps": "184"}}
RUN = {
    "gpu_minutes": ["ddpg"],
    "noise": ["ddpg-noise=ou-noise_schedule=exponential"],
    "paper_ddpg": ["ddpg-fast"],
    "paper_sac": ["1M"],
    "paper_td3": ["td3-fast"],
    "quick": ["1"],
    "readme": ["td3-fast"],
    "sac_temperature": ["sac-fast"],
    "sample_efficiency": ["20-updates-redq", "tqc"],
    "td3_ablation": ["td3-without-double-q", "ddpg"],
    "utd": ["sac-num_envs=64-updates_per_step=4"],
}


@pytest.mark.parametrize("name", SHIPPED)
def test_every_shipped_sweep_resolves(name):
    programs = sweep_file.expand(config.read_toml(sweep_file.find_sweep_file(name)), {})
    assert programs and all(program.settings.num_runs >= 5 for program in programs)


@pytest.mark.parametrize(
    "name", [name if name == "quick" else pytest.param(name, marks=pytest.mark.slow) for name in SHIPPED]
)
def test_a_small_variant_of_every_shipped_sweep_runs(name, tmp_path):
    flags = TINY | SMALLER.get(name, {})
    words = [part for key, value in flags.items() for part in (f"--{key.replace('_', '-')}", value)]
    words += [part for program in RUN[name] for part in ("--only", program)]
    assert sweep.main([name, *words, "--out", str(tmp_path / "out")]) == 0
    for program in ["sac" if program == "1" else program for program in RUN[name]]:
        settings = config.resolve({}, tmp_path / "out" / program / "run.toml")
        curves = run_folder.read_curves(tmp_path / "out" / program)
        assert len(curves["seed"]) == settings.num_runs * 2 and np.isfinite(curves["critic_loss"][-2:]).all()
