"""A run that is stopped, in whatever way, goes on as if it had not been."""

import gc
import json
import os
import shutil
import signal
import time
import tracemalloc
from functools import partial
from random import Random

import jax
import numpy as np
import pytest
from commands import arguments, assert_same_run, cut_after, ended, forked, killed, options, prepared, refusal, start

from purerl import train
from purerl.errors import Refused
from purerl.results import run_folder
from purerl.runs import checkpoints, runner
from purerl.runs.clock import Clock, Interrupt
from purerl.runs.display import Display
from purerl.settings import config
from purerl.training import mapping

pytestmark = pytest.mark.usefixtures("shared_programs")


class Finished(dict):
    """`{algorithm: folder}` of finished runs with all their checkpoints. Each is trained when first asked for."""

    def __init__(self, folder):
        self.folder = folder

    def __missing__(self, algo):
        self[algo] = self.folder / algo
        out = ["--out", str(self[algo]), "--checkpoint-every", "1", "--checkpoint-keep", "9"]
        assert train.main([*arguments(**options(algo)), *out]) == 0
        return self[algo]


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    return Finished(tmp_path_factory.mktemp("whole"))


@pytest.fixture
def stop_at_once(monkeypatch):
    """Every run is told to end before it begins."""
    monkeypatch.setattr(Interrupt, "__enter__", lambda self: self.ask(signal.SIGTERM, None) or self)
    monkeypatch.setattr(Interrupt, "__exit__", lambda self, *error: None)


@pytest.mark.smoke
@pytest.mark.parametrize(
    "algo", ["td3", pytest.param("sac", marks=pytest.mark.slow), pytest.param("ddpg", marks=pytest.mark.slow)]
)
@pytest.mark.parametrize("number", [1, 2])
def test_a_resumed_run_ends_as_the_uninterrupted_one_bit_for_bit(whole, algo, number, tmp_path):
    path = cut_after(whole[algo], number, tmp_path / "run")
    assert train.main(["--resume", str(path)]) == 0
    assert_same_run(path, whole[algo])


def test_the_same_command_after_a_crash_goes_on(whole, tmp_path, capsys):
    path = cut_after(whole["td3"], 2, tmp_path / "run")
    assert train.main([*arguments(**options("td3")), "--out", str(path)]) == 0
    assert "resumed after 200 steps" in capsys.readouterr().out
    assert_same_run(path, whole["td3"])


def test_without_a_checkpoint_a_run_starts_again_and_says_so(whole, tmp_path, capsys):
    path = cut_after(whole["td3"], 0, tmp_path / "run")
    assert train.main(["--resume", str(path)]) == 0
    assert "starting again from step 0" in capsys.readouterr().out
    assert_same_run(path, whole["td3"])


def test_a_line_that_was_cut_while_it_was_written_is_dropped(whole, tmp_path):
    path = cut_after(whole["sac"], 3, tmp_path / "run")
    curves = (path / "curves.csv").read_bytes()
    (path / "curves.csv").write_bytes(curves[:-3])
    assert len(run_folder.read_curves(path)["seed"]) == 11
    cut = cut_after(whole["sac"], 2, tmp_path / "again")
    (cut / "curves.csv").write_bytes(curves[:-3])
    assert train.main(["--resume", str(cut)]) == 0
    assert_same_run(cut, whole["sac"])


def test_an_interrupted_run_can_be_resumed(whole, tmp_path, stop_at_once, monkeypatch):
    path = tmp_path / "run"
    assert train.main([*arguments(**options("td3")), "--out", str(path)]) == train.INTERRUPTED
    assert len(run_folder.read_curves(path)["env_step"]) == 0  # It ended before its first evaluation.
    assert (path / run_folder.POLICY).exists() and not (path / "curve.png").exists()
    monkeypatch.undo()
    assert train.main(["--resume", str(path)]) == 0
    assert_same_run(path, whole["td3"])


@pytest.mark.parametrize("number", [pytest.param(signal.SIGINT, marks=pytest.mark.slow), signal.SIGTERM])
def test_a_signal_ends_a_run_soon(number, tmp_path):
    path = tmp_path / "run"
    long = arguments(algo="ddpg", total_steps=str(40 + 4 * 500 * 400), num_evals="401")
    process = start(*long, "--out", path)
    for line in process.stdout:
        if "return (IQM)" in line:
            break
    process.send_signal(number)
    shown = process.stdout.read()
    assert process.wait(timeout=60) == train.INTERRUPTED
    assert f"ended early: {number.name}" in shown
    steps, returns = run_folder.per_seed(run_folder.read_curves(path))
    assert 1 <= len(steps) < 401 and returns.shape == (len(steps), 3)
    assert (
        (path / run_folder.POLICY).exists()
        and (path / "curve.png").exists()
        and checkpoints.numbers(path) == [len(steps) - 1]
    )


@pytest.mark.slow
def test_a_second_signal_ends_at_once_and_the_last_checkpoint_stays_good(tmp_path):
    path = tmp_path / "run"
    long = arguments(algo="ddpg", total_steps=str(40 + 4 * 5_000 * 4), num_evals="5", updates_per_step="16")
    process = start(*long, "--out", path, "--checkpoint-every", "1")
    while not checkpoints.numbers(path):
        assert process.poll() is None
        time.sleep(0.05)
    process.send_signal(signal.SIGTERM)
    time.sleep(0.3)  # Two that come before Python looks are one.
    process.send_signal(signal.SIGTERM)
    shown = process.stdout.read()
    assert process.wait(timeout=60) == train.INTERRUPTED and "interrupted twice" in shown and "ended early" not in shown
    again = start("--resume", path, "--time-limit", "0.1")
    assert "resumed after" in again.stdout.read() and again.wait(timeout=60) == train.INTERRUPTED


def test_the_time_limit_ends_a_run_early_with_a_checkpoint(whole, tmp_path, capsys):
    path = tmp_path / "run"
    assert train.main([*arguments(**options("sac")), "--out", str(path), "--time-limit", "0.001"]) == train.INTERRUPTED
    assert "ended early: time limit" in capsys.readouterr().out
    assert checkpoints.numbers(path) == [0]
    assert train.main(["--resume", str(path), "--time-limit", "1:00:00"]) == 0
    assert_same_run(path, whole["sac"])


def test_one_signal_after_the_time_limit_is_not_the_second(monkeypatch):
    monkeypatch.setattr(os, "_exit", lambda status: pytest.fail("ended at once"))
    interrupt = Interrupt(time_limit=0.0)
    with interrupt.stretch(Clock()):
        pass
    with interrupt:
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(0.01)
    assert interrupt.reason == "time limit" and interrupt.signalled


def test_the_end_is_asked_for_before_the_time_limit_and_not_after():
    interrupt, clock = Interrupt(time_limit=10.0), Clock()
    for seconds in (3.0, 3.0):
        with interrupt.stretch(clock):
            clock.begun -= seconds
        asked = interrupt.reason
    assert asked is None and interrupt.longest == pytest.approx(3.0, abs=0.1)
    with interrupt.stretch(clock):
        clock.begun -= 3.0
    assert interrupt.reason == "time limit"  # 9 s are over, and 3 more would pass 10


def test_a_checkpoint_without_the_ring_resumes_and_says_that_this_is_not_exact(tmp_path, capsys):
    path, kept = tmp_path / "run", {"checkpoint_ring": "false", "time_limit": "0.001"}
    small = options("td3") | kept
    assert train.main([*arguments(**small), "--out", str(path)]) == train.INTERRUPTED
    events = [json.loads(line) for line in (path / "log.jsonl").read_text().splitlines()]
    without = next(event["bytes"] for event in events if event["event"] == "checkpoint")
    assert train.main(["--resume", str(path), "--time-limit", "none"]) == 0
    assert "not exact" in capsys.readouterr().out
    curves = run_folder.read_curves(path)
    assert curves["env_step"].tolist() == np.repeat([0, 120, 200, 280], 3).tolist()
    assert np.isfinite(curves["critic_loss"][3:]).all() and np.isnan(curves["diverged"]).all()
    assert without < 200_000 - 3 * 200 * 4 * 4  # the ring alone has 3 seeds x 200 transitions x more than 4 numbers


def test_a_label_that_cannot_be_read_now_is_one_line(whole, tmp_path, monkeypatch, capfd):
    path = cut_after(whole["td3"], 2, tmp_path / "run")

    def fail(*words):
        raise OSError(5, "Input/output error", "label.json")

    monkeypatch.setattr(checkpoints, "read_label", fail)
    assert "cannot read label.json: Input/output error" in refusal(capfd, "--resume", path)


def test_a_finished_run_is_not_run_again(whole, capfd):
    for words in (["--resume", whole["td3"]], [*arguments(**options("td3")), "--out", whole["td3"]]):
        assert "complete already" in refusal(capfd, *words)


def test_a_folder_of_another_run_is_refused_with_the_difference(whole, capfd):
    shown = refusal(capfd, *arguments(**options("td3"), gamma="0.9"), "--out", whole["td3"])
    assert "gamma is 0.99 there and 0.9 here" in shown and "num_seeds" not in shown


def test_a_changed_run_toml_is_refused_with_the_difference(whole, tmp_path, capfd):
    path = cut_after(whole["td3"], 2, tmp_path / "run")
    text = (path / "run.toml").read_text()
    (path / "run.toml").write_text(text.replace("batch_size = 16", "batch_size = 8"))
    assert "batch_size is 16 there and 8 here" in refusal(capfd, "--resume", path)


def test_a_resumed_run_keeps_its_settings(tmp_path, capfd):
    assert "run.toml: No such file" in refusal(capfd, "--resume", tmp_path)
    assert "leave out --num-seeds --out" in refusal(capfd, "--resume", tmp_path, "--num-seeds", "4", "--out", "x")


def test_other_versions_are_told(whole, tmp_path, capsys, monkeypatch):
    path = cut_after(whole["td3"], 2, tmp_path / "run")
    monkeypatch.setattr("purerl.runs.restoring.origin", lambda num_devices: {"jax": "9.9"})
    assert train.main(["--resume", str(path)]) == 0
    assert "and is 9.9" in capsys.readouterr().out


@pytest.mark.slow
def test_groups_of_seeds_one_after_another_give_what_all_at_once_give(tmp_path, stop_at_once, monkeypatch):
    at_once, grouped = tmp_path / "at once", tmp_path / "grouped"
    small = options("td3") | {"num_seeds": "16"}
    in_groups = [*arguments(**small, seeds_per_batch="4"), "--out", str(grouped)]
    assert train.main(in_groups) == train.INTERRUPTED  # in the first group; then it goes on
    monkeypatch.undo()
    assert train.main([*arguments(**small), "--out", str(at_once)]) == 0
    assert train.main(in_groups) == 0
    assert_same_run(at_once, grouped, rtol=1e-5)  # XLA sums in another order where there are other numbers of seeds
    assert [file.name for file in (grouped / "policy").iterdir()] == ["actor.npz"]


def damage(path, random):
    """Cut or change one file of a checkpoint, or delete it. Returns what was done."""
    files = sorted(file for file in path.rglob("*") if file.is_file())
    file = random.choice(files)
    content = bytearray(file.read_bytes())
    kind = random.choice(["cut", "flip", "flip", "delete"])
    if kind == "delete" or not content:
        file.unlink()
    elif kind == "cut":
        file.write_bytes(content[: random.randrange(len(content))])
    else:
        place = random.randrange(len(content))
        content[place] ^= 1 << random.randrange(8)
        file.write_bytes(content)
    return f"{kind} {file.relative_to(path)}"


def test_a_damaged_checkpoint_is_never_resumed_silently(whole, tmp_path):
    """Sixty damages to any of its files: each is told."""
    settings, programs, numbers = prepared(**options("td3"))
    like = mapping.abstract_carry(programs, numbers, 3)
    computation = config.computation(settings)

    def restored(path, number):
        label = checkpoints.read_label(path, number, computation)
        return checkpoints.restore(checkpoints.manager(path), number, like, label)

    assert restored(whole["td3"], 3).ring.data.shape == like.ring.data.shape
    found, random = [], Random(0)
    for trial in range(60):
        path = cut_after(whole["td3"], 3, tmp_path / str(trial))
        done = damage(path / "checkpoints" / "3", random)
        try:
            restored(path, 3)
        except checkpoints.Damaged:
            found.append(done)
        shutil.rmtree(path)
    files = [file for file in (whole["td3"] / "checkpoints" / "3").rglob("*") if file.is_file()]
    assert len(found) == 60 and len(set(found)) == 3 * len(files)


def test_a_checkpoint_of_arrays_that_this_version_does_not_know_is_no_damage_but_a_misfit(whole):
    settings, programs, numbers = prepared(**options("td3"))
    like, label = (
        mapping.abstract_carry(programs, numbers, 3),
        checkpoints.read_label(whole["td3"], 3, config.computation(settings)),
    )
    other = like._replace(diverged=jax.ShapeDtypeStruct((4,), like.diverged.dtype))
    with pytest.raises(checkpoints.Misfit, match=r"\.diverged is int32\[3\] there and int32\[4\] here"):
        checkpoints.restore(checkpoints.manager(whole["td3"]), 3, other, label)


def test_saving_leaves_nothing_behind_in_the_process(tmp_path):
    """Orbax's handlers for arrays leave about 26 kB of Python objects at each save of a carry like this."""
    settings, programs, numbers = prepared()
    carry, manager = programs.run_warm_up(numbers, mapping.keys(0, 3)), checkpoints.manager(tmp_path)

    def save(times):
        for number in range(times):
            checkpoints.save(manager, number, carry, 3, config.computation(settings), keep=1)
        gc.collect()
        return tracemalloc.get_traced_memory()[0]

    tracemalloc.start()
    try:
        before = save(5)
        assert save(40) - before < 40 * 5_000
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("seed", range(3))
def test_a_run_with_a_damaged_checkpoint_falls_back_to_the_one_before(whole, seed, tmp_path, capsys):
    path = cut_after(whole["sac"], 2, tmp_path / "run")
    label = path / "checkpoints" / "2" / checkpoints.LABEL
    arrays = max((path / "checkpoints" / "2").rglob("*"), key=lambda file: file.stat().st_size)
    file = (label, arrays, label)[seed]
    content = file.read_bytes()
    file.write_bytes(content[: len(content) // 2] if seed < 2 else b"")
    assert train.main(["--resume", str(path)]) == 0
    shown = capsys.readouterr().out
    assert "checkpoint 2 is damaged" in shown and "resumed after 120 steps" in shown
    assert_same_run(path, whole["sac"])


@pytest.mark.parametrize("number, rows, evals", [(2, 400, "11"), pytest.param(20, 6000, "51", marks=pytest.mark.slow)])
def test_kills_change_nothing(number, rows, evals, tmp_path):
    """SIGKILL at random moments, a resume after each; then the run ends as the one that was never killed."""
    long = arguments(**options("td3"), total_steps=str(40 + 4 * rows * 50), num_evals=evals, num_seeds="2")
    begun = partial(forked, train.main, *long, "--checkpoint-every", "1", "--out")
    whole, path, random, kills = tmp_path / "whole", tmp_path / "killed", Random(1), 0
    assert ended(begun(whole)) == 0
    while kills < number:
        if killed(begun(path), random.uniform(0, 4)):  # while it reads checkpoints, compiles, trains
            kills += 1
        else:  # a fast machine
            assert_same_run(path, whole)
            shutil.rmtree(path)
    assert ended(begun(path)) == 0
    assert_same_run(path, whole)


LITTLE_SPACE = """
import resource, sys
from purerl import train
resource.setrlimit(resource.RLIMIT_FSIZE, (3000, 3000))  # a full disk, as a process can have it to itself
sys.exit(train.main())
"""


@pytest.mark.slow
def test_where_nothing_more_can_be_written_what_is_there_stays_and_can_be_gone_on_with(whole, tmp_path):
    path = tmp_path / "run"
    longer = arguments(**options("td3"), num_evals="31", total_steps="280")
    process = start(*longer, "--out", path, "--compilation-cache", "none", code=LITTLE_SPACE)
    shown = process.stdout.read()
    assert process.wait(timeout=60) == 1, shown
    assert "error: cannot write" in shown and "File too large" in shown and "Traceback" not in shown
    rows = len(run_folder.read_curves(path)["seed"])
    assert rows >= 3
    assert train.main(["--resume", str(path)]) == 0
    curves = run_folder.read_curves(path)
    assert len(curves["seed"]) == 31 * 3 and len(set(zip(curves["seed"], curves["env_step"], strict=True))) == 31 * 3


@pytest.mark.parametrize("error", [MemoryError("too large"), OSError(5, "Input/output error")])
def test_a_checkpoint_that_cannot_be_read_now_is_kept_and_the_run_does_not_begin_anew(
    whole, error, tmp_path, monkeypatch, capsys
):
    path = cut_after(whole["td3"], 2, tmp_path / "run")

    def fail(file):
        raise error

    with monkeypatch.context() as patched:
        patched.setattr(checkpoints, "read_arrays", fail)
        if isinstance(error, OSError):
            assert train.main(["--resume", str(path)]) == 1
            assert "Input/output error" in capsys.readouterr().err
        else:
            with pytest.raises(MemoryError):
                train.main(["--resume", str(path)])
    assert train.main(["--resume", str(path)]) == 0
    assert "resumed after 200 steps" in capsys.readouterr().out
    assert_same_run(path, whole["td3"])


def test_a_checkpoint_that_does_not_fit_leaves_nothing(tmp_path, monkeypatch):
    settings, programs, numbers = prepared()
    carry, manager = programs.run_warm_up(numbers, mapping.keys(0, 3)), checkpoints.manager(tmp_path)
    computation, written = config.computation(settings), []

    def fill(file, array, runs):
        written.append(array)
        if len(written) == 5:
            raise OSError(28, "No space left on device")

    monkeypatch.setattr(checkpoints, "_append", fill)
    with pytest.raises(OSError, match="No space left"):
        checkpoints.save(manager, 1, carry, 3, computation, keep=2)
    assert list((tmp_path / "checkpoints").iterdir()) == [] and len(written) == 5


def test_a_run_that_another_process_completed_meanwhile_is_left_as_it_is(whole, tmp_path):
    path = tmp_path / "run"
    shutil.copytree(whole["td3"], path, ignore=shutil.ignore_patterns("checkpoints"))
    settings = config.resolve({}, path / "run.toml")
    curves = (path / "curves.csv").read_bytes()
    outcome = runner.run(settings, *runner.prepare(settings), path, Display())
    assert (path / "curves.csv").read_bytes() == curves and outcome.interrupted is None and len(outcome.returns) == 3
    other = config.resolve({"gamma": "0.9"}, path / "run.toml")
    with pytest.raises(
        Refused, match=r"another process has used the folder meanwhile: .*gamma is 0.99 there and 0.9 here"
    ):
        runner.run(other, *runner.prepare(other), path, Display())


def test_time_before_a_stop_counts_once():
    clock = Clock()
    clock.resume(50.0)
    assert clock.wall == pytest.approx(50.0, abs=1.0)
    clock.train = 1.0
    clock.resume(60.0)  # of another group, the first having been trained in this process
    assert clock.earlier == 50.0


class Died(BaseException):
    """What a test kills a run with, in the middle of a function."""


def die(*_, **__):
    raise Died


@pytest.mark.parametrize("where", ["write_policy", "drop_parts"])
@pytest.mark.parametrize("groups", ["none", pytest.param("1", marks=pytest.mark.slow)])
def test_a_resumed_run_that_dies_while_it_keeps_its_policy_ends_with_the_right_one(
    whole, where, groups, tmp_path, monkeypatch
):
    path, more = tmp_path / "run", {} if groups == "none" else {"seeds_per_batch": groups}
    command = [*arguments(**options("td3"), **more), "--out", str(path)]
    assert train.main([*command, "--time-limit", "0.001"]) == train.INTERRUPTED
    with monkeypatch.context() as patch, pytest.raises(Died):
        patch.setattr(run_folder, where, die)
        train.main(command)
    if where == "write_policy":
        assert train.main(["--resume", str(path), "--time-limit", "none"]) == 0
    assert_same_run(path, whole["td3"], rtol=0.0 if groups == "none" else 1e-4)


def test_a_run_that_dies_before_its_picture_is_completed(whole, tmp_path, monkeypatch):
    path = tmp_path / "run"
    command = [*arguments(**options("td3")), "--out", str(path)]
    with monkeypatch.context() as patch, pytest.raises(Died):
        patch.setattr("purerl.results.picture.write_picture", die)
        train.main(command)
    assert train.main(command) == 0
    assert (path / "curve.png").exists()
    assert_same_run(path, whole["td3"])


def test_two_processes_do_not_run_in_one_folder(tmp_path, capfd):
    path = tmp_path / "run"
    with run_folder.locked(path):
        assert "another process is running in" in refusal(capfd, *arguments(**options("td3")), "--out", path)
    assert train.main([*arguments(**options("td3")), "--out", str(path)]) == 0


def test_rows_that_were_lost_are_computed_again(whole, tmp_path, capsys):
    path = cut_after(whole["td3"], 2, tmp_path / "run")
    rows = (path / "curves.csv").read_text().splitlines(keepends=True)
    (path / "curves.csv").write_text("".join(row for row in rows if not row.startswith("6,0,200,")))
    assert train.main(["--resume", str(path)]) == 0
    shown = capsys.readouterr().out
    assert "lacks rows from before checkpoint 2" in shown and "resumed after 120 steps" in shown
    assert_same_run(path, whole["td3"])


def test_the_checkpoint_just_written_stays_whatever_others_there_are(whole, tmp_path):
    """Others with higher numbers may be left of a time line that was given up."""
    settings, programs, numbers = prepared(**options("td3"))
    carry = programs.run_warm_up(numbers, mapping.keys(5, 3))
    kept = checkpoints.manager(tmp_path)
    for number in (8, 9, 1):
        checkpoints.save(kept, number, carry, 3, config.computation(settings), keep=2)
    assert checkpoints.numbers(tmp_path) == [9, 1]


@pytest.mark.parametrize("text", ["5,0,0\r,0\n", '"' * 3 + "\n", "9" * 200_000 + "\n", "5,0,x" + ",0" * 11 + "\n"])
def test_damaged_curves_are_refused_in_one_short_line(whole, text, tmp_path, capfd):
    path = cut_after(whole["td3"], 2, tmp_path / "run")
    with open(path / "curves.csv", "a") as file:
        file.write(text)
    shown = refusal(capfd, "--resume", path)
    assert "curves.csv is damaged" in shown and len(shown) < 500


def test_a_lost_policy_folder_is_made_again(whole, tmp_path):
    path = cut_after(whole["td3"], 2, tmp_path / "run")
    (path / "policy").rmdir()
    assert train.main(["--resume", str(path)]) == 0
    assert_same_run(path, whole["td3"])


def test_the_folder_of_a_run_may_be_the_current_one(whole, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert train.main([*arguments(**options("td3")), "--out", "."]) == 0
    assert_same_run(tmp_path, whole["td3"])


def test_strange_folders_are_refused_before_anything_is_compiled(whole, tmp_path, capfd):
    (tmp_path / "dangling").symlink_to("nowhere")
    assert "is not a folder" in refusal(capfd, *arguments(), "--out", tmp_path / "dangling")
    run_toml = whole["td3"] / "run.toml"
    assert f"give the folder of the run, {str(whole['td3'])!r}" in refusal(capfd, "--resume", run_toml)


def test_all_seeds_at_once_may_be_said_in_two_ways(whole, tmp_path):
    path = cut_after(whole["td3"], 2, tmp_path / "run")
    assert train.main([*arguments(**options("td3"), seeds_per_batch="3"), "--out", str(path)]) == 0
    assert_same_run(path, whole["td3"])


HEARS = """
import signal, sys, threading, time

def tell():
    while signal.getsignal(signal.SIGTERM) is signal.SIG_DFL:
        time.sleep(0.01)
    print("hears", flush=True)

threading.Thread(target=tell, daemon=True).start()
from purerl import train
sys.exit(train.main())
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_before_training_ends_at_once(number, tmp_path):
    process = start(*arguments(), "--out", tmp_path / "run", code=HEARS)
    assert process.stdout.readline() == "hears\n"
    time.sleep(0.3)  # imports, mostly
    process.send_signal(number)
    assert process.wait(timeout=60) == train.INTERRUPTED and "interrupted" in process.stdout.read()
    assert not (tmp_path / "run").exists()


def test_a_run_goes_on_when_nobody_reads_what_it_says(whole, tmp_path):
    path = tmp_path / "run"
    process = start(*arguments(**options("td3")), "--out", path)
    process.stdout.readline()
    process.stdout.close()
    assert process.wait(timeout=120) == 0
    assert_same_run(path, whole["td3"])
