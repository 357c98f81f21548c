"""Figures of learning curves, in the styles of the papers."""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from jaxtyping import Float

from purerl.results import statistics
from purerl.results.curves import AXES, Axis, Returns, Runs
from purerl.results.published import SOURCES, Curve
from purerl.results.statistics import Band, Line, iqm
from purerl.settings import registry

if TYPE_CHECKING:
    import matplotlib.axes
    import matplotlib.figure

BLUE = "#0072b2"
# Okabe and Ito: safe for color-blind readers
PALETTE = (BLUE, "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000", "#f0e442")
DASHES = dict(zip(SOURCES, ((0, (4, 2)), (0, (1, 1.2)), (0, (5, 1.5, 1, 1.5))), strict=True))  # of published curves
COLUMN = 3.4  # inches: one column of a paper
LINE = 0.12  # inches: one line of a legend
LEGEND: dict[str, Any] = {"frameon": False, "fontsize": 6}
LEGEND_COLUMNS = 3  # of a legend that all panels share, at most
CHARACTERS, HANDLE = 160, 10  # how wide such a legend may be, and a handle with its spaces is [characters]


class Style(NamedTuple):
    """How a paper draws the curves of many seeds.

    Attributes:
        draw: `(returns [evaluations, R]) -> (center, low, high)`.
        window: every curve is first smoothed by the mean over this odd number of evaluations. The window is at most a
            twentieth of the curve, because a wider one would hide the rise.
        says: description for the title.
    """

    draw: Callable[[Returns], Band]
    window: int
    says: str


def blank(size: tuple[float, float]) -> "matplotlib.figure.Figure":
    """Return an empty figure of `size` [inches], `(width, height)`."""
    from matplotlib.figure import Figure  # Imported here, because training does not need it.

    return Figure(figsize=size, dpi=160, layout="constrained")


def _within_std(factor: float, values: Returns) -> Band:
    centre, spread = _nan(np.nanmean, values), _nan(np.nanstd, values)
    return centre, centre - factor * spread, centre + factor * spread


def _within_extremes(values: Returns) -> Band:
    return _nan(np.nanmean, values), _nan(np.nanmin, values), _nan(np.nanmax, values)


def _nan(function: Callable[[Float[np.ndarray, " R"]], float], values: Returns) -> Line:
    """Return `function` over the seeds of each evaluation. NaN if an evaluation has no values."""
    rows = [row for row in values]
    return np.array([np.nan if np.isnan(row).all() else function(row) for row in rows])


STYLES = {
    # Fujimoto et al. 2018 (figure 5) smooth "uniformly", but do not state over how many evaluations. Here: 11.
    "td3": Style(partial(_within_std, 0.5), 11, "mean ± half a std"),
    "sac": Style(_within_extremes, 1, "mean, min to max"),  # Haarnoja et al. 2018, figure 1
    "spinningup": Style(partial(_within_std, 1.0), 11, "mean ± one std"),  # Spinning Up, "Benchmarks"
    # Agarwal et al. 2021, figure 3.
    "rliable": Style(partial(statistics.band, statistics.interquartile_mean), 1, "IQM, 95% bootstrap interval"),
}


def learning_curves(
    panels: dict[str, dict[str, Runs]],
    x: str = "env_step",
    style: str = "rliable",
    published: dict[str, dict[str, list[Curve]]] | None = None,
) -> "matplotlib.figure.Figure":
    """Return a Figure of learning curves: one panel per task, one line and band per set of seeds.

    `panels` is `{title: {label: curves.Runs}}`. `published` is `{title: {label: [published.Curve]}}`, whose labels are
    those of lines in any panel. Published curves are dashed, in the color of their label. A diverged seed is drawn
    separately, and a cross marks where it diverged. The figure is as wide as one column of a paper, or two if there are
    several panels. If equal lines have equal labels in all panels, the figure has one legend, and up to four panels per
    row.
    """
    published = published or {}
    legends = [_labels(lines, published.get(title, {})) for title, lines in panels.items()]
    together = {key: label for labels in legends for key, label in labels.items()}
    shared = len(panels) > 1 and all(together[key] == label for labels in legends for key, label in labels.items())
    most = 4 if shared else 2 if published else 3  # The labels of published curves are long.
    rows = -(-len(panels) // most)
    columns = -(-len(panels) // rows)
    names = list(dict.fromkeys(together.values()))
    entries = -(-len(names) // _legend_columns(names)) if shared else max(map(len, legends))
    figure = blank(_size(rows, columns, entries, shared))
    axes = figure.subplots(rows, columns, squeeze=False).ravel()
    drawn, empty = axes[: len(panels)], axes[len(panels) :]
    colours = palette({label: runs.colour for lines in panels.values() for label, runs in lines.items()})
    for panel, (title, lines) in zip(drawn, panels.items(), strict=True):
        _panel(panel, title, lines, x, STYLES[style], colours, published.get(title, {}))
    for panel in empty:
        panel.set_axis_off()
    for panel in drawn[::columns]:
        panel.set_ylabel("return of an episode", fontsize=8)
    for panel in drawn if columns > 2 else ():
        panel.xaxis.label.set_size(6)  # the width of a narrow panel
    if shared:
        _share_legend(figure, drawn, names)
    else:
        for panel in drawn:
            panel.legend(**LEGEND, loc="upper center", bbox_to_anchor=(0.5, -0.26), borderaxespad=0)
    return figure


def _share_legend(
    figure: "matplotlib.figure.Figure", panels: "Iterable[matplotlib.axes.Axes]", labels: Sequence[str]
) -> None:
    """Write one legend with `labels`, in this order, below all panels."""
    lines = {line.get_label(): line for panel in panels for line in panel.get_legend_handles_labels()[0]}
    handles = [lines[label] for label in labels]
    figure.legend(handles=handles, **LEGEND, loc="outside lower center", ncols=_legend_columns(labels))


def _legend_columns(labels: Sequence[str]) -> int:
    """Return the number of columns in which a legend that all panels share is not wider than the figure."""
    for columns in range(LEGEND_COLUMNS, 1, -1):
        parts = np.array_split(np.array([len(label) + HANDLE for label in labels]), columns)
        if sum(part.max(initial=0) for part in parts) <= CHARACTERS:
            return columns
    return 1


def _size(rows: int, columns: int, entries: int, shared: bool) -> tuple[float, float]:
    """Return `(width, height)` [inches] of a figure whose legends, or whose one legend, has this number of rows."""
    width = COLUMN if columns == 1 else 2 * COLUMN + 0.2
    if shared:
        return width, 2.1 * rows + LINE * entries + 0.1
    return width, (2.2 + LINE * entries) * rows


def _labels(lines: dict[str, Runs], published: dict[str, list[Curve]]) -> dict[tuple[str, ...], str]:
    """Return `{what the line is: label}` of the legend of a panel. Lines of the same kind may have other labels."""
    longest, labels = _longest(lines), {}
    for name in dict.fromkeys((*lines, *published)):
        if name in lines:
            labels[(name,)] = _label(name, lines[name])
        for curve in _visible(published.get(name, ()), longest):
            labels[name, curve.algo, curve.source] = _label_of_published(curve)
    return labels


def _label(name: str, runs: Runs) -> str:
    return literal(counted(name, runs.diverged))


def _label_of_published(curve: Curve) -> str:
    return f"{registry.display_name(curve.algo)} by {curve.label}, mean of {curve.num_seeds} seeds"


def _longest(lines: dict[str, Runs]) -> float:
    return float(max(runs.x[-1] for runs in lines.values()))


def _visible(published: Iterable[Curve], longest: float) -> list[Curve]:
    """Return the published curves that begin before the end of the panel."""
    return [curve for curve in published if curve.env_step[0] < longest]


def palette(wanted: dict[str, str | None]) -> dict[str, str]:
    """Return `{label: color}` for `{label: color of its algorithm, or None}`.

    An algorithm has the same color in every figure. If the color is None and the label is the name of an algorithm, the
    label gets the color of that algorithm. If several labels have the same algorithm, or there is no color, they get
    the next unused colors.
    """
    known = {registry.display_name(name): spec.colour for name, spec in registry.ALGORITHMS.items()}
    wanted = {label: colour or known.get(label) for label, colour in wanted.items()}
    counts = Counter(wanted.values())
    own = {label: colour for label, colour in wanted.items() if colour and counts[colour] == 1}
    free = [colour for colour in PALETTE if colour not in own.values()] or PALETTE
    others = [label for label in wanted if label not in own]
    return own | {label: free[i % len(free)] for i, label in enumerate(others)}


def _panel(
    axes: "matplotlib.axes.Axes",
    title: str,
    lines: dict[str, Runs],
    x: str,
    style: Style,
    colours: dict[str, str],
    published: dict[str, list[Curve]],
) -> None:
    longest = _longest(lines)
    scale, unit = _unit(x, longest)
    windows = {name: max(1, min(style.window, (len(runs.x) // 20 - 1) // 2 * 2 + 1)) for name, runs in lines.items()}
    for name in dict.fromkeys((*lines, *published)):
        if name in lines:
            _line(axes, name, lines[name], scale, style.draw(smooth(lines[name].values, windows[name])), colours[name])
        for curve in _visible(published.get(name, ()), longest):
            steps = np.unique(np.minimum(curve.env_step, longest))
            mean, kind = np.interp(steps, curve.env_step, curve.mean), DASHES[curve.source]
            label = _label_of_published(curve)
            axes.plot(steps / scale, mean, color=colours[name], linestyle=kind, linewidth=0.9, label=label)
    widest = max(windows.values())
    most = "at most " if len(set(windows.values())) > 1 else ""
    smoothed = f", smoothed over {most}{widest}" if widest > 1 else ""
    axes.set_title(f"{title}\n{style.says}{smoothed}", fontsize=7)
    axes.set_xlabel(f"{AXES[x]}{unit}", fontsize=8)
    axes.tick_params(labelsize=7)
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(alpha=0.25, linewidth=0.5)


def _line(axes: "matplotlib.axes.Axes", name: str, runs: Runs, scale: float, band: Band, colour: str) -> None:
    """Draw the line and the band of a set of seeds, and each diverged seed."""
    centre, low, high = band
    axes.plot(runs.x / scale, centre, color=colour, linewidth=1.2, label=_label(name, runs))
    axes.fill_between(runs.x / scale, low, high, color=colour, alpha=0.2, linewidth=0)
    _diverged(axes, runs, scale, colour)


def counted(label: str, diverged: Float[np.ndarray, " R"]) -> str:
    """Return a label with the number of seeds and of diverged seeds, those with `diverged` `[R]` not NaN."""
    seeds, lost = len(diverged), int(np.sum(~np.isnan(diverged)))
    return f"{label}, {seeds} seed{'s' * (seeds > 1)}" + (f", {lost} diverged" if lost else "")


def literal(label: str) -> str:
    """Return a label that matplotlib shows literally.

    In matplotlib, `$` starts a formula, and a label that starts with `_` is not in the legend.
    """
    label = label.replace("$", r"\$")
    return f" {label}" if label.startswith("_") else label


def _diverged(axes: "matplotlib.axes.Axes", runs: Runs, scale: float, colour: str) -> None:
    for i in np.flatnonzero(~np.isnan(runs.diverged)):
        there = np.flatnonzero(~np.isnan(runs.values[:, i]))
        if there.size:
            x, y = runs.x[there] / scale, runs.values[there, i]
            axes.plot(x, y, color=colour, linewidth=0.5, alpha=0.6)
            axes.plot(x[-1:], y[-1:], color=colour, marker="x", markersize=4, linestyle="none")


def _unit(x: str, longest: float) -> tuple[float, str]:
    """Return `(divisor, unit as text)` for the x axis."""
    if x == "wall_s":
        return (3600.0, " [h]") if longest >= 7200 else (1.0, " [s]")
    return (1e6, " [millions]") if longest >= 1e6 else (1e3, " [thousands]") if longest >= 1e4 else (1.0, "")


def smooth(values: Returns, window: int) -> Returns:
    """Return the mean of `values` over `window` evaluations around each.

    At both ends and next to NaN, the mean is over fewer evaluations.
    """
    if window == 1:
        return values
    there = ~np.isnan(values)
    ones = np.ones(window)
    means = [
        np.convolve(np.where(known, column, 0.0), ones, "same") / np.maximum(np.convolve(known, ones, "same"), 1)
        for column, known in zip(values.T, there.T, strict=True)
    ]
    return np.where(there, np.transpose(means), np.nan)


def profiles(
    scores: dict[str, Sequence[Float[np.ndarray, " _"]]],
    thresholds: Float[np.ndarray, " thresholds"],
    xlabel: str = "normalized return τ",
    **how: Any,
) -> "matplotlib.figure.Figure":
    """Return a Figure of performance profiles with 95% bands: the fraction of runs with a score above τ.

    `scores` is `{label: [[R_t] of each task]}`.
    """
    figure = blank((COLUMN, 2.5))
    axes, colours = figure.subplots(), palette(dict.fromkeys(scores))
    for label, tasks in scores.items():
        fraction, low, high = statistics.profile_band(*tasks, thresholds=thresholds, **how)
        axes.plot(thresholds, fraction, color=colours[label], linewidth=1.2, label=literal(label))
        axes.fill_between(thresholds, low, high, color=colours[label], alpha=0.2, linewidth=0)
    axes.set_xlabel(xlabel, fontsize=8)
    axes.set_ylabel("fraction of runs above τ", fontsize=8)
    axes.tick_params(labelsize=7)
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(alpha=0.25, linewidth=0.5)
    axes.legend(frameon=False, fontsize=7)
    return figure


def seeds_of_a_run(env_step: Axis, returns: Returns, title: str) -> "matplotlib.figure.Figure":
    """Return a Figure with the returns of every seed as thin lines and their interquartile mean as a thick line.

    `env_step` is `[evaluations]`. `returns` is `[evaluations, R]`, NaN after a seed diverged or if it has no evaluation
    yet.
    """
    figure = blank((5.2, 3.4))
    axes = figure.add_subplot()
    thousands = np.asarray(env_step) / 1e3
    axes.plot(thousands, returns, color=BLUE, alpha=0.25, linewidth=0.6)
    missing = int(np.isnan(returns[-1]).sum())
    label = f"IQM of {returns.shape[1] - missing} seeds" + (f", {missing} left out" if missing else "")
    axes.plot(thousands, iqm(returns), color=BLUE, linewidth=2, label=label)
    axes.set(title=title, xlabel="environment steps [thousands]", ylabel="return of an episode")
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(alpha=0.25)
    axes.legend(frameon=False)
    return figure
