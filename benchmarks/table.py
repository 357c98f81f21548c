"""The CSV files to which benchmarks add their figures: one row per figure, with what it was measured on."""

import csv
from pathlib import Path

from purerl.runs.provenance import record

WHERE = ("device", "num_cores", "jax", "brax", "commit", "date")


def add(name, columns, rows, device=None):
    """Add `rows` to results/NAME.csv. `device` is the measured device, if it is not that of this process.

    Raises ValueError if the file has other columns.
    """
    facts = record()
    facts |= facts["versions"] | ({"device": device} if device else {})
    path = Path(__file__).parent / "results" / f"{name}.csv"
    path.parent.mkdir(exist_ok=True)
    header = [*columns, *WHERE]
    if not path.exists():
        _append(path, [header])
    with open(path, newline="") as file:
        if (there := next(csv.reader(file))) != header:
            raise ValueError(f"{path} has the columns {', '.join(there)} and not {', '.join(header)}; move it away")
    _append(path, [(*row, *(facts[name] for name in WHERE)) for row in rows])


def _append(path, rows):
    with open(path, "a", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows(rows)
