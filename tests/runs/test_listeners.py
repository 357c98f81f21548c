"""Whatever follows from a stretch of training is a listener: purerl's own, and those that a user adds."""

import json
import sys

import jax
import numpy as np
import pytest
from commands import SMALL, assert_same_run, stopped_after

from purerl.results import run_folder
from purerl.runs import checkpoints, runner
from purerl.runs.display import Display
from purerl.runs.events import Event, fire
from purerl.runs.listeners import listeners, population, progress, recording
from purerl.runs.listeners.checkpointing import Checkpointing
from purerl.runs.position import Position
from purerl.runs.session import Session
from purerl.settings import config

pytestmark = pytest.mark.usefixtures("shared_programs")

TABLE = SMALL | {"algo": "td3", "normalize_observations": "true"}
WARMUP, EPOCH = 10, 20  # stretches of one row, of one cycle


def trained(path, *added, **more):
    """The outcome of the small run in the folder `path`, with the listeners `added`."""
    settings = config.resolve(TABLE | more)
    return runner.run(settings, *runner.prepare(settings), path, Display(), listeners=added)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    path = tmp_path_factory.mktemp("listeners") / "whole"
    assert trained(path).interrupted is None
    return path


def stops_at(evaluations):
    return lambda event: event._replace(stop="enough") if event.at.evaluations == evaluations else None


def progress_of(path):
    """Where the only checkpoint of a run was made."""
    (number,) = checkpoints.numbers(path)
    found = json.loads((path / "checkpoints" / str(number) / checkpoints.LABEL).read_text())["progress"]
    return Position(found["row"], found["evaluations"])


def test_each_listener_gets_the_event_that_the_one_before_it_left():
    heard = []

    def hears(event):
        heard.append(event.stop)

    event = Event(None, 0, Position(), None, {})
    added = [hears, lambda event: event._replace(stop="first"), hears, lambda event: event._replace(stop=None), hears]
    assert fire(added, event) == event._replace(stop="first") and heard == [None, "first", "first"]  # it stays


@pytest.mark.parametrize("carry", [None, lambda carry: carry._replace(agent=())])
def test_a_listener_that_breaks_the_carry_is_an_error_and_loses_nothing(carry, tmp_path, whole):
    def breaks(event):
        if event.at.evaluations == 2:
            return event._replace(carry=carry and carry(event.carry))
        return None

    with pytest.raises(TypeError, match="not change the carry's structure"):
        trained(tmp_path / "run", breaks)
    trained(tmp_path / "run")
    assert_same_run(tmp_path / "run", whole)


def test_a_listener_that_exits_loses_nothing(tmp_path):
    def exits(event):
        if event.at.evaluations == 2:
            sys.exit(3)

    with pytest.raises(SystemExit):
        trained(tmp_path / "run", exits)
    assert progress_of(tmp_path / "run").evaluations == 2


def test_a_listener_that_returns_no_event_is_an_error_and_loses_nothing(tmp_path):
    with pytest.raises(TypeError, match="should return an event or None; it returned bool"):
        trained(tmp_path / "run", lambda event: event.at.evaluations < 3)
    assert checkpoints.numbers(tmp_path / "run")


def test_the_rows_come_first_and_the_checkpoint_last_with_the_users_own_before_the_exploit():
    session = object.__new__(Session)
    object.__setattr__(session, "listeners", ("mine", "also mine"))
    called = listeners(session)
    assert called[:2] == [recording.write, progress.show] and isinstance(called[-1], Checkpointing)
    assert [added.args[0] for added in called[-4:-2]] == ["mine", "also mine"]
    assert called[-2] is population.exploit  # A hook sees the agents that were evaluated.


def test_listeners_hear_of_every_stretch_and_of_every_evaluation(one_turn_at_a_time, tmp_path):
    path, heard, rows = tmp_path / "run", [], []

    def hears(event):
        heard.append((event.at, event.metrics is not None))
        rows.append(len(run_folder.read_curves(path)["seed"]))

    trained(path, hears)
    expected = [(Position(row, 0), False) for row in range(1, 11)] + [(Position(10, 1), True)]
    for done in range(3):
        last = WARMUP + done * EPOCH
        expected += [(Position(row, done + 1), False) for row in range(last + 1, last + EPOCH + 1)]
        expected.append((Position(last + EPOCH, done + 2), True))
    assert heard == expected
    assert rows == [3 * at.evaluations for at, _ in heard]  # on disk before the listener was called


def test_the_metrics_of_an_event_are_what_stands_in_the_curves(whole, tmp_path):
    found = []
    trained(tmp_path / "run", lambda event: found.append(event.metrics) if event.metrics else None)
    curves = run_folder.read_curves(whole)
    assert "critic_loss" not in found[0]  # before anything was learned
    for name in ("return_mean", "critic_loss", "diverged"):
        seen = np.concatenate([metrics.get(name, [np.nan] * 3) for metrics in found])
        np.testing.assert_array_equal(np.float32(curves[name]), np.float32(seen), err_msg=name)


def test_a_listener_that_changes_nothing_leaves_every_bit_as_it_is(whole, tmp_path):
    kept = []

    def reads(event):
        kept.append(jax.device_get(event.carry.agent))
        return event

    assert trained(tmp_path / "run", reads, lambda event: None).interrupted is None
    assert_same_run(tmp_path / "run", whole)
    assert len(kept) > 4


def test_a_listener_ends_the_run_with_a_checkpoint_from_which_it_goes_on_bit_for_bit(whole, tmp_path, capsys):
    path = tmp_path / "run"
    outcome = trained(path, stops_at(2))
    assert outcome.interrupted == outcome.asked == "enough"
    assert "ended early: enough" in capsys.readouterr().out
    assert progress_of(path) == Position(30, 2)
    assert run_folder.read_policy(path)["env_step"].tolist() == [120] * 3
    assert trained(path).interrupted is None
    assert_same_run(path, whole)


def test_a_listener_ends_the_run_also_within_an_epoch(whole, one_turn_at_a_time, tmp_path):
    path = tmp_path / "run"
    stops = trained(path, lambda event: event._replace(stop="here") if event.at.row == 17 else None)
    assert stops.interrupted == "here" and progress_of(path) == Position(17, 1)
    trained(path)
    assert_same_run(path, whole)


def test_a_stop_at_the_end_leaves_the_run_complete(whole, tmp_path):
    path = tmp_path / "run"
    outcome = trained(path, stops_at(4))
    assert outcome.interrupted is None and checkpoints.numbers(path) == [3]
    assert_same_run(path, whole)


def test_a_stop_in_one_group_of_seeds_ends_the_run_before_the_next(tmp_path):
    path = tmp_path / "run"
    groups = []

    def stops(event):
        groups.append(event.group)
        return stops_at(4)(event)

    assert trained(path, stops, seeds_per_batch="1").interrupted == "enough"
    assert set(groups) == {0} and len(run_folder.read_curves(path)["seed"]) == 4
    assert trained(path, seeds_per_batch="1").interrupted is None
    assert len(run_folder.read_curves(path)["seed"]) == 12


def test_what_a_listener_changes_of_the_carry_is_trained_on_and_in_the_checkpoint(whole, tmp_path):
    path, direct = tmp_path / "stopped", tmp_path / "direct"

    def forgets(event):
        if event.metrics is None or event.at.evaluations != 2:
            return None
        agent = jax.tree.map(lambda x: 0 * x, event.carry.agent)
        return event._replace(carry=event.carry._replace(agent=agent))

    trained(direct, forgets)
    assert trained(path, forgets, stops_at(2)).interrupted == "enough"
    trained(path)
    assert_same_run(path, direct)
    there, here = (run_folder.read_curves(folder)["return_mean"] for folder in (whole, path))
    np.testing.assert_array_equal(here[:6], there[:6])
    assert (here[6:] != there[6:]).any()


@pytest.mark.parametrize("evaluations", [2, 4], ids=["in the middle", "at the end"])
def test_what_a_listener_raises_goes_on_after_a_checkpoint_was_written(whole, evaluations, tmp_path):
    path = tmp_path / "run"

    def fails(event):
        if event.at.evaluations == evaluations:
            raise KeyError("no such camera")

    with pytest.raises(KeyError, match="no such camera"):
        trained(path, fails)
    assert progress_of(path).evaluations == evaluations
    assert not (path / run_folder.POLICY).exists()
    trained(path)
    assert_same_run(path, whole)


def test_an_interrupt_between_two_stretches_is_heard_before_anything_more_is_done(whole, one_turn_at_a_time, tmp_path):
    """A signal while a listener works: no stretch follows, and the checkpoint is where the listener was called."""
    path = tmp_path / "run"

    def signals(event):
        if event.at.row == 17:
            event.session.interrupt.reason = "SIGTERM"

    assert trained(path, signals).interrupted == "SIGTERM"
    assert progress_of(path) == Position(17, 1)
    trained(path)
    assert_same_run(path, whole)


def test_a_run_that_is_interrupted_before_its_first_stretch_tells_its_listeners_once(tmp_path, monkeypatch):
    heard = []
    monkeypatch.setattr(runner.Interrupt, "__enter__", lambda self: setattr(self, "reason", "SIGTERM") or self)
    monkeypatch.setattr(runner.Interrupt, "__exit__", lambda self, *error: None)
    assert trained(tmp_path / "run", lambda event: heard.append((event.at, event.stop))).interrupted == "SIGTERM"
    assert heard == [(Position(0, 0), "SIGTERM")] and progress_of(tmp_path / "run") == Position(0, 0)


def test_the_stop_of_a_listener_and_a_signal_write_one_checkpoint(one_turn_at_a_time, tmp_path, monkeypatch):
    path = tmp_path / "run"
    with stopped_after(WARMUP + 1 + 7, monkeypatch):
        trained(path, lambda event: event._replace(stop="here") if event.at.row == 17 else None)
    events = [json.loads(line) for line in (path / "log.jsonl").read_text().splitlines()]
    assert [event["event"] for event in events].count("checkpoint") == 1
