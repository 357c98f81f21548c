"""Compare settings: the table and the figure of a sweep, or of one program of a sweep. No JAX here."""

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

SHOWN = len(PALETTE)  # number of colored lines. The others are gray.


@dataclass(frozen=True)
class Line:
    """The results of one setting of one program.

    Attributes:
        program: name of the program, empty if there is only one.
        setting: `{name: value}` of the hyperparameters that differ within the program.
        env: the task.
        steps: environment steps `[evaluations]`.
        returns: `[evaluations, R]`, NaN from the divergence of a seed on, and after its last evaluation.
        diverged: `[R]`, the environment step of divergence, or NaN.
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
        """The returns at the last evaluation of all seeds that have reached it and have not diverged."""
        last = self.returns[-1]
        return last[~np.isnan(last)]

    @property
    def area(self) -> float:
        """The area under the IQM curve divided by its length: the mean return over training."""
        means = iqm(self.returns)
        if len(self.steps) < 2 or np.isnan(means).any():
            return np.nan
        return float(np.trapezoid(means, self.steps) / (self.steps[-1] - self.steps[0]))


def lines(path: Path, env: str, program: str = "") -> list[Line]:
    """Return a `Line` for each setting in the run folder `path` that has at least one evaluation."""
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
    """Return `run_folder.per_seed` of the returns, NaN from the divergence of a seed on."""
    steps, returns = run_folder.per_seed(curves)
    return steps, np.where(np.isnan(run_folder.per_seed(curves, "diverged")[1]), returns, np.nan)


def ranked(lines: Iterable[Line]) -> list[Line]:
    """Return the lines, best first: by IQM of the final returns, then by area. Lines without returns are last."""

    def score(line: Line) -> tuple[float, ...]:
        return tuple(np.nan_to_num((iqm(line.final), line.area), nan=-np.inf)) if len(line.final) else (-np.inf, 0.0)

    return sorted(lines, key=score, reverse=True)


def table(lines: Iterable[Line]) -> list[list[Any]]:
    """Return the rows of table.csv: the names of the columns, then one row per setting, in the order of `lines`."""
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
    """Return a Figure with one panel per task. It shows the IQM over seeds of every setting.

    If there are many settings, only the best are colored.
    """
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
    others = f"; gray: {len(lines) - SHOWN} others" if len(lines) > SHOWN else ""
    axes.set(title=f"{env}, IQM over seeds{others}", xlabel="environment steps [thousands]")
    axes.set_ylabel("return of an episode")
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(alpha=0.25)
    axes.legend(frameon=False, fontsize="small", loc="upper left", bbox_to_anchor=(0.0, -0.2))  # below the panel
