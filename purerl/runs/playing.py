"""Episodes played to their ends by the device, a stretch at a time, so that the host can stop in between."""

import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import overload

import jax

from purerl.environments.episodes import STRIDE, Play
from purerl.runs.clock import Pace

PlayOn = Callable[[Play, int], Play]
Stretch = Callable[[], AbstractContextManager[None]]


@overload
def play_out(play: Play, play_on: PlayOn, pace: Pace) -> Play: ...
@overload
def play_out(
    play: Play, play_on: PlayOn, pace: Pace, stretch: Stretch, stopped: Callable[[], object]
) -> Play | None: ...
def play_out(
    play: Play,
    play_on: PlayOn,
    pace: Pace,
    stretch: Stretch = nullcontext,
    stopped: Callable[[], object] = lambda: False,
) -> Play | None:
    """The `episodes.Play` at its end, or None where `stopped()` before.

    `play_on(play, count) -> play` plays `count` strides more; each call is made within a `stretch()`, and `pace`, a
    `clock.Pace`, says how many strides it takes.
    """
    while not stopped():
        begun, before = time.perf_counter(), _strides(play)
        with stretch():
            play = play_on(play, pace.turns)
            goes_on = bool(jax.device_get(play.alive).any())
        pace.took(_strides(play) - before, time.perf_counter() - begun)
        if not goes_on:
            return play
    return None


def _strides(play: Play) -> int:
    """How many strides the longest episode has lasted."""
    return -(-int(jax.device_get(play.length).max()) // STRIDE)
