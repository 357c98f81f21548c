"""Work on the device, one stretch at a time, so that the host can stop in between."""

import time

import jax

from purerl.runs.session import Session
from purerl.training.loop import Carry
from purerl.training.mapping import Numbers


def advance(session: Session, what: str, numbers: Numbers, carry: Carry, rows: range) -> tuple[int, Carry]:
    """Run a stretch of the program `what`: the first of `rows`, as many as its pace allows.

    Returns `(next row, carry)`. The carry is donated.
    """
    pace, begun = session.paces[what], time.perf_counter()
    rows = rows[: pace.turns]
    with session.interrupt.stretch(session.clock), session.clock.on("train"):
        carry = jax.block_until_ready(session.programs.advance(what, numbers, carry, rows.start, rows.stop))
    pace.took(len(rows), time.perf_counter() - begun)
    return rows.stop, carry
