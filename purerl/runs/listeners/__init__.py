"""The listeners of a session, in the order in which they are called.

The order matters: the rows of an evaluation are on disk before anything follows from them, and a checkpoint comes last,
so that it has what all the others changed, and is written where one of them ends the run.

recording      curves.csv, the loggers and log.jsonl
progress       the progress bar
population     population-based training
limits         signals and the time limit
checkpointing  checkpoints
"""

from collections.abc import Callable
from functools import partial

from purerl.runs.events import Event, Listener, tell
from purerl.runs.listeners import limits, population, progress, recording
from purerl.runs.listeners.checkpointing import Checkpointing
from purerl.runs.session import Session


def listeners(session: Session) -> list[Listener]:
    """Those of one group, new for each: purerl's own, and before the last those of the session."""
    checkpointing = Checkpointing()
    own = [recording.write, progress.show, population.exploit, limits.apply]
    added = [partial(guarded, listener, checkpointing.keep) for listener in session.listeners]
    return [*own, *added, checkpointing]


def guarded(listener: Listener, keep: Callable[[Event], None], event: Event) -> Event | None:
    """What `listener` returns. Whatever it raises, the event is kept in a checkpoint before."""
    try:
        return tell(listener, event)
    except BaseException:
        keep(event)
        raise
