"""Time functions in turns and compare medians, because machines are noisy.

`wall` is the result that counts. `cpu` is the processor time of all threads of this process. It is more reliable if
other work uses the same cores, and means nothing if a GPU does the work. This module needs only the standard library.
"""

import time
from statistics import median
from typing import NamedTuple


class Taken(NamedTuple):
    """Seconds of wall-clock time and of CPU time."""

    wall: float
    cpu: float


def taken(function):
    """Return the `Taken` of `function()`, which must return only when its work is done."""
    wall, cpu = time.perf_counter(), time.process_time()
    function()
    return Taken(time.perf_counter() - wall, time.process_time() - cpu)


def interleaved(functions, rounds):
    """Call every function of `{name: function}` once per round. Returns `{name: [Taken of each round]}`."""
    found = {name: [] for name in functions}
    for _ in range(rounds):
        for name, function in functions.items():
            found[name].append(taken(function))
    return found


def per(number, times):
    """Divide each of `times`, a list of `Taken`, by `number`."""
    return [Taken(wall / number, cpu / number) for wall, cpu in times]


def medians(times):
    """Return the median `Taken`, separately for each clock."""
    return Taken(*map(median, zip(*times, strict=True)))


def ratios(numerators, denominators):
    """Return the ratios of what was measured in the same round, as a list of `Taken`."""
    pairs = zip(numerators, denominators, strict=True)
    return [Taken(a.wall / b.wall, a.cpu / b.cpu) for a, b in pairs]


def ratio(numerators, denominators):
    """Return the median of the ratios of what was measured in the same round, as `Taken`."""
    return medians(ratios(numerators, denominators))
