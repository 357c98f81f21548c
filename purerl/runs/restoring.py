"""Resume from the newest undamaged checkpoint of a group: truncate its files and restore its replay buffer."""

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
    """An undamaged checkpoint from which a run can be resumed.

    Attributes:
        number: the number of the checkpoint.
        label: the contents of its label.
        at: where in the run it was made.
        carry: `[runs, ...]`, on disk until it is used.
    """

    number: int
    label: dict[str, Any]
    at: Position
    carry: Carry


class Lacking(Exception):
    """curves.csv lacks rows from before a checkpoint."""


def restored(session: Session, group: int) -> tuple[Position, Carry | None]:
    """Return `(at, carry)` of the newest undamaged checkpoint of a group, or the start and None if there is none.

    Raises Refused, and changes nothing, if there is a checkpoint from which the run cannot be resumed.
    """
    lacking, damaged = [], []
    for number in _numbers(session, group):
        try:
            found = _read(session, group, number)
        except Lacking:
            session.display.say(f"curves.csv lacks rows from before checkpoint {number}; this checkpoint is skipped")
            lacking.append(number)
        except checkpoints.Damaged as error:
            session.log("damaged", checkpoint=number, error=str(error))
            session.display.say(f"checkpoint {number} is damaged and is skipped: {error}")
            damaged.append(number)
        else:
            if lacking or damaged:
                _set_aside(session)
            return found.at, _continued(session, group, found)
    _refuse_whole(session, lacking)
    _start_again(session, group)
    return Position(), None


def _numbers(session: Session, group: int) -> Iterator[int]:
    """Return the checkpoints of a group, newest first."""
    own = session.numbering.of_group(group)
    return (number for number in checkpoints.numbers(session.path) if number in own)


def _read(session: Session, group: int, number: int) -> Found:
    """Return a checkpoint. Raises Damaged if it is damaged, and Lacking if curves.csv lacks rows."""
    plan, runs = session.plan, session.runs(group)
    label = checkpoints.read_label(session.path, number, config.computation(session.settings))
    at = position.of_label(label, session.settings, session.numbering.place(number)[1])
    steps = position.evaluated_steps(plan, at.index)
    if at.evaluations and not run_folder.has_rows(run_folder.read_curves(session.path), runs, steps):
        raise Lacking
    like = claims.held(session.programs.known_carry, runs, label["ring"])
    return Found(number, label, at, checkpoints.restore(session.checkpoints, number, like, label))


def _refuse_whole(session: Session, lacking: Sequence[int]) -> None:
    """Raise Refused if one of the checkpoints that are `lacking` rows is undamaged."""
    for number in lacking:
        if _is_whole(session, number):
            raise Refused(
                f"{session.path}/curves.csv lacks rows from before checkpoint {number}, which is undamaged; restore "
                f"the rows to resume from it, or delete {session.path}/checkpoints to start again from step 0"
            )


def _is_whole(session: Session, number: int) -> bool:
    try:
        checkpoints.verify(session.path, number, config.computation(session.settings))
    except checkpoints.Damaged:
        return False
    return True


def _start_again(session: Session, group: int) -> None:
    """Remove everything of a group from the files."""
    path, runs = session.path, session.runs(group)
    if run_folder.are_of(run_folder.read_curves(path), runs).any():
        session.display.say("there is no undamaged checkpoint; starting again from step 0")
        _set_aside(session)
    made = config.read_toml(path / "run.toml").get(config.RECORD, {})
    _say_environment(session, fingerprint.from_record(made), "when the run began")
    session.clock.resume(run_folder.truncate(path, runs, -1))
    pbt.truncate(path, -1)


def _set_aside(session: Session) -> None:
    """Copy the files that will be computed again, if a run restarts from an earlier position than it had reached."""
    kept = ", ".join(checkpoints.set_aside(session.path, ("curves.csv", pbt.FILE, run_folder.POLICY)))
    session.log("set aside", files=kept)
    session.display.say(f"the earlier files were copied to {kept}")


def _say_environment(session: Session, then: Fingerprint | None, when: str) -> None:
    """Print and log it if the environment differs from its fingerprint `then`."""
    if line := fingerprint.difference(then, session.environment, when):
        session.log("environment", line=line)
        session.display.say(f"{line}; the run continues with the present environment")


def _continued(session: Session, group: int, found: Found) -> Carry:
    """Return the carry of a checkpoint on the device, with a ring, and truncate the files at its position."""
    at, label = found.at, found.label
    _say_environment(session, label.get("environment"), f"when checkpoint {found.number} was written")
    carry = session.with_copies(group, found.carry)
    _truncate(session, group, at, label["computation"].get("num_evals"))
    session.log("resume", group=group, index=at.index, row=at.row, ring=label["ring"])
    session.display.say(f"resumed after {at.row * session.plan.num_envs:,} steps")
    if others := changed(label["versions"], origin(len(carry.diverged.devices()))):
        session.display.say(f"resuming is not bit-exact: {', '.join(others)}")
    if carry.ring is None:
        session.display.say("the checkpoint has no replay buffer: its policy fills a new one, and this is not exact")
        carry = _refilled(session, group, at, carry)
    return carry


def _truncate(session: Session, group: int, at: Position, num_evals: int | None) -> None:
    """Truncate the files of a run at a position.

    `num_evals` is that of the run when the checkpoint was written. If it was the end of the run, no exploit had
    followed, and one that is recorded is made again.
    """
    last = loop.env_steps(session.plan, at.index) if at.evaluations else -1
    session.clock.resume(run_folder.truncate(session.path, session.runs(group), last))
    pbt.truncate(session.path, at.index - 1 if at.evaluations == num_evals else at.index)


def _refilled(session: Session, group: int, at: Position, carry: Carry) -> Carry:
    """Return `carry` with a ring that its policy fills, or unchanged if the run is to end before that."""
    numbers, row = session.numbers(group, at.index), loop.first_refilled(session.plan, at.row)
    acting = session.programs.begin_refill(numbers, carry, at.row)
    while row < at.row:
        if session.interrupt.reason:
            return carry
        row, acting = stretches.advance(session, "refill", numbers, acting, range(row, at.row))
    return session.programs.refilled(carry, acting)
