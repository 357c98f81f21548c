"""report.html: a run, or all runs of a sweep, as one web page that works offline.

The page shows interactive curves, final returns, diverged seeds, settings, versions, memory and speed. It links to the
other files in the folder. `python -m purerl.report FOLDER` writes it again and includes episodes rendered since then.
"""

import json
from collections.abc import Iterable, Iterator
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from purerl.results import curves, figures, published, run_folder, statistics
from purerl.settings import config, registry

if TYPE_CHECKING:
    import bokeh.plotting
    import pandas

FILE = "report.html"
TOLD = ("return_mean", "return_std")  # columns without an additional panel
NAMES = {"return_mean": "return of an episode", "episode_length": "length of an episode [steps]"}
SHOWN = 256  # maximum number of lines in a panel. The title says if lines are left out.
LINKED = ("*/report.html", "policy/*.npz", "checkpoints/*", "*.png", "table.csv", "curves.csv", "pbt.csv", "log.jsonl")
LINKED += ("run.toml",)
EPISODES = tuple(f"{folder}*.{ending}" for folder in ("", "*/") for ending in ("html", "mp4", "webp", "gif"))


def write_page(path: str | Path) -> None:
    """Write report.html into the folder `path` of a run or a sweep. Raises ValueError if it contains no run."""
    run_folder.write(Path(path), FILE, html(path))


def html(path: str | Path) -> str:
    """Return the HTML of the page. Raises ValueError if `path` contains no run."""
    from bokeh.embed import components
    from bokeh.resources import Resources
    from jinja2 import Environment

    path = Path(path)
    folders = curves.folders(path)
    frame = curves.spoken(curves.load(path), path)
    script, panels = components(_panels(frame))
    template = resources.files("purerl.results").joinpath("page.html").read_text()
    return Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True).from_string(template).render(
        title=_title(path, frame),
        library=Resources(mode="inline", components=["bokeh"]).render_js(),
        script=script,
        panels=panels,
        tasks=frame["env"].nunique(),
        table=_numbers(curves.summary(frame, by=("run", "setting"))),
        comparison=_numbers(_comparison(frame)),
        sources=published.SOURCES,
        diverged=_diverged(frame),
        runs=[_run(folder, path) for folder in folders],
        links=_links(path, LINKED),
        episodes=[link for link in _links(path, EPISODES) if Path(link).name != FILE],
    )  # fmt: skip


def _title(path: Path, frame: "pandas.DataFrame") -> str:
    algos = registry.display_names(list(dict.fromkeys(frame["algo"])))
    what = ", ".join(f"{algos[algo]} on {env}" for (algo, env), _ in curves.groups(frame, ["algo", "env"]))
    return f"{path.absolute().name}: {what}"


def _panels(frame: "pandas.DataFrame") -> "list[bokeh.plotting.figure]":
    """Return the bokeh figures: first the returns of each task, then its metrics. Figures of one task zoom together.

    A metric that is zero everywhere, for example a count of faults, has no figure.
    """
    tasks = [part for _, part in curves.groups(frame, ["env"], sort=False)]
    panels = [_panel(task, "return_mean") for task in tasks]
    for task, returns in zip(tasks, panels[:], strict=True):
        for metric in curves.metrics(task):
            if metric not in TOLD and (task[metric].notna() & (task[metric] != 0)).to_numpy().any():
                panels.append(_panel(task, metric, x_range=returns.x_range))
    return panels


def _panel(frame: "pandas.DataFrame", metric: str, **ranges: Any) -> "bokeh.plotting.figure":
    """Return the figure with the curves of one task."""
    from bokeh.models import ColumnDataSource, HoverTool, NumeralTickFormatter
    from bokeh.plotting import figure

    env, main, name = frame["env"].iloc[0], metric == "return_mean", NAMES.get(metric, metric.replace("_", " "))
    groups = _named(frame)
    colours = figures.palette({label: part["colour"].iloc[0] for label, part in groups.items()})
    lines = [line for label, part in groups.items() for line in _lines(part, metric, label, colours[label])]
    left_out = f": the first {SHOWN} of {len(lines)} seeds; thick lines: all seeds" if len(lines) > SHOWN else ""
    panel = figure(
        height=420 if main else 260, sizing_mode="stretch_width", tools="pan,box_zoom,wheel_zoom,reset,save",
        active_drag="box_zoom", title=f"{env}{left_out}", x_axis_label="environment steps", y_axis_label=name, **ranges,
    )  # fmt: skip
    panel.xaxis.formatter = NumeralTickFormatter(format="0,0")
    columns = ("x", "y", "seed", "of", "colour")
    drawn = panel.multi_line(
        "x", "y", source=ColumnDataSource({column: [line[column] for line in lines[:SHOWN]] for column in columns}),
        line_color="colour", line_alpha=0.3, hover_line_color="colour", hover_line_alpha=1,
    )  # fmt: skip
    says = [("seed", "@seed"), ("of", "@of"), ("step", "$snap_x{0,0}"), (name, "$snap_y{0,0.0[000]}")]
    panel.add_tools(HoverTool(renderers=[drawn], tooltips=says, line_policy="nearest"))
    for label, part in groups.items():
        runs = curves.gather(part, column=metric)
        says = f"IQM of {figures.counted(label, runs.diverged)}"
        panel.line(runs.x, statistics.iqm(runs.values), line_width=3, color=colours[label], legend_label=says)
        ends = [(line["x"][-1], line["y"][-1]) for line in lines if line["of"] == label and line["diverged"]]
        if ends:
            panel.scatter(*zip(*ends, strict=True), marker="x", size=9, line_width=2, color=colours[label])
    panel.legend.click_policy, panel.legend.location = "hide", "bottom_right"
    panel.legend.background_fill_alpha, panel.legend.visible = 0.6, main
    return panel


def _named(frame: "pandas.DataFrame") -> "dict[str, pandas.DataFrame]":
    """Return `{label: rows}` for each setting of each run. Labels are the algorithms if these are all different."""
    parts = dict(curves.groups(frame, ["run", "setting"], sort=False))
    algos = [part["algo"].iloc[0] for part in parts.values()]
    if len(set(algos)) == len(algos):
        return dict(zip(registry.display_names(algos).values(), parts.values(), strict=True))
    return {", ".join(filter(None, key)): part for key, part in parts.items()}


def _lines(frame: "pandas.DataFrame", metric: str, label: str, colour: str) -> Iterator[dict[str, Any]]:
    """Yield `{column: value}` for each seed, without NaN and without values after it diverged."""
    for (seed,), part in curves.groups(frame.sort_values("env_step"), ["seed"]):
        shown = part.loc[part["diverged"].isna() & part[metric].notna()]
        if len(shown):
            yield {
                "x": shown["env_step"].to_numpy(float), "y": shown[metric].to_numpy(np.float32), "seed": int(seed),
                "of": label, "colour": colour, "diverged": part["diverged"].notna().any(),
            }  # fmt: skip


def _comparison(frame: "pandas.DataFrame") -> "pandas.DataFrame | None":
    """Return the comparison with published returns for tasks that have them, or None."""
    known = frame.loc[[published.task(env) in published.tasks() for env in frame["env"]]]
    return published.beside_published(known, by=("run", "setting", "env", "algo")) if len(known) else None


def _numbers(table: "pandas.DataFrame | None") -> tuple[list[str], list[list[str]]] | None:
    """Return `(names of the columns, rows)` of a DataFrame, with formatted numbers."""
    if table is None:
        return None
    table = table.reset_index()
    return list(table), [[_number(value) for value in row] for row in table.itertuples(index=False)]


def _number(value: Any) -> str:
    if isinstance(value, str):
        return value
    if value != value:
        return "–"
    return f"{value:,.0f}" if float(value).is_integer() or abs(value) >= 1000 else f"{value:.4g}"


def _diverged(frame: "pandas.DataFrame") -> list[tuple[Any, ...]]:
    """Return `(run, setting, seed, step)` of each seed that diverged."""
    lost = curves.groups(frame.loc[frame["diverged"].notna()], ["run", "setting", "seed"])
    return [(*key, f"{part['diverged'].iloc[0]:,.0f}") for key, part in lost]


def _run(folder: Path, path: Path) -> dict[str, Any]:
    """Return the page content for one run: settings, versions and hardware, memory and speed."""
    table = config.read_toml(folder / "run.toml")
    ran_on = table.pop("record", {})
    return {
        "name": folder.relative_to(path).as_posix() if folder != path else folder.absolute().name,
        "settings": _flat(table),
        "record": _flat(ran_on),
        "cost": _cost(folder),
    }


def _flat(table: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in table.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def _cost(folder: Path) -> list[tuple[str, Any]]:
    """Return the rows about memory and speed, from curves.csv and log.jsonl, if it exists."""
    table = run_folder.read_curves(folder)
    rows = [("wall time [s]", f"{np.fmax.reduce(table['wall_s'], initial=0):,.1f}")]
    updates, seconds = (np.ptp(table[name]) if len(table[name]) else 0 for name in ("update", "wall_s"))
    if seconds > 0 and np.isfinite(updates):
        seeds = len(np.unique(table["seed"])) * len(np.unique(table["setting"]))
        rows.append(("critic updates/s, all seeds, evaluations included", f"{updates * seeds / seconds:,.0f}"))
    for event in _events(folder):
        if event["event"] == "compiled":
            rows += [("compiled in [s]", event["seconds"])]
            rows += [(f"memory {what} [MB]", f"{event[f'bytes_{what}'] / 1e6:,.0f}") for what in ("needed", "free")]
    return rows


def _events(folder: Path) -> list[dict[str, Any]]:
    try:
        return [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines() if line.endswith("}")]
    except OSError:
        return []


def _links(path: Path, patterns: Iterable[str]) -> list[str]:
    """Return the paths of the files that match `patterns`, relative to the page."""
    return list(dict.fromkeys(file.relative_to(path).as_posix() for p in patterns for file in sorted(path.glob(p))))
