"""The outcome of a run."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from purerl.runs.clock import Clock


@dataclass(frozen=True)
class RunOutcome:
    """The outcome of a run.

    Attributes:
        final: the last row of curves.csv of each run, `{column: [R]}`.
        interrupted: why the run ended early, or None.
        asked: why the run was asked to end early, or None. It may be set although the run was finished.
        clock: where the time went.
    """

    final: dict[str, Float[np.ndarray, " R"]]
    interrupted: str | None
    asked: str | None
    clock: Clock

    @property
    def returns(self) -> Float[np.ndarray, " sound"]:
        """The last return of each run that has not diverged."""
        return self.final["return_mean"][np.isnan(self.final["diverged"])]

    @property
    def all_diverged(self) -> bool:
        """Whether there are runs, and all of them have diverged."""
        return len(self.final["diverged"]) > 0 and not len(self.returns)
