"""Events: what the host is told after each piece of work on the device, and those who listen.

After every stretch of training and after every evaluation, the listeners of a session are called in order, each with
the event that the one before it left. Progress, curves.csv, the loggers, population-based training, time limits and
checkpoints are listeners (`purerl.runs.listeners`), and so are a user's own functions.
"""

from collections.abc import Callable, Iterable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, PyTree

from purerl.runs.position import Position
from purerl.runs.session import Session
from purerl.training.loop import Carry
from purerl.training.mapping import Numbers


class Event(NamedTuple):
    """Where a group of runs stands after a stretch of work on the device.

    A listener may replace `carry`, `numbers` and `stop`.

    Attributes:
        session: what stays the same.
        group: which group of runs is trained, counted from 0.
        at: how far it has come.
        carry: its state on the device, `[R, ...]`. It is donated to the next stretch: keep copies, not the arrays.
        numbers: its hyperparameters that flow through the program, `{name: [] or [R]}`.
        metrics: `{name: [R]}` of the evaluation that just ended, in NumPy; None where the stretch ended none.
        stop: why the run should end now, or None. It ends with a checkpoint, from which it can be resumed.
    """

    session: Session
    group: int
    at: Position
    carry: Carry
    numbers: Numbers
    metrics: dict[str, Float[np.ndarray, " R"]] | None = None
    stop: str | None = None

    @property
    def ended(self) -> bool:
        """Whether the runs came to their end: their last evaluation, or one which finds that all have diverged."""
        return self.at.evaluations == self.session.plan.num_evals or self.all_diverged

    @property
    def all_diverged(self) -> bool:
        """Whether the evaluation that just ended finds that no run is left."""
        return self.metrics is not None and not np.isnan(self.metrics["diverged"]).any()

    @property
    def returns(self) -> Float[np.ndarray, " R"]:
        """The mean return of each run, `[R]`, of the evaluation that just ended; NaN of those that have diverged."""
        if self.metrics is None:
            raise TypeError("no evaluation just ended, so there are no returns")
        return np.where(np.isnan(self.metrics["diverged"]), self.metrics["return_mean"], np.nan)


Listener = Callable[[Event], Event | None]  # None: the event as it is


def fire(listeners: Iterable[Listener], event: Event) -> Event:
    """The event after all listeners, called in order."""
    for listener in listeners:
        event = tell(listener, event)
    return event


def tell(listener: Listener, event: Event) -> Event:
    """The event after one listener. A reason to stop that was there before stays.

    Raises TypeError where the listener returns anything but None or an event, or a carry of another structure.
    """
    after = listener(event)
    if after is None:
        return event
    if not isinstance(after, Event):
        raise TypeError(f"a listener should return the event, changed, or None; it returned {type(after).__name__}")
    if after.carry is not event.carry and _shapes(after.carry) != _shapes(event.carry):
        raise TypeError("a listener should leave the carry's structure, shapes and types as they are")
    return after._replace(stop=event.stop or after.stop)


def _shapes(tree: PyTree) -> PyTree:
    """The structure of a tree of arrays, their shapes and types."""
    return jax.tree.map(lambda x: (jnp.shape(x), jnp.result_type(x)), tree)
