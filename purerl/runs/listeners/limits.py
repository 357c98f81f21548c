"""A run ends early where a signal or its time limit asks for it, or where it was to be left for a fork."""

from purerl.runs.events import Event

UNTIL = "left after the evaluation that was asked for"


def apply(event: Event) -> Event | None:
    """The event with the reason for which the run should end now, where there is one."""
    why = reason(event)
    return event._replace(stop=why) if why else None


def reason(event: Event) -> str | None:
    """Why the run should end now, or None."""
    session = event.session
    if session.interrupt.reason:
        return session.interrupt.reason
    is_left = session.until is not None and event.at.evaluations > session.until
    return UNTIL if is_left and not event.ended else None
