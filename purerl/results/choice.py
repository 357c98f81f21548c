"""Choose policies of a run: by seed, by return, or all."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Bool, Float

CHOICES = ("best", "median", "worst")


@runtime_checkable
class Ranked(Protocol):
    """The policies of a run folder, with their last returns.

    Attributes:
        path: the run folder.
        final: the last row of curves.csv of each policy, `{column: [R]}`, NaN if there is none.
    """

    @property
    def path(self) -> Path: ...
    @property
    def final(self) -> Mapping[str, Float[np.ndarray, " R"]]: ...


def several(policies: Ranked, which: str | int, setting: int | None = None) -> list[int]:
    """Return the indices of the policies that `which` selects: a value as in `choose`, or `all`."""
    if which != "all":
        return [choose(policies, which, setting)]
    return np.flatnonzero(_in_setting(policies, setting)).tolist()


def choose(policies: Ranked, which: str | int, setting: int | None = None) -> int:
    """Return the index of one policy.

    `which` is the number of a seed, or `best`, `median` or `worst` by the final return. `setting` restricts the choice
    to one setting of a sweep. Raises ValueError if there is no such policy.
    """
    final, which, there = policies.final, str(which), _in_setting(policies, setting)
    if which in CHOICES:
        sound = there & np.isnan(final["diverged"]) & np.isfinite(final["return_mean"])
        if not sound.any():
            why = "have diverged" if (~np.isnan(final["diverged"][there])).all() else "have no return yet"
            raise ValueError(f"all seeds of {policies.path} {why}; give one of {spoken(final['seed'][there])}")
        there = np.flatnonzero(sound)
        ranked = there[np.argsort(final["return_mean"][there], kind="stable")]
        return int(ranked[{"best": -1, "median": len(ranked) // 2, "worst": 0}[which]])
    found = np.flatnonzero(there & (final["seed"] == int(which))) if which.isdecimal() else []
    if len(found) == 0:
        known = f"{spoken(final['seed'][there])}, {', '.join(CHOICES)}"
        raise ValueError(f"there is no seed {which!r} in {policies.path}; known: {known}")
    if len(found) > 1:
        known = spoken(final["setting"][found])
        raise ValueError(f"seed {which} was run with {len(found)} settings; choose one with --setting {known}")
    return int(found[0])


def _in_setting(policies: Ranked, setting: int | None) -> Bool[np.ndarray, " R"]:
    if not len(policies.final["seed"]):
        raise ValueError(f"the run in {policies.path} has no evaluation yet")
    there = np.ones(len(policies.final["seed"]), bool) if setting is None else policies.final["setting"] == setting
    if not there.any():
        known = spoken(policies.final["setting"])
        raise ValueError(f"there is no setting {setting} in {policies.path}; known: {known}")
    return there


def stretches(numbers: Iterable[int | float]) -> list[range]:
    """Return whole numbers as ranges of numbers that follow each other, in ascending order."""
    found: list[range] = []
    for number in sorted({int(number) for number in numbers}):
        if found and number == found[-1].stop:
            found[-1] = range(found[-1].start, number + 1)
        else:
            found.append(range(number, number + 1))
    return found


def spoken(numbers: Iterable[int | float]) -> str:
    """Return whole numbers as text, for example `0, 2 to 7`."""
    return ", ".join(f"{each[0]} to {each[-1]}" if len(each) > 1 else f"{each[0]}" for each in stretches(numbers))
