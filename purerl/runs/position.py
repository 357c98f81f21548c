"""How far the runs of a group have come: in rows of the replay buffer, in environment steps and in evaluations."""

from typing import Any, NamedTuple

from purerl.settings.schema import Config, Plan, cycle
from purerl.training import loop


class Position(NamedTuple):
    """How far the runs of a group have come.

    Attributes:
        row: rows written, of the warm-up and of training; a row is one step of all environments.
        evaluations: how many stand in curves.csv.
    """

    row: int = 0
    evaluations: int = 0

    @property
    def index(self) -> int:  # pyright: ignore[reportIncompatibleMethodOverride]  # nobody asks for tuple's
        """The number of the last evaluation; 0 also before the first."""
        return max(0, self.evaluations - 1)


def evaluated_steps(plan: Plan, index: int) -> list[int]:
    """The environment steps of the evaluations up to `index`."""
    return [loop.env_steps(plan, i) for i in range(index + 1)]


def due(settings: Config, index: int) -> int:
    """The row at which evaluation `index` is made."""
    return loop.row_of(settings.plan, cycle(settings.plan, settings.hyper.policy_delay), index)


def of_label(label: dict[str, Any], settings: Config, index: int) -> Position:
    """The `Position` of a checkpoint that follows evaluation `index`; older ones were all made right after it."""
    progress = label.get("progress") or {"row": due(settings, index), "evaluations": index + 1}
    return Position(progress["row"], progress["evaluations"])
