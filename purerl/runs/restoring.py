"""Going on from a checkpoint: the newest whole one of a group, the files that end where it does, and its ring."""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from purerl.errors import Refused
from purerl.results import run_folder
from purerl.runs import checkpoints, claims, fingerprint, pbt, position, stretches
from purerl.runs.fingerprint import Fingerprint
from purerl.runs.position import Position
from purerl.runs.provenance import changed, origin
from purerl.runs.session import Session
from purerl.settings import config
from purerl.training import loop
from purerl.training.loop import Carry


class Found(NamedTuple):
    """A whole checkpoint that can be gone on from.

    Attributes:
        number: its own.
        label: what it says of itself.
        at: where it was made.
        carry: `[runs, ...]`, on the disk until it is asked for.
    """

    number: int
    label: dict[str, Any]
    at: Position
    carry: Carry


class Lacking(Exception):
    """A checkpoint from before which curves.csv has not all rows."""


def restored(session: Session, group: int) -> tuple[Position, Carry | None]:
    """`(at, carry)` of the newest whole checkpoint of a group; the start and None where there is none.

    Raises Refused, and touches nothing, where there is one that cannot be gone on from.
    """
    lacking, damaged = [], []
    for number in _numbers(session, group):
        try:
            found = _read(session, group, number)
        except Lacking:
            session.display.say(f"curves.csv lacks rows from before checkpoint {number}, which is left out")
            lacking.append(number)
        except checkpoints.Damaged as error:
            session.log("damaged", checkpoint=number, error=str(error))
            session.display.say(f"checkpoint {number} is damaged and left out: {error}")
            damaged.append(number)
        else:
            if lacking or damaged:
                _set_aside(session)
            return found.at, _continued(session, group, found)
    _refuse_whole(session, lacking)
    _start_again(session, group)
    return Position(), None


def _numbers(session: Session, group: int) -> Iterator[int]:
    """The checkpoints of a group, the newest first."""
    first = group * session.plan.num_evals
    return (number for number in checkpoints.numbers(session.path) if first <= number < first + session.plan.num_evals)


def _read(session: Session, group: int, number: int) -> Found:
    """A checkpoint. Raises Damaged where it is not whole, Lacking where curves.csv is not."""
    plan, runs = session.plan, session.runs(group)
    label = checkpoints.read_label(session.path, number, config.computation(session.settings))
    at = position.of_label(label, session.settings, number - group * plan.num_evals)
    steps = position.evaluated_steps(plan, at.index)
    if at.evaluations and not run_folder.has_rows(run_folder.read_curves(session.path), runs, steps):
        raise Lacking
    like = claims.held(session.programs.known_carry, runs, label["ring"])
    return Found(number, label, at, checkpoints.restore(session.checkpoints, number, like, label))


def _refuse_whole(session: Session, lacking: Sequence[int]) -> None:
    """Raises Refused where one of the checkpoints `lacking` rows is whole."""
    for number in lacking:
        if _is_whole(session, number):
            raise Refused(
                f"{session.path}/curves.csv lacks rows from before checkpoint {number}, which is whole; put back the "
                f"rows to go on from it, or delete {session.path}/checkpoints to start again from step 0"
            )


def _is_whole(session: Session, number: int) -> bool:
    try:
        checkpoints.verify(session.path, number, config.computation(session.settings))
    except checkpoints.Damaged:
        return False
    return True


def _start_again(session: Session, group: int) -> None:
    """Let the files have nothing of a group."""
    path, runs = session.path, session.runs(group)
    if run_folder.are_of(run_folder.read_curves(path), runs).any():
        session.display.say("no whole checkpoint to go on from; starting again from step 0")
        _set_aside(session)
    made = config.read_toml(path / "run.toml").get(config.RECORD, {})
    _say_environment(session, fingerprint.from_record(made), "when the run began")
    session.clock.resume(run_folder.truncate(path, runs, -1))
    pbt.truncate(path, -1)


def _set_aside(session: Session) -> None:
    """Keep copies of what is computed anew, where a run falls back behind what it had come to."""
    kept = ", ".join(checkpoints.set_aside(session.path, ("curves.csv", pbt.FILE, run_folder.POLICY)))
    session.log("set aside", files=kept)
    session.display.say(f"copies of what there was: {kept}")


def _say_environment(session: Session, then: Fingerprint | None, when: str) -> None:
    """Say where the environment is another than its fingerprint `then` tells."""
    if line := fingerprint.difference(then, session.environment, when):
        session.log("environment", line=line)
        session.display.say(f"{line}; resuming goes on with what it is now")


def _continued(session: Session, group: int, found: Found) -> Carry:
    """The carry of a checkpoint on the device, with a ring; the files end where it does."""
    at, label = found.at, found.label
    _say_environment(session, label.get("environment"), f"when checkpoint {found.number} was written")
    carry = session.with_copies(group, found.carry)
    _truncate(session, group, at)
    session.log("resume", group=group, index=at.index, row=at.row, ring=label["ring"])
    session.display.say(f"resumed after {at.row * session.plan.num_envs:,} steps")
    if others := changed(label["versions"], origin(len(carry.diverged.devices()))):
        session.display.say(f"not bit for bit as without the stop: {', '.join(others)}")
    if carry.ring is None:
        session.display.say("the checkpoint has no replay buffer: its policy fills a new one, and this is not exact")
        carry = _refilled(session, group, at, carry)
    return carry


def _truncate(session: Session, group: int, at: Position) -> None:
    """Let the files of a run end at a position."""
    last = loop.env_steps(session.plan, at.index) if at.evaluations else -1
    session.clock.resume(run_folder.truncate(session.path, session.runs(group), last))
    pbt.truncate(session.path, at.index)


def _refilled(session: Session, group: int, at: Position, carry: Carry) -> Carry:
    """`carry` with a ring that its policy fills; as it is where the run is to end before."""
    numbers, turn = session.numbers(group, at.index), loop.first_refilled(session.plan, at.row)
    acting = session.programs.begin_refill(numbers, carry, at.row)
    while turn < at.row:
        if session.interrupt.reason:
            return carry
        turn, acting = stretches.advance(session, "refill", numbers, acting, range(turn, at.row))
    return session.programs.refilled(carry, acting)
