"""Settings beside each other: the table and the picture of a sweep, or of one program of several. No JAX here."""

import csv
import io
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float

from purerl.results import run_folder
from purerl.results.figures import PALETTE, blank, counted, literal
from purerl.results.statistics import iqm

if TYPE_CHECKING:
    import matplotlib.axes
    import matplotlib.figure

SHOWN = len(PALETTE)  # lines that are told apart; the others are grey


@dataclass(frozen=True)
class Line:
    """What one setting of one program came to.

    Attributes:
        program: the name of the program; empty where there is but one.
        setting: `{name: value}` of what differs within the program.
        env: the task.
        steps: environment steps `[evaluations]`.
        returns: `[evaluations, R]`, NaN from where a seed diverged, and where it has not come to.
        diverged: `[R]`, the environment step at which; NaN where it did not.
    """

    program: str
    setting: dict[str, Any]
    env: str
    steps: Float[np.ndarray, " evaluations"]
    returns: Float[np.ndarray, "evaluations R"]
    diverged: Float[np.ndarray, " R"]

    @property
    def label(self) -> str:
        return ", ".join(filter(None, (self.program, run_folder.spoken(self.setting))))

    @property
    def final(self) -> Float[np.ndarray, " sound"]:
        """The last return of every seed that has come to it and has not diverged."""
        last = self.returns[-1]
        return last[~np.isnan(last)]

    @property
    def area(self) -> float:
        """Area under the learning curve of the IQM, over its length: the mean return over training."""
        means = iqm(self.returns)
        if len(self.steps) < 2 or np.isnan(means).any():
            return np.nan
        return float(np.trapezoid(means, self.steps) / (self.steps[-1] - self.steps[0]))


def lines(path: Path, env: str, program: str = "") -> list[Line]:
    """A `Line` per setting of the program in the run folder `path` that has come to an evaluation."""
    curves, settings = run_folder.read_curves(path), run_folder.read_settings(path)
    there = np.unique(curves["setting"]).astype(int).tolist()
    return [_line(program, settings[i], env, run_folder.of_setting(curves, i)) for i in there]


def _line(program: str, setting: dict[str, Any], env: str, curves: run_folder.Curves) -> Line:
    return Line(
        program,
        setting,
        env,
        *returns_until_divergence(curves),
        np.fmax.reduce(run_folder.per_seed(curves, "diverged")[1], axis=0),
    )


def returns_until_divergence(
    curves: run_folder.Curves,
) -> tuple[Float[np.ndarray, " evaluations"], Float[np.ndarray, "evaluations R"]]:
    """`run_folder.per_seed` of the returns, NaN from where a seed diverged."""
    steps, returns = run_folder.per_seed(curves)
    return steps, np.where(np.isnan(run_folder.per_seed(curves, "diverged")[1]), returns, np.nan)


def ranked(lines: Iterable[Line]) -> list[Line]:
    """The lines, best first: by the IQM of the final returns, then by area; those of which nothing is left last."""

    def score(line: Line) -> tuple[float, ...]:
        return tuple(np.nan_to_num((iqm(line.final), line.area), nan=-np.inf)) if len(line.final) else (-np.inf, 0.0)

    return sorted(lines, key=score, reverse=True)


def table(lines: Iterable[Line]) -> list[list[Any]]:
    """The rows of table.csv, the first being their names: a row per setting, in the order of `lines`."""
    names = list(dict.fromkeys(name for line in lines for name in line.setting))
    columns = ["program", "env", *names, "num_seeds", "diverged", "env_step", "final_min", "final_iqm", "final_max"]
    rows: list[list[Any]] = [[*columns, "area_of_iqm"]]
    for line in lines:
        final = line.final if len(line.final) else np.array([np.nan])
        numbers = (line.steps[-1], final.min(), iqm(final), final.max(), line.area)
        values = [run_folder.cell(line.setting.get(name, np.nan)) for name in names]
        seeds = (len(line.diverged), int(np.sum(~np.isnan(line.diverged))))
        rows.append([line.program, line.env, *values, *seeds, *map(run_folder.cell, numbers)])
    return rows


def write_comparison(path: Path, lines: Sequence[Line]) -> None:
    """Write table.csv and figure.png into the folder `path`."""
    text, picture = io.StringIO(), io.BytesIO()
    csv.writer(text, lineterminator="\n").writerows(table(lines))
    run_folder.write(path, "table.csv", text.getvalue())
    figure(lines).savefig(picture, format="png")
    run_folder.write(path, "figure.png", picture.getvalue())


def figure(lines: Sequence[Line]) -> "matplotlib.figure.Figure":
    """A Figure: a panel per task, in it the IQM over seeds of every setting; of many, the best are told apart."""
    envs = list(dict.fromkeys(line.env for line in lines))
    columns = min(len(envs), 2)
    rows = -(-len(envs) // columns)
    legend = min(SHOWN, max(sum(line.env == env for line in lines) for env in envs))
    figure = blank((5.4 * columns, (3.4 + 0.19 * legend) * rows))
    axes = figure.subplots(rows, columns, squeeze=False).ravel()
    for panel, env in zip(axes, envs, strict=False):
        _panel(panel, env, [line for line in lines if line.env == env])
    for panel in axes[len(envs) :]:
        panel.set_axis_off()
    return figure


def _panel(axes: "matplotlib.axes.Axes", env: str, lines: Sequence[Line]) -> None:
    best = ranked(lines)[:SHOWN]
    for line in lines:
        if line not in best:
            axes.plot(line.steps / 1e3, iqm(line.returns), color="0.8", linewidth=0.6)
    for line, color in zip(best, PALETTE, strict=False):
        label = literal(counted(line.label or "IQM", line.diverged))
        axes.plot(line.steps / 1e3, iqm(line.returns), color=color, linewidth=1.6, label=label)
    others = f"; grey: {len(lines) - SHOWN} others" if len(lines) > SHOWN else ""
    axes.set(title=f"{env}, IQM over seeds{others}", xlabel="environment steps [thousands]")
    axes.set_ylabel("return of an episode")
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(alpha=0.25)
    axes.legend(frameon=False, fontsize="small", loc="upper left", bbox_to_anchor=(0.0, -0.2))  # under the panel
