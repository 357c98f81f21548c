"""The listeners of a session, in the order in which they are called.

The order matters. The rows of an evaluation are written to disk before other listeners use them. Checkpointing comes
last, so that a checkpoint contains what all others changed, and is written if one of them ends the run.

recording      curves.csv, the loggers and log.jsonl
progress       the progress bar
limits         signals and the time limit
               those of the session
population     population-based training
checkpointing  checkpoints
"""

from collections.abc import Callable
from functools import partial

from purerl.runs.events import Event, Listener, tell
from purerl.runs.listeners import limits, population, progress, recording
from purerl.runs.listeners.checkpointing import Checkpointing
from purerl.runs.session import Session


def listeners(session: Session) -> list[Listener]:
    """Return new listeners for one group: purerl's own, and those of the session.

    Those of the session come before population-based training, which replaces agents. So they see the agents that were
    evaluated.
    """
    checkpointing = Checkpointing()
    added = [partial(guarded, listener, checkpointing.keep) for listener in session.listeners]
    return [recording.write, progress.show, limits.apply, *added, population.exploit, checkpointing]


def guarded(listener: Listener, keep: Callable[[Event], None], event: Event) -> Event | None:
    """Return what `listener` returns. If it raises, a checkpoint of the event is written first."""
    try:
        return tell(listener, event)
    except BaseException:
        keep(event)
        raise
