"""When a run must stop, where its time went, and how much of it is done at a time."""

import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import FrameType, TracebackType

INTERRUPTED = 130  # the exit status of a run that a signal or its time limit ended early
DIVERGED = 3  # of a run of which no seed is left
MOST = 2**24  # turns of a stretch
STRETCH = 2.0  # seconds that the device works between two moments at which a run may end


@dataclass
class Clock:
    """Seconds spent, and where; critic updates and environment steps done meanwhile, summed over seeds.

    `earlier` are the seconds that the run had taken before it was resumed.
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
        """Go on after `wall` seconds, where nothing was trained yet."""
        if not self.train:
            self.earlier = wall

    @property
    def session(self) -> float:
        return time.perf_counter() - self.begun

    @property
    def wall(self) -> float:
        return self.earlier + self.session

    def per_second(self, number: int) -> float:
        """`number` per second of training."""
        return number / self.train if self.train else 0.0


@dataclass
class Pace:
    """How many turns of a loop on the device make one stretch of work; found by measuring."""

    turns: int = 1

    def took(self, turns: int, seconds: float) -> None:
        """So many turns took so long: aim at `STRETCH`, growing fourfold at most."""
        fitting = turns * STRETCH / max(seconds, 1e-6)
        self.turns = max(1, int(min(fitting, 4 * self.turns, MOST)))


@contextmanager
def leaving() -> Iterator[None]:
    """A signal ends the process at once, and there is nothing to lose yet. Some imports would swallow an exception."""

    def leave(number: int, frame: FrameType | None) -> None:
        print("\ninterrupted", file=sys.stderr, flush=True)
        os._exit(INTERRUPTED)

    with _handled(leave):
        yield


@contextmanager
def _handled(handler: Callable[[int, FrameType | None], None]) -> Iterator[None]:
    """SIGINT and SIGTERM go to `handler`, and afterwards to whom they went before."""
    before = {number: signal.signal(number, handler) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, earlier in before.items():
            signal.signal(number, earlier)


class Interrupt:
    """Why a run should end after the present stretch of work: SIGINT, SIGTERM or the time limit.

    With `time_limit` seconds, the end is asked for as soon as another stretch as long as the longest would pass it. A
    second signal ends the process at once, whatever it is doing: Python runs the handler only where the main thread
    executes Python, so training is another thread's.
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
        if self.signalled:
            print("\ninterrupted twice; checkpoints stay as they were", file=sys.stderr, flush=True)
            os._exit(INTERRUPTED)
        self.signalled, self.reason = True, self.reason or signal.Signals(number).name

    @contextmanager
    def stretch(self, clock: Clock) -> Iterator[None]:
        """What is done between two moments at which the run may end."""
        begun = clock.session
        yield
        self.longest = max(self.longest, clock.session - begun)
        if self.time_limit is not None and clock.session + self.longest > self.time_limit and not self.reason:
            self.reason = "time limit"
