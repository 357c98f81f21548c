"""The protocol between `benchmarks.peers` and a program that it times in a separate process.

This module needs only the standard library. The program gets its job as JSON. It trains once, to compile, and then
prints a line of JSON. For every line that it is sent, it trains a stretch and prints how long this took. It ends when
its input ends.
"""

import json
import sys
import time
from importlib import metadata

from benchmarks.timing import taken


def job():
    """Return what to train.

    It has `algo, environment, num_seeds, width, batch_size, buffer_size, warmup_steps, steps` (per seed and stretch).
    """
    return json.loads(sys.argv[1])


def say(**facts):
    print(json.dumps(facts), file=sys.__stdout__, flush=True)


def ready(packages, begun, stretch):
    """Print that everything is compiled, and the seconds since `begun` minus the seconds of one stretch."""
    versions = {name: metadata.version(name) for name in packages}
    say(versions=versions, start_seconds=time.perf_counter() - begun - stretch.wall)


def asked():
    """Wait until a stretch is requested. Returns False at the end of the input."""
    return bool(sys.stdin.readline())


def serve(packages, begun, train, updates):
    """Train a stretch with `train()` for each request, and print how long it took.

    `updates()` returns how many critic updates the first seed has made since the start, by the peer's own count.
    """
    train()
    ready(packages, begun, taken(train))
    while asked():
        before = updates()
        say(**taken(train)._asdict(), updates=updates() - before)
