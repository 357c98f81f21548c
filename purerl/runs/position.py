"""How far the runs of a group have come: in rows of the replay buffer, in environment steps and in evaluations."""

from typing import Any, NamedTuple

from purerl.settings.schema import Config, Plan, cycle
from purerl.training import loop


class Position(NamedTuple):
    """How far the runs of a group have come.

    Attributes:
        row: rows written to the replay buffer, in warm-up and training; a row is one step of all environments.
        evaluations: how many evaluations are in curves.csv.
    """

    row: int = 0
    evaluations: int = 0

    @property
    def index(self) -> int:  # pyright: ignore[reportIncompatibleMethodOverride]  # hides tuple.index, which is not used
        """The number of the last evaluation; also 0 before the first."""
        return max(0, self.evaluations - 1)


def evaluated_steps(plan: Plan, index: int) -> list[int]:
    """Return the environment steps of the evaluations up to `index`."""
    return [loop.env_steps(plan, i) for i in range(index + 1)]


def due(settings: Config, index: int) -> int:
    """Return the row at which evaluation `index` is made."""
    return loop.row_of(settings.plan, cycle(settings.plan, settings.hyper.policy_delay), index)


def of_label(label: dict[str, Any], settings: Config, index: int) -> Position:
    """Return the `Position` of a checkpoint that follows evaluation `index`.

    Older labels have no position: those checkpoints were all written directly after the evaluation.
    """
    progress = label.get("progress") or {"row": due(settings, index), "evaluations": index + 1}
    return Position(progress["row"], progress["evaluations"])
