"""Machines are noisy, so what is compared is measured in turns, and medians are compared.

`wall` is what counts. `cpu`, the processor time of all threads of this process, tells more where others use the
processors, too, and nothing where a GPU does the work. No package but Python's own.
"""

import time
from statistics import median
from typing import NamedTuple


class Taken(NamedTuple):
    """Seconds."""

    wall: float
    cpu: float


def taken(function):
    """The `Taken` of `function()`, which returns when its work is done."""
    wall, cpu = time.perf_counter(), time.process_time()
    function()
    return Taken(time.perf_counter() - wall, time.process_time() - cpu)


def interleaved(functions, rounds):
    """`taken` of every function of `functions`, `{name: function}`, once a round: `{name: [Taken of each round]}`."""
    found = {name: [] for name in functions}
    for _ in range(rounds):
        for name, function in functions.items():
            found[name].append(taken(function))
    return found


def per(number, times):
    """`times`, a list of `Taken`, each divided by `number`."""
    return [Taken(wall / number, cpu / number) for wall, cpu in times]


def medians(times):
    """The `Taken` in the middle, each clock on its own."""
    return Taken(*map(median, zip(*times, strict=True)))


def ratio(numerators, denominators):
    """The median of the ratios of what was measured in the same round, as `Taken`."""
    pairs = zip(numerators, denominators, strict=True)
    return medians([Taken(a.wall / b.wall, a.cpu / b.cpu) for a, b in pairs])
