"""End a run early after a signal, at its time limit, or after the evaluation at which a fork needs it."""

from purerl.runs.events import Event

UNTIL = "stopped after the requested evaluation"


def apply(event: Event) -> Event | None:
    """Return the event with the reason why the run should end now, if there is one."""
    why = reason(event)
    return event._replace(stop=why) if why else None


def reason(event: Event) -> str | None:
    """Return why the run should end now, or None."""
    session = event.session
    if session.interrupt.reason:
        return session.interrupt.reason
    is_left = session.until is not None and event.at.evaluations > session.until
    return UNTIL if is_left and not event.ended else None
