"""Loggers: write evaluations in other formats, `--log csv,jsonl,tensorboard,wandb`. This module does not use JAX.

Every sink gets the same series, under the same names. Each metric of curves.csv (`run_folder.measured`) has a series
per seed: `return_mean/seed_7`, or in a sweep `return_mean/setting_2/seed_7`. When all seeds of a setting have reached a
step, there are also `return_mean/iqm`, `mean`, `min` and `max` over seeds. `diverged` is the number of diverged seeds.
The series of a seed end where it diverged. All values are read from curves.csv. The sinks of a resumed run start again
from the first evaluation, so they are complete.

metrics.csv    one row per number: env_step, update, wall_s, series, value
metrics.jsonl  one object per evaluation
tensorboard/   event files; the step is the environment step
wandb/         online, or offline with WANDB_MODE=offline; then `wandb sync` uploads them
"""

import csv
import json
import os
import secrets
import shutil
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from purerl.errors import how_to_install
from purerl.results import curves, run_folder
from purerl.results.statistics import iqm

STATISTICS = {"iqm": iqm, "mean": np.mean, "min": np.min, "max": np.max}
CLOCK = run_folder.CLOCK


class Evaluation(NamedTuple):
    """One evaluation of the seeds that were trained together."""

    number: int  # counted over all evaluations in curves.csv
    clock: dict[str, float]  # {env_step, update, wall_s}; unknown values are left out
    series: dict[str, float]  # {name: value}


Write = Callable[[Evaluation], object]


def check_sinks(names: Iterable[str]) -> None:
    """Raise ValueError if a sink of `names` cannot be used. The message says what to do."""
    for name in names:
        if name in ("tensorboard", "wandb") and find_spec(name) is None:
            raise ValueError(f"log {name!r} needs the package {name}; {how_to_install(name)}, or leave it out")
    if "wandb" in names and os.environ.get("WANDB_MODE", "online") in ("online", "run"):
        import wandb

        if not wandb.login(prompt=False):
            raise ValueError("log 'wandb' finds no account; run `wandb login`, or set WANDB_MODE=offline")


@contextmanager
def feed(path: Path, names: Iterable[str], num_seeds: int) -> Iterator[Callable[[], None]]:
    """Yield a function that passes new rows of curves.csv in the run folder `path` to the sinks `names`.

    A setting is complete when it has `num_seeds` seeds.
    """
    handed = 0
    with ExitStack() as stack:
        sinks = [stack.enter_context(SINKS[name](path)) for name in names]

        def update() -> None:
            nonlocal handed
            if sinks:
                for evaluation in evaluations(path, num_seeds)[handed:]:
                    for write in sinks:
                        write(evaluation)
                    handed += 1

        yield update


def evaluations(path: Path, num_seeds: int) -> list[Evaluation]:
    """Return the `Evaluation`s in the curves.csv of the run folder `path`, in order."""
    table, several = run_folder.read_curves(path), len(curves.settings(path)) > 1
    steps = table["env_step"]
    ends = np.append(np.flatnonzero(np.diff(steps)) + 1, len(steps)) if len(steps) else []
    found, begin = [], 0
    for number, end in enumerate(ends):
        clock = {name: float(table[name][begin]) for name in CLOCK if not np.isnan(table[name][begin])}
        found.append(Evaluation(number, clock, _series(table, slice(begin, end), num_seeds, several)))
        begin = end
    return found


def _series(
    table: dict[str, Float[np.ndarray, " rows"]], rows: slice, num_seeds: int, several: bool
) -> dict[str, float]:
    """Return `{name: value}` of the evaluation in `rows`.

    Aggregates are over all rows of the same step up to the last of `rows`.
    """
    new = {name: values[rows] for name, values in table.items()}
    series, metrics = {}, run_folder.measured(table)
    for setting in np.unique(new["setting"]):
        of = f"/setting_{setting:.0f}" if several else ""
        here = new["setting"] == setting
        sound = here & np.isnan(new["diverged"])
        for metric in metrics:
            for seed, value in zip(new["seed"][sound], new[metric][sound], strict=True):
                if not np.isnan(value):
                    series[f"{metric}{of}/seed_{seed:.0f}"] = float(value)
        known = {name: values[: rows.stop] for name, values in table.items()}
        known = {
            name: values[(known["setting"] == setting) & (known["env_step"] == new["env_step"][0])]
            for name, values in known.items()
        }
        if len(known["seed"]) == num_seeds:
            lost = ~np.isnan(known["diverged"])
            series[f"diverged{of}"] = float(lost.sum())
            for metric in metrics:
                values = known[metric][~lost & ~np.isnan(known[metric])]
                if values.size:
                    series |= {f"{metric}{of}/{name}": float(f(values)) for name, f in STATISTICS.items()}
    return series


@contextmanager
def _csv(path: Path) -> Iterator[Write]:
    with open(path / "metrics.csv", "w", newline="", buffering=1) as file:
        rows = csv.writer(file, lineterminator="\n")
        rows.writerow([*CLOCK, "series", "value"])
        yield lambda evaluation: rows.writerows(
            [*(evaluation.clock.get(name, "") for name in CLOCK), series, value]
            for series, value in evaluation.series.items()
        )


@contextmanager
def _jsonl(path: Path) -> Iterator[Write]:
    with open(path / "metrics.jsonl", "w", buffering=1) as file:
        yield lambda evaluation: file.write(json.dumps(evaluation.clock | evaluation.series) + "\n")


@contextmanager
def _tensorboard(path: Path) -> Iterator[Write]:
    from tensorboard.summary import Writer

    shutil.rmtree(path / "tensorboard", ignore_errors=True)
    writer = Writer(str(path / "tensorboard"))

    def write(evaluation: Evaluation) -> None:
        clock = {name: value for name, value in evaluation.clock.items() if name == "wall_s"}
        for name, value in (evaluation.series | clock).items():
            writer.add_scalar(name, value, int(evaluation.clock["env_step"]))
        writer.flush()

    try:
        yield write
    finally:
        writer.close()


@contextmanager
def _wandb(path: Path) -> Iterator[Write]:
    """Log to Weights & Biases. The run keeps its id, so that a resumed run continues there. Known steps are skipped."""
    import wandb

    file = path / "wandb" / "id"
    file.parent.mkdir(exist_ok=True)
    if not file.exists():
        file.write_text(secrets.token_hex(4))
    run = wandb.init(
        project="purerl", name=path.absolute().name, id=file.read_text(), resume="allow", dir=str(path),
        config=curves.settings(path)[0], settings=wandb.Settings(silent=True, console="off", x_disable_stats=True),
    )  # fmt: skip
    run.define_metric("*", step_metric="env_step")
    try:
        yield lambda evaluation: run.log(evaluation.clock | evaluation.series, step=evaluation.number)
    finally:
        run.finish()


SINKS = {"csv": _csv, "jsonl": _jsonl, "tensorboard": _tensorboard, "wandb": _wandb}
