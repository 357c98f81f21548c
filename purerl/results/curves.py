"""Learning curves of runs as a tidy DataFrame, and summaries of them. No JAX here.

R is the number of seeds. Returns of a seed after it diverged are NaN. `Runs.diverged` holds the step of divergence.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from jaxtyping import Float, Int, Num
from numpy.typing import ArrayLike

from purerl.errors import closest
from purerl.results import run_folder, statistics
from purerl.settings import config, registry, schema
from purerl.settings.kinds import fields

if TYPE_CHECKING:
    import pandas

AXES = {"env_step": "environment steps", "update": "critic updates", "wall_s": "wall-clock time"}
KEPT = ("seed", "num_seeds", "seeds_per_batch", *fields(schema.Keep))  # settings that do not affect learning
TOLD = ("run", "setting", "seed")  # columns of every frame that identify a row
GIVEN = ("run", "algo", "env", "limit", "colour")  # columns of every frame that are not in curves.csv
LAST = 10  # number of evaluations in the mean of the last returns


Axis = Num[np.ndarray, " evaluations"]
Returns = Float[np.ndarray, "evaluations R"]


class Runs(NamedTuple):
    """The curves of a set of seeds on one axis."""

    x: Axis
    values: Returns  # NaN after a seed diverged, and after the last evaluation of its run
    seeds: Int[np.ndarray, " R"]
    diverged: Float[np.ndarray, " R"]  # the environment step of divergence, or NaN
    colour: str | None = None  # color of the algorithm in figures

    @property
    def sound(self) -> Float[np.ndarray, "evaluations sound"]:
        """The curves of the seeds that have not diverged."""
        return self.values[:, np.isnan(self.diverged)]

    @property
    def finished(self) -> Float[np.ndarray, "evaluations finished"]:
        """The curves of the seeds that have not diverged and have reached the last evaluation."""
        return self.sound[:, ~np.isnan(self.sound[-1])]


def folders(*paths: str | Path) -> list[Path]:
    """Return the run folders at and below `paths`, each of them once. Raises ValueError if a path contains none."""
    if not paths or "" in paths:
        raise ValueError("no folder of a run is named; give a folder with a run.toml and a curves.csv")
    found = {}
    for path in map(Path, paths):
        runs = sorted(file.parent for file in path.rglob("run.toml") if (file.parent / "curves.csv").is_file())
        if not runs:
            raise ValueError(f"there is no run in {str(path)!r}; give a folder with a run.toml and a curves.csv")
        for run in runs:
            found.setdefault(run.resolve(), run)
    return list(found.values())


def settings(folder: str | Path) -> list[dict[str, Any]]:
    """Return `[{name: value}]`, all settings and hyperparameters, for each setting of the sweep in a run folder.

    A run without a sweep has one setting. A setting that an older version of purerl did not write has its default. This
    is not so for the hyperparameters of an own algorithm, because they are in a module of its user.
    """
    table = config.read_toml(Path(folder) / "run.toml")
    common = {name: value for name, value in (table | table.get("hyper", {})).items() if not isinstance(value, dict)}
    if spec := registry.ALGORITHMS.get(common.get("algo", schema.Job.algo)):
        common = config.defaults(spec.hyperparameters) | common
    common = config.defaults(schema.Job) | config.defaults(schema.Plan) | common
    return [common | swept for swept in run_folder.read_settings(folder)]


def load(*paths: str | Path, by: Iterable[str] = ()) -> "pandas.DataFrame":
    """Load all runs at and below `paths` into a pandas DataFrame: one row per run, setting, seed and evaluation.

    Its columns are:

    - `run`: the name of the run
    - the settings named in `by`
    - `algo`, `env`
    - `limit`: the time limit of the evaluated episodes [steps], NaN for the environment's default
    - `colour`: the color of the algorithm in figures, or None
    - the columns of curves.csv. If `by` contains a setting of the same name, the column is renamed, for example to
      `measured_alpha`.

    A column that only some runs have is NaN in the others. Raises ValueError for a path without runs, if no run has an
    evaluation yet, and for a setting that a run does not have.
    """
    import pandas

    frames, runs, by = [], folders(*paths), [column for column in by if column not in TOLD]
    for folder, name in zip(runs, _names(runs), strict=True):
        said, frame = settings(folder), pandas.DataFrame(run_folder.read_curves(folder))
        known = [column for column in ("update",) if not frame[column].hasnans]
        frame = frame.astype(dict.fromkeys((*run_folder.KEYS, *known), int))
        frame = frame.rename(columns={column: f"measured_{column}" for column in (*GIVEN, *by)})
        if not frame["setting"].isin(range(len(said))).to_numpy().all():
            raise ValueError(f"{folder / 'curves.csv'} has a setting beyond the {len(said)} of its run.toml")
        limits = [said[0][name] for name in ("episode_length", "eval_length") if isinstance(said[0].get(name), int)]
        frame.insert(0, "colour", _colour(folder, said[0]["algo"]))
        frame.insert(0, "limit", float(min(limits, default=np.nan)))
        for column in dict.fromkeys(("env", "algo", *by)):
            if column not in said[0]:
                raise ValueError(f"{name} has no setting {column!r}{closest(column, tuple(said[0]))}")
            values = [str(one[column]) if isinstance(one[column], list) else one[column] for one in said]
            frame.insert(0, column, [values[setting] for setting in frame["setting"]])
        frame.insert(0, "run", name)
        frames.append(frame)
    if all(frame.empty for frame in frames):
        raise ValueError(f"no evaluation has been made yet in {', '.join(map(str, runs))}; wait for the first")
    return pandas.concat(frames, ignore_index=True)


def _colour(folder: str | Path, algo: str) -> str | None:
    """Return the color of the algorithm of a run, from its run.toml or, for an older run, from the registry."""
    own = registry.ALGORITHMS.get(algo)
    return config.read_toml(Path(folder) / "run.toml").get(config.RECORD, {}).get("colour", own and own.colour)


def groups(
    frame: "pandas.DataFrame", by: Sequence[str], sort: bool = True
) -> "list[tuple[tuple[Any, ...], pandas.DataFrame]]":
    """Return `[(values of the columns by, rows)]` of a frame. Rows with the value NaN are groups, too."""
    grouped: Any = frame.groupby(list(by), sort=sort, dropna=False)
    return list(grouped)


def metrics(frame: "pandas.DataFrame") -> list[str]:
    """Return the names of the columns of a frame that measure its seeds, in their order."""
    return [column for column in run_folder.measured(frame) if column not in GIVEN]


def spoken(frame: "pandas.DataFrame", *paths: str | Path) -> "pandas.DataFrame":
    """Return a frame, loaded from `paths`, with text such as `actor_lr 0.001` instead of the numbers of settings.

    If two settings of a run have the same text, their numbers are added to it.
    """
    names, runs = {}, folders(*paths)
    for run, path in zip(_names(runs), runs, strict=True):
        words = [run_folder.spoken(setting) for setting in run_folder.read_settings(path)]
        for number, name in enumerate(words):
            names[run, number] = name if words.count(name) == 1 else f"{name} (setting {number})"
    return frame.assign(setting=[names[key] for key in zip(frame["run"], frame["setting"], strict=True)])


def differing(frame: "pandas.DataFrame", *paths: str | Path) -> list[str]:
    """Return the names of the settings that differ between the runs of a frame that was loaded from `paths`.

    Settings that do not affect learning, for example the number of seeds, are ignored.
    """
    runs = folders(*paths)
    ours = zip(frame["run"], frame["setting"], strict=True)
    said = {name: settings(folder) for folder, name in zip(runs, _names(runs), strict=True)}
    tables = [said[run][setting] for run, setting in dict.fromkeys(ours)]
    names = dict.fromkeys(name for table in tables for name in table if name not in KEPT)
    return [name for name in names if any(table.get(name) != tables[0].get(name) for table in tables)]


def shared_seeds(frame: "pandas.DataFrame") -> list[int]:
    """Return the seeds that are in several runs of a frame, in ascending order."""
    runs_of = Counter(seed for _, seed in set(zip(frame["run"], frame["seed"], strict=True)))
    return sorted(seed for seed, runs in runs_of.items() if runs > 1)


def _names(paths: Sequence[Path]) -> list[str]:
    """Return the shortest last parts of each path that distinguish it from the others."""
    names, paths = [], [path.absolute() for path in paths]  # The path "." has no parts.
    for parts in range(1, max(len(path.parts) for path in paths) + 1):
        names = ["/".join(path.parts[-parts:]) for path in paths]
        if len(set(names)) == len(names):
            break
    return names


def one_after_another(frame: "pandas.DataFrame") -> str | None:
    """Return the name of a run whose seeds were trained in several groups one after another, or None.

    The wall-clock time of such a run is not comparable between seeds.
    """
    for (run,), part in groups(frame, ["run"]):
        if (part.groupby("env_step")["wall_s"].nunique() > 1).to_numpy().any():
            return run
    return None


def gather(frame: "pandas.DataFrame", x: str = "env_step", column: str = "return_mean") -> Runs:
    """Return the `Runs` of a frame, on a common axis with the evaluations of all seeds.

    At evaluations of other seeds, the curve of a seed is interpolated linearly.
    """
    seeds = [seed.sort_values(x) for _, seed in groups(frame, ["run", "setting", "seed"])]
    values = [seed[column].where(seed["diverged"].isna()).to_numpy(float) for seed in seeds]
    grid = np.unique(frame[x])
    return Runs(
        grid,
        np.stack([_on(grid, seed[x].to_numpy(float), y) for seed, y in zip(seeds, values, strict=True)], axis=1),
        np.array([seed["seed"].iloc[0] for seed in seeds]),
        np.array([seed["diverged"].iloc[-1] for seed in seeds]),
        _only(frame["colour"]) if "colour" in frame else None,
    )


def _only(values: Iterable[Any]) -> Any:
    """Return the common value of all, or None if they differ."""
    known = set(values)
    return known.pop() if len(known) == 1 else None


def _on(grid: Axis, x: Float[np.ndarray, " points"], values: Float[np.ndarray, " points"]) -> statistics.Line:
    there = ~np.isnan(values)
    if not there.any():
        return np.full(len(grid), np.nan)
    return np.interp(grid, x[there], values[there], left=np.nan, right=np.nan)


def mean_of_last(x: ArrayLike, returns: Returns, count: int = LAST) -> Float[np.ndarray, " R"]:
    """Return the mean `[R]` of the last `count` evaluations of each seed of `returns`, without step 0."""
    trained = [statistics.present(seed)[-count:] for seed in returns[np.asarray(x) > 0].T]
    return np.array([np.mean(last) if last.size else np.nan for last in trained])


def name_of_last(x: ArrayLike) -> str:
    """Return the name of `mean_of_last` for evaluations at `x`: `last_10`, or `last_3` if there are only three."""
    return f"last_{np.clip(np.sum(np.asarray(x) > 0), 1, LAST)}"


def max_of_average_return(x: ArrayLike, returns: Returns) -> float:
    """Return the best evaluation of the mean over seeds, without step 0.

    This is the "max average return" of the TD3 paper and Tianshou. Diverged seeds are left out from the step at which
    they diverged. Step 0 is excluded because an untrained policy may have a high return: an Ant that stands still
    scores about 990.
    """
    means = [float(np.mean(row)) for row in map(statistics.present, returns[np.asarray(x) > 0]) if row.size]
    return max(means, default=np.nan)


def average_of_max_return(x: ArrayLike, returns: Returns) -> float:
    """Return the mean over seeds of each seed's best evaluation, without step 0.

    This is the "max average return" of PFRL. It is more optimistic than `max_of_average_return`.
    """
    trained = returns[np.asarray(x) > 0]
    best = np.max(trained, axis=0, initial=-np.inf, where=~np.isnan(trained))
    return float(np.mean(best[np.isfinite(best)])) if np.isfinite(best).any() else np.nan


def steps_to_threshold(x: ArrayLike, returns: Returns, threshold: int | float) -> Float[np.ndarray, " R"]:
    """Return the first `x` `[R]` at which the return of a seed is at least `threshold`, or infinity if it never is."""
    reached = returns >= threshold
    return np.where(reached.any(axis=0), np.asarray(x, float)[np.argmax(reached, axis=0)], np.inf)


def area_under_curve(x: ArrayLike, returns: Returns) -> Float[np.ndarray, " R"]:
    """Return the mean `[R]` over `x` of each seed's curve, with linear interpolation between evaluations.

    The result is NaN for a curve that ends before the last `x`, and if there is only one evaluation.
    """
    x = np.asarray(x, float)
    length = x[-1] - x[0]
    return np.trapezoid(returns, x, axis=0) / (length if length else np.nan)


def summary(frame: "pandas.DataFrame", by: Sequence[str] = ("env", "algo"), **how: Any) -> "pandas.DataFrame":
    """Return a DataFrame with the number of seeds and their returns, one row per group of seeds.

    `by` are the columns that define the groups. The columns of the result are:

    - `seeds`, `diverged`, `unfinished`: number of seeds, of diverged seeds, and of seeds that have not reached the last
      evaluation. Diverged and unfinished seeds are left out of all returns.
    - `env_step`: environment step of the last evaluation
    - `final`: IQM over seeds of the last evaluation
    - `last_10`: mean over seeds of the mean of the last ten evaluations. It is called `last_3` if there are only three.
    - `final_low`, `final_high`, `last_10_low`, `last_10_high`: 95% bootstrap intervals over seeds
    - `max_of_average_return`, `average_of_max_return`, `area_under_curve`: see the functions of these names. The last
      is the mean over seeds.

    Raises ValueError as `comparable` does.
    """
    import pandas

    parts = comparable(frame, by)
    rows = [_summarised(gather(part), **how) for part in parts.values()]
    return pandas.DataFrame(rows, index=pandas.MultiIndex.from_tuples(parts, names=list(by)))


def comparable(frame: "pandas.DataFrame", by: Sequence[str]) -> "dict[tuple[Any, ...], pandas.DataFrame]":
    """Return `{values of the columns by: rows}` of a frame, whose seeds can be averaged in each group.

    Raises ValueError if a group contains runs that were evaluated at different steps, because their last ten
    evaluations are not comparable, and if several runs of a group have the same seed, because it would count twice. A
    run whose seeds have all diverged may end early.
    """
    parts = dict(groups(frame, by))
    for key, part in parts.items():
        trained = [one for _, one in groups(part, ["run", "setting"]) if not _all_diverged(one)]
        if len({tuple(sorted(set(one["env_step"]))) for one in trained}) > 1:
            why = "were evaluated at different steps"
        elif shared_seeds(part):
            why = "share a seed, which would count more than once"
        else:
            continue
        runs, what = ", ".join(sorted(set(part["run"]))), ", ".join(map(str, key))
        raise ValueError(f"{what}: {runs} {why}; separate them with by={('run', *by)}")
    return parts


def _all_diverged(run: "pandas.DataFrame") -> bool:
    return bool(run.groupby("seed")["diverged"].last().notna().all())


def _summarised(runs: Runs, **how: Any) -> dict[str, Any]:
    x, finished = runs.x, runs.finished
    return (
        {
            "seeds": len(runs.seeds),
            "diverged": int(np.sum(~np.isnan(runs.diverged))),
            "unfinished": runs.sound.shape[1] - finished.shape[1],
            "env_step": int(x[-1]),
        }
        | _estimate("final", statistics.interquartile_mean, finished[-1], **how)
        | _estimate(name_of_last(x), statistics.mean, statistics.present(mean_of_last(x, finished)), **how)
        | {
            "max_of_average_return": max_of_average_return(x, finished),
            "average_of_max_return": average_of_max_return(x, finished),
            "area_under_curve": np.mean(area_under_curve(x, finished)) if finished.size else np.nan,
        }
    )


def _estimate(
    name: str, statistic: Callable[..., Any], scores: Float[np.ndarray, " sound"], **how: Any
) -> dict[str, float]:
    value = float(statistic(scores)) if scores.size else np.nan
    low, high = statistics.interval(statistic, scores, **how) if scores.size else (np.nan, np.nan)
    return {name: value, f"{name}_low": low, f"{name}_high": high}
