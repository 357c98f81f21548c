"""The learning curves of run folders in one figure: one panel per environment, one line per set of seeds."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from purerl.results import curves, figures, published
from purerl.settings import registry

if TYPE_CHECKING:
    import matplotlib.figure
    import pandas


def draw_panels(
    folders: Sequence[str | Path], by: Sequence[str], x: str, style: str, with_published: bool
) -> "tuple[matplotlib.figure.Figure, list[str]]":
    """Return `(figure, lines of text that describe it)` for the runs in `folders`.

    `by` are the settings that distinguish lines. `x` is the axis, and `style` is one of `figures.STYLES`. Raises
    ValueError if the figure cannot be drawn.
    """
    frame = curves.load(*folders, by=by)
    if x == "wall_s" and (run := curves.one_after_another(frame)):
        raise ValueError(f"the seeds of {run} were trained in groups, one after another; use --x env_step")
    for (run,), part in curves.groups(frame, ["run"]):
        if part[x].isna().to_numpy().all():
            raise ValueError(f"{run} has no values of {x}; use --x env_step")
    panels = grouped(frame, by)
    others = published_lines(frame, by) if with_published else {}
    shown = {env: {name: curves.gather(part, x) for name, part in lines.items()} for env, lines in panels.items()}
    figure = figures.learning_curves(shown, x, style, others)
    counts = [
        f"{env}: {figures.counted(name, runs.diverged)}" for env, lines in shown.items() for name, runs in lines.items()
    ]
    return figure, [*counts, *pooled(panels, folders), *ended(shown), *incomparable(others), *shared_colours(shown)]


def grouped(frame: "pandas.DataFrame", by: Sequence[str]) -> "dict[str, dict[str, pandas.DataFrame]]":
    """Return `{env: {label: rows of the frame}}`."""
    panels, algos = {}, registry.display_names(list(dict.fromkeys(frame["algo"])))
    for (env, *key), part in curves.groups(frame, ["env", *by], sort=False):
        panels.setdefault(env, {})[line_label(by, key, algos)] = part
    return panels


def line_label(by: Iterable[str], key: Iterable[Any], algos: dict[str, str]) -> str:
    """Return the label of a line: `TD3`, or `TD3, tau 0.005`. `algos` is `{algorithm: display name}`."""
    return ", ".join(algos[value] if name == "algo" else value if name == "run" else f"{name} {value}"
                     for name, value in zip(by, key, strict=True))  # fmt: skip


def pooled(panels: "dict[str, dict[str, pandas.DataFrame]]", folders: Iterable[str | Path]) -> list[str]:
    """Return a note for each line whose runs differ in other settings, or else count a seed more than once."""
    notes = []
    for env, lines in panels.items():
        for name, part in lines.items():
            if differs := curves.differing(part, *folders):
                notes.append(
                    f"note: {name} on {env} pools runs that differ in {', '.join(differs)}; separate them with --by"
                )
            elif shared := len(curves.shared_seeds(part)):
                notes.append(
                    f"note: {name} on {env} counts {shared} seed{'s' * (shared > 1)} more than once, from runs with "
                    "the same settings; draw one of these runs, or separate them with --by run"
                )
    return notes


def ended(panels: dict[str, dict[str, curves.Runs]]) -> list[str]:
    """Return a note for each line at whose end some seeds are missing that have not diverged."""
    notes = []
    for env, lines in panels.items():
        for name, runs in lines.items():
            seeds, last = runs.sound.shape[1], runs.finished.shape[1]
            if last < seeds:
                notes.append(f"note: {name} on {env} ends with {last} of {seeds} seeds; the others end earlier")
    return notes


def incomparable(others: dict[str, dict[str, list[published.Curve]]]) -> list[str]:
    """Return a note for each environment whose published curves are of a version that differs in more than its name."""
    return [
        f"note: the published curves of {env} are of older versions; {published.INCOMPARABLE[env]}"
        for env, lines in others.items()
        if env in published.INCOMPARABLE and any(lines.values())
    ]


def shared_colours(panels: dict[str, dict[str, Any]]) -> list[str]:
    """Return a note if there are more lines than colors."""
    names = {name for lines in panels.values() for name in lines}
    if len(names) <= len(figures.PALETTE):
        return []
    return [f"note: {len(names)} lines share {len(figures.PALETTE)} colors; plot fewer runs"]


def published_lines(frame: "pandas.DataFrame", by: Sequence[str]) -> dict[str, dict[str, list[published.Curve]]]:
    """Return `{env: {label: [published.Curve]}}`.

    The label is that of the first line of the algorithm in the figure, also in panels without this line, so that the
    published curves have one color in all panels. Runs with another time limit than the published episodes get none.
    Raises ValueError if there are none.
    """
    found, firsts, algos = {}, {}, registry.display_names(list(dict.fromkeys(frame["algo"])))
    there = frame.loc[[published.is_limit(*row) for row in zip(frame["env"], frame["limit"], strict=True)]]
    for (env, algo), part in curves.groups(there, ["env", "algo"], sort=False):
        first = part.iloc[0]
        line = firsts.setdefault(algo, line_label(by, [first[name] for name in by], algos))
        found.setdefault(env, {}).setdefault(line, []).extend(published.find_curves(env, algo))
    if not any(found_here for lines in found.values() for found_here in lines.values()):
        ours = ", ".join(
            f"{algos[algo]} on {env}" for (env, algo), _ in curves.groups(frame, ["env", "algo"], sort=False)
        )
        raise ValueError(
            f"no results are published for {ours}; known: DDPG, TD3 and SAC on {', '.join(published.tasks())}, with "
            "their own time limits"
        )
    return found
