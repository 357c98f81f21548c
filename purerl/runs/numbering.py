"""The numbers of checkpoints: each belongs to a group of runs, and follows an evaluation."""

from pathlib import Path
from typing import NamedTuple

from purerl.settings.config import RECORD, read_toml
from purerl.settings.schema import Plan

STRIDE = 1_000_000  # numbers for each group; more if a run has more evaluations
FIELD = "checkpoint_stride"  # where run.toml records it


class Numbering(NamedTuple):
    """The numbers of the checkpoints of a run: checkpoint `group * stride + index` follows evaluation `index`."""

    stride: int

    def number(self, group: int, index: int) -> int:
        return group * self.stride + index

    def of_group(self, group: int) -> range:
        """Return the numbers that checkpoints of a group may have."""
        return range(group * self.stride, (group + 1) * self.stride)

    def place(self, number: int) -> tuple[int, int]:
        """Return `(group, index)` of a checkpoint."""
        return number // self.stride, number % self.stride


def stride(plan: Plan) -> int:
    """Return the stride of a new run."""
    return max(STRIDE, plan.num_evals)


def of_run(path: Path, plan: Plan) -> Numbering:
    """Return the numbering of the run in the folder `path`. In older folders, the stride is the number of evaluations.

    Raises ValueError if run.toml cannot be read.
    """
    recorded = read_toml(path / "run.toml").get(RECORD, {}) if (path / "run.toml").is_file() else {}
    return Numbering(recorded.get(FIELD, plan.num_evals))
