"""Write checkpoints: every N evaluations or every 15 minutes, and when a run ends.

The checkpoint of a finished run lets it be made longer, or be the beginning of another run.
"""

import shutil
import time

from purerl.runs import checkpoints
from purerl.runs.events import Event
from purerl.runs.position import Position
from purerl.runs.session import Session
from purerl.settings import config

AUTO = 15 * 60.0  # seconds between checkpoints if `checkpoint_every` is "auto"
SPARE = 2**26  # bytes that a checkpoint leaves free on the disk


class Checkpointing:
    """The listener that writes the checkpoints of one group. It remembers where and when it wrote the last."""

    def __init__(self) -> None:
        self.saved: Position | None = None
        self.since = time.monotonic()

    def __call__(self, event: Event) -> None:
        """Write a checkpoint if one is due, or if the run ends early and this position has none yet."""
        if self._is_due(event):
            self._write(event)
        elif event.stop and not event.ended:
            self.keep(event)

    def keep(self, event: Event) -> None:
        """Write a checkpoint, unless the last one was at this position."""
        if self.saved != event.at:
            self._write(event)

    def _write(self, event: Event) -> None:
        write(event)
        self.saved, self.since = event.at, time.monotonic()

    def _is_due(self, event: Event) -> bool:
        every, at = event.session.settings.keep.checkpoint_every, event.at
        if every and event.ended and not event.all_diverged:
            return True
        if every == "auto":
            return not event.ended and time.monotonic() - self.since >= AUTO
        return bool(every and event.metrics is not None and at.index and at.index % every == 0)


def write(event: Event) -> None:
    """Write the checkpoint of an event, or print why it cannot be written. Earlier checkpoints are kept."""
    begun, session = time.perf_counter(), event.session
    if not session.settings.keep.checkpoint_ring or _is_too_large_to_stay(event):
        event = event._replace(carry=event.carry._replace(ring=None))
    number = session.numbering.number(event.group, event.at.index)
    size = checkpoints.size(event.carry, len(session.runs(event.group)))
    if problem := _no_room(session, size) or _failed(event, number):
        session.display.say(f"checkpoint {number} {problem}")
    else:
        session.log("checkpoint", number=number, bytes=size, seconds=round(time.perf_counter() - begun, 3))


def _is_too_large_to_stay(event: Event) -> bool:
    """Return whether the last checkpoint of a finished run would take more than half of the free space of the disk.

    If `checkpoint_every` is "auto", it is then written without the replay buffer, and a message says so.
    """
    session = event.session
    if session.settings.keep.checkpoint_every != "auto" or not event.ended:
        return False
    size, free = checkpoints.size(event.carry, len(session.runs(event.group))), shutil.disk_usage(session.path).free
    if 2 * size <= free:
        return False
    session.display.say(
        f"the last checkpoint is written without its replay buffer: it would need {size / 1e6:,.0f} MB, and the disk "
        f"has {free / 1e6:,.0f} MB free"
    )
    return True


def _no_room(session: Session, size: int) -> str | None:
    """Return why the disk cannot hold `size` more bytes, or None."""
    free = shutil.disk_usage(session.path).free
    if size + SPARE <= free:
        return None
    return (
        f"is not written: it needs {size / 1e6:,.0f} MB, and the disk has {free / 1e6:,.0f} MB free; "
        "free some space, or set --checkpoint-ring false"
    )


def _failed(event: Event, number: int) -> str | None:
    """Return why the checkpoint could not be written, or None if it was written."""
    session, runs = event.session, len(event.session.runs(event.group))
    progress = event.at._asdict() | {"env_step": session.env_steps(event.at)}
    facts = {"progress": progress, "environment": session.environment}
    computation, keep = config.computation(session.settings), session.settings.keep.checkpoint_keep
    try:
        family = session.numbering.of_group(event.group)
        checkpoints.save(session.checkpoints, number, event.carry, runs, computation, keep, family, **facts)
    except OSError as error:
        return f"could not be written; earlier checkpoints are kept: {(str(error).splitlines() or [''])[0]}"
    return None
