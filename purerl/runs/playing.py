"""Episodes played to their ends by the device, a stretch at a time, so that the host can stop in between."""

import time
from contextlib import nullcontext

import jax

from purerl.environments.episodes import STRIDE


def play_out(play, play_on, pace, stretch=nullcontext, stopped=lambda: False):
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


def _strides(play):
    """How many strides the longest episode has lasted."""
    return -(-int(jax.device_get(play.length).max()) // STRIDE)
