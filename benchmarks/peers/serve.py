"""What a program that is timed in a process of its own says to `benchmarks.peers`. No package but Python's own.

It is started with its job as JSON. It trains once, to compile, and says so by a line of JSON. For every line it is sent
it trains a stretch, and answers with what that took. It ends with its input.
"""

import json
import sys
import time
from importlib import metadata

from benchmarks.timing import taken


def job():
    """`algo, num_seeds, width, batch_size, buffer_size, warmup_steps, steps`, the steps of a seed in a stretch."""
    return json.loads(sys.argv[1])


def say(**facts):
    print(json.dumps(facts), file=sys.__stdout__, flush=True)


def ready(packages, begun, stretch):
    """Say that all is compiled: since `begun`, the `Taken` of a stretch not counted."""
    versions = {name: metadata.version(name) for name in packages}
    say(versions=versions, start_seconds=time.perf_counter() - begun - stretch.wall)


def asked():
    """Wait until a stretch is asked for; False when none will be."""
    return bool(sys.stdin.readline())


def serve(packages, begun, train, updates):
    """Train a stretch by `train()` as often as asked, and say what it took.

    `updates()` is how many critic updates each seed has made since it began, by its own count.
    """
    train()
    ready(packages, begun, taken(train))
    while asked():
        before = updates()
        say(**taken(train)._asdict(), updates=updates() - before)
