"""`python docs/kept_runs.py` writes the tables of the pages on results and on algorithms from `results/`."""

import csv
import itertools
import re
from collections.abc import Sequence
from functools import cache, partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas
from generate import Row, table

from purerl.results import choice, curves, published, run_folder
from purerl.results.statistics import interval, mean, overlaps
from purerl.settings import config, registry, schema

DOCS = Path(__file__).parent
ROOT = DOCS.parent
RESULTS = ROOT / "results"
OLDER = "older"  # the runs in here were made again, and lie under the same name in `results/`
OTHERS = ("sample_efficiency", "other_settings", OLDER)  # their runs have other settings, and tables of their own
EXPLAINED = {  # run in `other_settings`: (its flags, the source that has these settings)
    "Hopper-v5-sac-target-entropy": ("--target-entropy -1.5", "jaxrl"),
    "Hopper-v5-td3-2018": ("--preset paper-2018", "td3_paper"),
}
EVALUATED = "gymnasium.csv"  # in the folder of a run: what `purerl evaluate --in gymnasium --out` wrote
SHOWN = (  # settings in which a kept run may differ from its preset, because the tables or "Settings" say so
    "total_steps", "num_evals", "eval_episodes", "num_envs", "updates_per_step", "buffer_size", "warmup_steps",
    "initialization",
)  # fmt: skip
ALGORITHMS = ("td3", "sac", "ddpg")
SMALL = ("InvertedDoublePendulum-v5", "InvertedPendulum-v5", "Reacher-v5", "Swimmer-v5")
WALKING = ("Hopper-v5", "Walker2d-v5", "HalfCheetah-v5", "Ant-v5")
STEPS = 101_000  # of the runs in `results/locomotion`; those in `results/million` are longer
TRAIN = "purerl train --algo {algo} --env {env} --preset paper --num-seeds {seeds} --seed {seed} --total-steps {steps}"
NUM_EVALS = 21  # of a first run. Further seeds are evaluated as the seeds that are there.
MILLION = 980_000  # steps of a run that counts as whole
ON_GPU = "purerl train --algo {algo} --env {env} --preset paper --num-seeds {seeds} --seed {seed} --num-envs 64"
ON_GPU += " --updates-per-step 64 --warmup-steps {warmup} --total-steps {total} --buffer-size 1024000"
ON_GPU += f" --num-evals {NUM_EVALS}"
LENGTHS = {"td3": {"warmup": 25_600, "total": 1_025_280}, "sac": {"warmup": 10_240, "total": 1_009_920}}


def folders() -> list[Path]:
    """Return the folders of the kept runs, without those of `OTHERS`."""
    return [folder for folder in curves.folders(RESULTS) if folder.relative_to(RESULTS).parts[0] not in OTHERS]


def kinds(*runs: Path) -> list[pandas.DataFrame]:
    """Return the curves of the runs in these folders: a frame per kind of run.

    Several folders of one kind hold different seeds. Raises ValueError if they share one, or differ in a setting, and
    for a run of a published task with other settings than those of the preset `paper`.
    """
    for folder in curves.folders(*runs):
        if changed := departures(folder):
            raise ValueError(f"{folder} differs from the preset paper: {changed}; move it to results/other_settings")
    frame = curves.load(*runs, by=["total_steps", "initialization", "num_evals", "eval_episodes"])
    parts = {key: part for key, part in frame.groupby(["env", "algo", "total_steps", "initialization"])}
    for key, part in parts.items():
        names = ", ".join(part["run"].unique())
        if differing := curves.differing(part, *runs):
            raise ValueError(f"{names} are one curve, {key}, but differ in {', '.join(differing)}")
        if curves.shared_seeds(part):
            raise ValueError(f"{names} are one curve, {key}, but share a seed")
    return [parts[key] for key in sorted(parts, key=lambda key: (key[0], place(key[1]), *key[1:]))]


def departures(folder: Path) -> str:
    """Return the settings of a run that are not those of the preset `paper`, as text. Those of `SHOWN` may differ.

    It is empty for a task without published results, because no verdict is made on it.
    """
    found = []
    for said in curves.settings(folder):
        if published.task(said["env"]) in published.tasks():
            preset = config.computation(config.resolve({"algo": said["algo"], "env": said["env"], "preset": "paper"}))
            preset |= preset.pop("hyper")
            names = [name for name in preset if name in said and name not in (*curves.KEPT, *SHOWN)]
            found += [f"{name} {said[name]} instead of {preset[name]}" for name in names if said[name] != preset[name]]
    return ", ".join(found)


def place(algo: str) -> int:
    """Return the place of an algorithm in the tables: that in `ALGORITHMS`, and the others after them."""
    return ALGORITHMS.index(algo) if algo in ALGORITHMS else len(ALGORITHMS)


@cache
def frames() -> list[pandas.DataFrame]:
    """Return the `kinds` of the kept runs, without those of `OTHERS`."""
    return kinds(*folders())


class Judged(NamedTuple):
    """A kind of run and the verdict on it."""

    env: str
    algo: str
    evaluated: tuple[int, ...]  # the steps of its evaluations
    weights: str  # its initial weights
    seeds: str  # their number, and how many of them diverged or have not reached the last evaluation
    ours: str  # mean of the last ten evaluations, with its interval
    theirs: str  # published range
    sources: str
    verdict: str


def judged(frame: pandas.DataFrame) -> Judged:
    """Return the verdict on a frame of one task and algorithm."""
    (((env, algo), row),) = published.beside_published(frame).iterrows()
    last = next(name for name in row.index if re.fullmatch(r"last_\d+", name))
    ours = span(row[last], row[f"{last}_low"], row[f"{last}_high"])
    theirs = f"{number(row['low'])} to {number(row['high'])}" if row["sources"] else ""
    evaluated, weights = tuple(frame["env_step"].unique()), frame["initialization"].iloc[0]
    lost = [f"{row[name]} {name}" for name in ("diverged", "unfinished") if row[name]]
    seeds = f"{row['seeds']} ({', '.join(lost)})" if lost else str(row["seeds"])
    return Judged(env, algo, evaluated, weights, seeds, ours, theirs, str(row["sources"] or ""), row["verdict"])


@cache
def judgements() -> list[Judged]:
    """Return the verdict on each of `frames`."""
    return [judged(frame) for frame in frames()]


@cache
def older_judgements() -> list[Judged]:
    """Return the verdict on each of the `kinds` of runs that were made again."""
    return [judged(frame) for frame in kinds(RESULTS / OLDER)]


def verdicts() -> str:
    """Return the table of verdicts on the range of all sources."""
    found = [each for each in judgements() if published.task(each.env) in published.tasks()]
    rows = [(f"`{env}`, {at[-1]:,}", registry.display_name(algo), *cells) for env, algo, at, *cells in found]
    head = (
        "task, steps", "algorithm", "initial weights", "seeds", "ours (95 % interval)", "published range", "sources",
        "verdict",
    )  # fmt: skip
    return table(head, rows)


def small(algo: str) -> str:
    """Return the table of verdicts on one algorithm on the tasks of `SMALL`, for the page of the algorithm."""
    found = [each for each in judgements() if each.env in SMALL and each.algo == algo]
    rows = [(f"`{each.env}`", each.weights, each.seeds, each.ours, each.theirs, each.verdict) for each in found]
    return table(("task", "initial weights", "seeds", "purerl", "published", "verdict"), rows)


def sources() -> str:
    """Return the table of verdicts on each published curve."""
    rows = []
    for frame in frames():
        for (env, algo, source), row in published.beside_sources(frame).iterrows():
            rows.append((
                f"`{env}`, {frame['env_step'].max():,}", registry.display_name(algo),
                span(row["mean"], row["low"], row["high"]), f"{source} ({row['version']})",
                span(row["published"], row["published_low"], row["published_high"]), row["verdict"], row["settings"],
            ))  # fmt: skip
    head = ("task, steps", "algorithm", "ours", "source", "theirs", "verdict", "their other settings")
    return table(head, rows)


def explained() -> str:
    """Return the table of runs with the settings of a source, beside the preset `paper` and that source."""
    rows, presets = [], [*judgements(), *older_judgements()]
    for name, (flags, source) in EXPLAINED.items():
        there = published.beside_sources(curves.load(RESULTS / "other_settings" / name))
        (env, algo, _), row = next(each for each in there.iterrows() if each[0][2] == published.SOURCES[source][0])
        here = [each for each in presets if (each.env, each.algo, each.weights) == (env, algo, "small")]
        preset = next((each for each in here if each.evaluated[-1] == STEPS), None)
        if preset is None:
            raise ValueError(f"other_settings/{name} has no run of the preset paper with {STEPS:,} steps beside it")
        rows.append((
            f"`{env}`", registry.display_name(algo), f"`{flags}`", preset.ours,
            span(row["mean"], row["low"], row["high"]),
            f"{published.SOURCES[source][0]}: {span(row['published'], row['published_low'], row['published_high'])}",
            row["verdict"],
        ))  # fmt: skip
    head = ("task", "algorithm", "changed settings", "preset `paper`, `small`", "changed", "source", "verdict")
    return table(head, rows)


def again() -> str:
    """Return the table of runs that were made again: before and now.

    Raises ValueError if an older run was not made again with evaluations at the same steps.
    """
    rows = []
    for before in older_judgements():
        found = [now for now in judgements() if now[:3] == before[:3]]
        if not found:
            run = f"{before.env}-{before.algo}"
            raise ValueError(f"{OLDER}/{run} has no run that was made again with evaluations at the same steps")
        for now in found:
            cells = [(f"{each.ours}; {each.seeds} seeds, `{each.weights}`", each.verdict) for each in (before, now)]
            rows.append((f"`{now.env}`", registry.display_name(now.algo), *cells[0], *cells[1], now.theirs))
    head = ("task", "algorithm", "before", "verdict before", "now", "verdict now", "published range")
    return table(head, rows)


def runs() -> str:
    """Return the table of all kept runs: what each of them took, and where."""
    rows = []
    for folder in [*folders(), *curves.folders(*(RESULTS / name for name in OTHERS))]:
        kept, found = config.read_toml(folder / "run.toml"), run_folder.read_curves(folder)
        record = kept[config.RECORD]
        rows.append((
            f"`{folder.relative_to(RESULTS)}`", choice.spoken(found["seed"]), f"{found['env_step'].max():,.0f}",
            curves.settings(folder)[0]["initialization"], f"{np.nanmax(found['wall_s']) / 60:.0f}", device(record),
            commit(record), record["date"][:10], "yes" if (folder / run_folder.POLICY).is_file() else "",
        ))  # fmt: skip
    head = ("run", "seeds", "steps per seed", "initial weights", "minutes", "device", "commit", "date", "policies")
    return table(head, rows)


def missing() -> str:
    """Return the table of the runs that are missing with the preset `paper`, with the command of each.

    A seed is there if it reached the steps, in a run of any length. A million steps are planned for `WALKING` only.
    """
    kept = pandas.concat(frames())
    plans = {algo: config.resolve({"algo": algo, "preset": "paper"}).plan for algo in ALGORITHMS}
    weights = kept["algo"].map({algo: plan.initialization for algo, plan in plans.items()})
    kept = kept[kept["initialization"] == weights]
    rows = []
    for env, algo in itertools.product(WALKING + SMALL, ALGORITHMS):
        here = kept[(kept["env"] == env) & (kept["algo"] == algo)]
        reached = here.groupby("seed")["env_step"].max()
        wanted = [(MILLION, "1M, GPU", ON_GPU)] if env in WALKING and algo in LENGTHS else []
        for steps, shown, command in (*wanted, (STEPS, f"{STEPS:,}", TRAIN + evaluations(here, plans[algo]))):
            for stretch in choice.stretches(seed for seed in range(10) if reached.get(seed, 0) < steps):
                names = {"algo": algo, "env": env, "seeds": len(stretch), "seed": stretch[0], "steps": steps}
                filled = command.format(**names, **LENGTHS.get(algo, {}))
                rows.append((f"`{env}`", registry.display_name(algo), choice.spoken(stretch), shown, f"`{filled}`"))
    return table(("task", "algorithm", "seeds", "steps", "command"), rows)


def evaluations(here: pandas.DataFrame, plan: schema.Plan) -> str:
    """Return the flags of evaluations as in the kept runs of `STEPS`, so that further seeds are of the same kind."""
    short = here[here["total_steps"] == STEPS]
    evals, episodes = short[["num_evals", "eval_episodes"]].iloc[0] if len(short) else (NUM_EVALS, plan.eval_episodes)
    return f" --num-evals {evals}" + ("" if episodes == plan.eval_episodes else f" --eval-episodes {episodes}")


def commit(record: dict[str, str]) -> str:
    """Return the short name of the commit, with `+` if files were changed."""
    return record["commit"][:7] + "+" * record["commit"].endswith("+")


def device(record: dict[str, str]) -> str:
    cores = int(record["num_cores"])
    return f"{cores} CPU core{'s' * (cores > 1)}" if record["platform"] == "cpu" else record["device"]


def in_gymnasium() -> str:
    """Return the table of returns of kept policies in purerl and in Gymnasium."""
    rows = []
    for folder in folders():
        if not (folder / EVALUATED).is_file():
            continue
        with open(folder / EVALUATED, newline="") as file:
            found = list(csv.DictReader(file))
        seeds = sorted({int(row["seed"]) for row in found})
        steps = f"{run_folder.read_curves(folder)['env_step'].max():,.0f}"
        rows += [compared([row for row in found if int(row["seed"]) == seed], steps) for seed in seeds]
    head = ("task, steps", "algorithm", "policy", "episodes", "purerl", "Gymnasium", "overlap")
    return table(head, rows)


def compared(found: Sequence[dict[str, str]], steps: str) -> Row:
    """Return the row of one policy, trained for `steps`, whose episodes in both places are `found`."""
    env, algo, seed = (found[0][name] for name in ("env", "algo", "seed"))
    returns = [
        np.array([float(row["return"]) for row in found if row["place"] == place]) for place in ("purerl", "Gymnasium")
    ]
    ours, theirs = (interval(mean, values) for values in returns)
    cells = [span(mean(values), *between) for values, between in zip(returns, (ours, theirs), strict=True)]
    overlap = "yes" if overlaps(ours, theirs) else "no"
    return (f"`{env}`, {steps}", registry.display_name(algo), f"seed {seed}", str(len(returns[0])), *cells, overlap)


def span(middle: float, low: float, high: float) -> str:
    return f"{number(middle)} ({number(low)} to {number(high)})"


def number(value: float) -> str:
    """Return a return as text: with decimals only where they count."""
    return f"{value:.{0 if abs(value) >= 100 else 1 if abs(value) >= 10 else 2}f}"


TABLES = {
    "results.md": {"verdicts": verdicts, "gymnasium": in_gymnasium},
    "results_differences.md": {"sources": sources, "explained": explained, "again": again},
    "results_runs.md": {"runs": runs, "missing": missing},
} | {f"algorithms/{algo}.md": {"small": partial(small, algo)} for algo in ALGORITHMS}


def written(page: str) -> str:
    """Return the text of a page with each table between `<!-- table: NAME -->` and `<!-- end -->` made again.

    Raises ValueError if a table has no place in the text.
    """
    text = (DOCS / page).read_text()
    for name, make in TABLES[page].items():
        before, begin, rest = text.partition(f"<!-- table: {name} -->\n")
        _, end, after = rest.partition("<!-- end -->")
        if not end:
            raise ValueError(f"{page} has no place for the table {name}")
        text = f"{before}{begin}{make()}{end}{after}"
    return text


if __name__ == "__main__":
    for page in TABLES:
        (DOCS / page).write_text(written(page))
        print(DOCS / page)
