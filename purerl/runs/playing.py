"""Play episodes to their end on the device, one stretch at a time, so that the host can stop in between."""

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
    """Play episodes to their end and return the final `episodes.Play`, or None if `stopped()` is true before.

    `play_on(play, count) -> play` plays `count` more strides. Each call is made within a `stretch()`. `pace`, a
    `clock.Pace`, sets how many strides a call plays.
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
    """Return how many strides the longest episode has lasted."""
    return -(-int(jax.device_get(play.length).max()) // STRIDE)
