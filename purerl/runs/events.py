"""Events: what listeners get after each piece of work on the device.

After every stretch of training and after every evaluation, the listeners of a session are called in order. Each gets
the event that the listener before it left. Progress, curves.csv, the loggers, population-based training, time limits
and checkpoints are listeners (`purerl.runs.listeners`). Users can add their own functions.
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
    """The state of a group of runs after a stretch of work on the device.

    A listener may replace `carry`, `numbers` and `stop`.

    Attributes:
        session: what stays the same during training.
        group: the group of runs that is trained, counted from 0.
        at: how far the group has come.
        carry: its state on the device, `[R, ...]`. It is donated to the next stretch: keep copies, not the arrays.
        numbers: its hyperparameters that are traced arrays, `{name: [] or [R]}`.
        metrics: `{name: [R]}` of the evaluation that just ended, in NumPy; None if no evaluation just ended.
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
        """Whether the runs are finished: after the last evaluation, or after one at which all have diverged."""
        return self.at.evaluations == self.session.plan.num_evals or self.all_diverged

    @property
    def all_diverged(self) -> bool:
        """Whether all runs have diverged at the evaluation that just ended."""
        return self.metrics is not None and not np.isnan(self.metrics["diverged"]).any()

    @property
    def returns(self) -> Float[np.ndarray, " R"]:
        """The mean return of each run at the evaluation that just ended, `[R]`; NaN for runs that have diverged."""
        if self.metrics is None:
            raise TypeError("there are no returns, because no evaluation just ended")
        return np.where(np.isnan(self.metrics["diverged"]), self.metrics["return_mean"], np.nan)


Listener = Callable[[Event], Event | None]  # None: the event is unchanged


def fire(listeners: Iterable[Listener], event: Event) -> Event:
    """Call all listeners in order and return the event after the last."""
    for listener in listeners:
        event = tell(listener, event)
    return event


def tell(listener: Listener, event: Event) -> Event:
    """Call one listener and return the event after it. A reason to stop that was there before is kept.

    Raises TypeError if the listener returns anything but None or an event, or a carry of another structure.
    """
    after = listener(event)
    if after is None:
        return event
    if not isinstance(after, Event):
        raise TypeError(f"a listener should return an event or None; it returned {type(after).__name__}")
    if after.carry is not event.carry and _shapes(after.carry) != _shapes(event.carry):
        raise TypeError("a listener should not change the carry's structure, shapes or dtypes")
    return after._replace(stop=event.stop or after.stop)


def _shapes(tree: PyTree) -> PyTree:
    """Return the structure of a tree of arrays, with their shapes and dtypes."""
    return jax.tree.map(lambda x: (jnp.shape(x), jnp.result_type(x)), tree)
