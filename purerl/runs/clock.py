"""Time and interruption: when a run must stop, where its time went, and how much work is done at a time."""

import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import FrameType, TracebackType

INTERRUPTED = 130  # exit status of a run that a signal or its time limit ended early
DIVERGED = 3  # exit status of a run in which every seed has diverged
MOST = 2**24  # the most turns of a stretch
STRETCH = 2.0  # seconds that the device works between two moments at which a run may end


@dataclass
class Clock:
    """Seconds spent on each kind of work, and the critic updates and environment steps done, summed over seeds.

    `earlier` is the number of seconds that the run had taken before it was resumed.
    """

    compile: float = 0.0
    train: float = 0.0
    evaluate: float = 0.0
    updates: int = 0
    env_steps: int = 0
    earlier: float = 0.0
    begun: float = field(default_factory=time.perf_counter)

    @contextmanager
    def on(self, name: str) -> Iterator[None]:
        begun = time.perf_counter()
        yield
        setattr(self, name, getattr(self, name) + time.perf_counter() - begun)

    def resume(self, wall: float) -> None:
        """Set the seconds that the run took earlier, unless this process has trained already."""
        if not self.train:
            self.earlier = wall

    @property
    def session(self) -> float:
        return time.perf_counter() - self.begun

    @property
    def wall(self) -> float:
        return self.earlier + self.session

    def per_second(self, number: int) -> float:
        """Return `number` per second of training, or 0 if nothing was trained."""
        return number / self.train if self.train else 0.0


@dataclass
class Pace:
    """How many turns of a loop on the device make one stretch of work. The number is found by measuring."""

    turns: int = 1

    def took(self, turns: int, seconds: float) -> None:
        """Record that `turns` took `seconds`: aim at `STRETCH` seconds, and grow at most fourfold."""
        fitting = turns * STRETCH / max(seconds, 1e-6)
        self.turns = max(1, int(min(fitting, 4 * self.turns, MOST)))


@contextmanager
def leaving() -> Iterator[None]:
    """End the process at once on a signal. Used while there is nothing to lose yet.

    An exception would not do, because some imports swallow exceptions.
    """

    def leave(number: int, frame: FrameType | None) -> None:
        print("\ninterrupted", file=sys.stderr, flush=True)
        os._exit(INTERRUPTED)

    with _handled(leave):
        yield


@contextmanager
def _handled(handler: Callable[[int, FrameType | None], None]) -> Iterator[None]:
    """Send SIGINT and SIGTERM to `handler`, and restore the earlier handlers afterwards.

    Python allows this only in the main thread. In another thread, the signals go where they went before.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, handler) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, earlier in before.items():
            signal.signal(number, earlier)


class Interrupt:
    """Why a run should end after the present stretch of work: SIGINT, SIGTERM or the time limit.

    `time_limit` is in seconds. The run should end as soon as another stretch of the longest duration so far would
    exceed it. A second signal ends the process at once. In a notebook or an interactive interpreter it does nothing,
    because the process holds more than the run. Python calls the signal handler only while the main thread
    executes Python code, so training runs in another thread.
    """

    def __init__(self, time_limit: float | None = None) -> None:
        self.time_limit = time_limit
        self.reason: str | None = None
        self.signalled = False
        self.longest = 0.0

    def __enter__(self) -> "Interrupt":
        self.signals = _handled(self.ask)
        self.signals.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool | None:
        return self.signals.__exit__(kind, error, trace)

    def ask(self, number: int, frame: FrameType | None) -> None:
        if hasattr(sys, "ps1"):  # IPython sets it, too.
            print("\nthe run ends with a checkpoint as soon as its present work is done", file=sys.stderr, flush=True)
        elif self.signalled:
            print("\ninterrupted twice; the checkpoints are unchanged", file=sys.stderr, flush=True)
            os._exit(INTERRUPTED)
        self.signalled, self.reason = True, self.reason or signal.Signals(number).name

    @contextmanager
    def stretch(self, clock: Clock) -> Iterator[None]:
        """Time the work between two moments at which the run may end, and check the time limit."""
        begun = clock.session
        yield
        self.longest = max(self.longest, clock.session - begun)
        if self.time_limit is not None and clock.session + self.longest > self.time_limit and not self.reason:
            self.reason = "time limit"
