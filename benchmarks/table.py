"""The files that benchmarks add their figures to: a row per figure, with what it was measured on."""

import csv
from pathlib import Path

from purerl.record import record

WHERE = ("device", "num_cores", "jax", "date")


def add(name, columns, rows):
    """Add `rows` to results/NAME.csv."""
    facts = record()
    where = (facts["device"], facts["num_cores"], facts["versions"]["jax"], facts["date"])
    path = Path(__file__).parent / "results" / f"{name}.csv"
    path.parent.mkdir(exist_ok=True)
    new = not path.exists()
    with open(path, "a", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        if new:
            writer.writerow((*columns, *WHERE))
        writer.writerows((*row, *where) for row in rows)
