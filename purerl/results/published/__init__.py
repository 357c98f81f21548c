"""Published returns and curves of DDPG, TD3 and SAC, with their sources. No JAX here.

curves.csv   Mean and population standard deviation over seeds of the evaluation return. Each source has roughly 100
             points per curve. The file has a few dozen of them: every 10k steps up to 100k, then every 30k, the last
             point and the best point. Steps are counted as in the source.
returns.csv  The mean of the last 10 deterministic evaluations at 1M steps: lowest, median and highest value of
             num_sources published implementations. The value of an implementation is the mean over its seeds. The
             spread over seeds is not included.
"""

import csv
from collections.abc import Iterable, Sequence
from functools import cache
from importlib import resources
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from jaxtyping import Float, Num

from purerl.results import curves, statistics
from purerl.settings import config

if TYPE_CHECKING:
    import pandas

SOURCES = {
    "td3_paper": (
        "Fujimoto et al. 2018",
        "arXiv:1802.09477; learning_curves/ of github.com/sfujim/TD3, MIT licence; Gym v1, 10 seeds",
    ),
    "tianshou": (
        "Tianshou",
        "Weng et al. 2022, JMLR 23(267); examples/mujoco/benchmark of github.com/thu-ml/tianshou, MIT licence; "
        "Gym v3, v2 where there is no v3, 10 seeds; the warm-up, which it does not count, is added to its steps",
    ),
    "jaxrl": ("JAXRL", "Kostrikov 2021, github.com/ikostrikov/jaxrl, the author's logs, MIT licence; Gym v2, 10 seeds"),
}
# Random steps that a source does not count. Tianshou's examples/mujoco/mujoco_*.py fill the buffer before the trainer
# starts to count steps: with 10,000 steps for SAC and 25,000 for the others (its README.md, footnote 8).
UNCOUNTED = {("tianshou", "ddpg"): 25_000, ("tianshou", "td3"): 25_000, ("tianshou", "sac"): 10_000}
# Random steps of a source. Fujimoto et al.: main.py of the code of 2018, which has LONG random steps on the tasks of
# LONGER. JAXRL: start_training in examples/train.py.
RANDOM_STEPS = UNCOUNTED | {("td3_paper", "td3"): 1_000, ("jaxrl", "sac"): 10_000}
LONGER, LONG = ("Ant", "HalfCheetah"), 10_000
# The settings of a source that differ from the preset `paper`, without random steps. Where a source is not named, none
# is known to differ. Tianshou: the defaults of examples/mujoco/mujoco_*.py and its README.md, which runs SAC without
# --auto-alpha. Its networks have PyTorch's initial weights. JAXRL: jax_rl/agents/sac/sac_learner.py and
# networks/common.py.
SETTINGS = {
    ("td3_paper", "td3"): "networks of 400x300, learning rates 1e-3, batches of 100",
    ("tianshou", "ddpg"): "learning rates 1e-3",
    ("tianshou", "sac"): "learning rates 1e-3, fixed temperature 0.2, initial weights of PyTorch",
    ("jaxrl", "sac"): "target entropy -dim(A)/2, orthogonal initial weights",
}
INCOMPARABLE = {
    "Walker2d-v5": "v5 raises the foot's friction from 0.9 to 1.9",
    "Humanoid-v5": "v5 restores the contact cost",
}
REMARKS = {
    "Reacher-v5": "v5 pays about 0.2 more: for where the arm is after a step, not before",
    "Ant-v5": "with MuJoCo 2, v2 and v3 have no contact forces in observation and reward (openai/gym issue 1541)",
}
LIMITS = {"Reacher": 50}  # time limit of an episode [steps]. The other tasks have 1000.
HORIZON = 1_000_000  # environment steps after which the returns in returns.csv were measured
WINDOW = HORIZON // 10  # the last environment steps, at most, that they are averaged over


Line = Float[np.ndarray, " points"]


class Curve(NamedTuple):
    """A published curve of one algorithm on one task."""

    source: str
    algo: str
    env: str  # with its version
    env_step: Line  # includes the warm-up. If the source does not count it, the curve starts after it.
    mean: Line  # over seeds
    std: Line  # population standard deviation
    num_seeds: int

    @property
    def settings(self) -> str:
        """Return the settings that differ from those of the preset `paper` on the same task, as text."""
        others = [SETTINGS[self.source, self.algo]] if (self.source, self.algo) in SETTINGS else []
        if self.random_steps != _random_steps_of_preset(task(self.env), self.algo):
            others.append(f"{self.random_steps:,} random steps")
        return ", ".join(others)

    @property
    def random_steps(self) -> int:
        """Return the number of steps with random actions before learning begins."""
        longer = self.source == "td3_paper" and task(self.env) in LONGER
        return LONG if longer else RANDOM_STEPS[self.source, self.algo]

    @property
    def label(self) -> str:
        """Return the source and the version of the task, for example `Tianshou (v3)`."""
        return f"{SOURCES[self.source][0]} ({self.version})"

    @property
    def version(self) -> str:
        """Return the version of the task, for example `v3`."""
        return self.env.rpartition("-")[2]


class Verdict(NamedTuple):
    """The position of a mean return relative to the published range: `inside`, `above`, `below` or `no reference`."""

    verdict: str
    low: float
    high: float
    sources: int  # number of published curves or returns in the range
    of: str


def task(env: str) -> str:
    """Return the name of an environment without its version, for example `Ant` for `Ant-v5`."""
    return env.rpartition("-v")[0]


def tasks() -> list[str]:
    """Return the tasks that have published curves."""
    return sorted({task(curve.env) for curve in _curves()})


def cells() -> list[tuple[str, str]]:
    """Return `(task, algorithm)` of every published return."""
    return [(row["task"], row["algo"]) for row in _rows("returns.csv")]


def find_curves(env: str, algo: str | None = None) -> list[Curve]:
    """Return the published `Curve`s of the task of `env`, in any version, for one algorithm or for all."""
    return [curve for curve in _curves() if task(curve.env) == task(env) and algo in (None, curve.algo)]


def limit(env: str) -> int:
    """Return the time limit [steps] of published episodes of the task of `env`."""
    return LIMITS.get(task(env), 1000)


def is_limit(env: str, steps: int | float) -> bool:
    """Return whether the time limit `steps` is that of the published episodes. NaN means the limit of the task."""
    return bool(np.isnan(steps) or steps == limit(env))


def find_returns(env: str, algo: str) -> tuple[float, float, float, int] | None:
    """Return `(low, median, high, number of sources)` of the published returns at 1M steps, or None."""
    for row in _rows("returns.csv"):
        if (row["task"], row["algo"]) == (task(env), algo):
            low, median, high = (float(row[name]) for name in ("low", "median", "high"))
            return low, median, high, int(row["num_sources"])
    return None


def judge(env: str, algo: str, runs: curves.Runs, limits: Iterable[int | float] = ()) -> Verdict:
    """Return the `Verdict` on `curves.Runs` over environment steps.

    The compared value is the mean of the last 10 evaluations, or of all if there are fewer. Seeds that have not reached
    the last step are left out. The verdict is `above` or `below` if the 95% interval of this mean does not overlap the
    published range.

    The published range depends on the steps:

    - For a mean over the last 100k of 1M steps, it is the range in returns.csv.
    - Before, it is the range of the published curves over the same steps, each with the 95% interval of its mean
      (Student's t). A curve that begins later than the compared steps does not count. One that ends earlier keeps its
      last value: all of them end after 1M steps.
    - After 1.05M steps, there is none.

    There is no verdict on a single seed, because it has no interval. There is also none if `limits`, the time limits of
    our episodes, differ from the published ones.
    """
    low, high, sources, of = _range(env, algo, runs.x)
    ours = statistics.present(curves.mean_of_last(runs.x, runs.finished))
    if why := _reason(env, limits, len(ours)):
        return Verdict("no reference", low, high, sources, f"{of}; {why}")
    if not sources:
        return Verdict("no reference", low, high, sources, of)
    of = f"{of}; {REMARKS[env]}" if env in REMARKS else of
    return Verdict(_verdict(statistics.interval(statistics.mean, ours), (low, high)), low, high, sources, of)


def _reason(env: str, limits: Iterable[int | float], num_seeds: int) -> str | None:
    """Return why `num_seeds` runs cannot be compared with published results, or None."""
    if env in INCOMPARABLE:
        return INCOMPARABLE[env]
    if other := [steps for steps in limits if not is_limit(env, steps)]:
        return f"published episodes end after {limit(env)} steps, these after {other[0]:.0f}"
    if not num_seeds:
        return "no seed has reached the last evaluation without diverging"
    return "a single seed has no interval" if num_seeds < 2 else None


def beside_published(frame: "pandas.DataFrame", by: Sequence[str] = ("env", "algo")) -> "pandas.DataFrame":
    """Return a DataFrame with the mean of the last 10 evaluations and its verdict, one row per group of seeds.

    `frame` comes from `curves.load`. `by` are its columns that define the groups, and must include `env` and `algo`.
    The columns of the mean have the same names as in `curves.summary`. Raises ValueError as `curves.summary` does.
    """
    import pandas

    table = curves.summary(frame, by)
    table = table[
        ["seeds", "diverged", "unfinished", "env_step", *(name for name in table if name.startswith("last_"))]
    ]
    verdicts = []
    for key, part in curves.groups(frame, by):
        known = dict(zip(by, key, strict=True))
        verdicts.append(judge(known["env"], known["algo"], curves.gather(part), part["limit"].unique())._asdict())
    table = table.astype({"seeds": int, "diverged": int, "unfinished": int, "env_step": int})
    return pandas.concat([table, pandas.DataFrame(verdicts, index=table.index)], axis=1)


def beside_sources(frame: "pandas.DataFrame", by: Sequence[str] = ("env", "algo")) -> "pandas.DataFrame":
    """Return a DataFrame that compares each group of seeds with each published curve at the same steps.

    `frame` comes from `curves.load`. `by` are its columns that define the groups, and must include `env` and `algo`.
    The index is `by` and the source. Seeds that diverged or have not reached the last step are left out. The columns
    are:

    - `mean`, `low`, `high`: our mean of the last 10 evaluations, with its 95% interval over `seeds` seeds
    - `published`, `published_low`, `published_high`: the same of the curve, over `published_seeds` seeds
    - `verdict`: `inside` if the two intervals overlap, otherwise `above` or `below`. `no reference` as in `judge`.
    - `version`: the version of the task
    - `settings`: the settings of the source that differ from those of the preset `paper`

    Curves that begin later than the compared steps are left out. One that ends earlier keeps its last value. There are
    no rows for runs that are longer than 1.05M steps, because all curves end after about 1M. Raises ValueError as
    `curves.comparable` does.
    """
    import pandas

    rows = {}
    for key, part in curves.comparable(frame, by).items():
        env, algo = (dict(zip(by, key, strict=True))[name] for name in ("env", "algo"))
        runs = curves.gather(part)
        steps = _compared(runs.x)
        ours = statistics.present(curves.mean_of_last(runs.x, runs.finished))
        why = _reason(env, part["limit"].unique(), len(ours))
        for curve in find_curves(env, algo) if len(ours) and len(steps) and steps[-1] <= 1.05 * HORIZON else ():
            if curve.env_step[0] <= steps[0]:
                row = _comparison(curve, steps, ours)
                rows[*key, SOURCES[curve.source][0]] = row | ({"verdict": "no reference"} if why else {})
    index = pandas.MultiIndex.from_tuples(rows, names=[*by, "source"])
    return pandas.DataFrame(list(rows.values()), index=index)


def _comparison(curve: Curve, steps: curves.Axis, ours: Float[np.ndarray, " R"]) -> dict[str, Any]:
    """Return a row of `beside_sources`."""
    low, high = statistics.interval(statistics.mean, ours)
    published_low, published_high = _mean_over(curve, steps)
    return {
        "mean": float(np.mean(ours)), "low": low, "high": high, "seeds": len(ours),
        "published": (published_low + published_high) / 2,
        "published_low": published_low, "published_high": published_high, "published_seeds": curve.num_seeds,
        "verdict": _verdict((low, high), (published_low, published_high)),
        "version": curve.version, "settings": curve.settings,
    }  # fmt: skip


def _verdict(ours: tuple[float, float], theirs: tuple[float, float]) -> str:
    return "inside" if statistics.overlaps(ours, theirs) else "below" if ours[1] < theirs[0] else "above"


def _compared(x: curves.Axis) -> Num[np.ndarray, " compared"]:
    """Return the environment steps that are compared: those of the last 10 evaluations after step 0."""
    steps = np.asarray(x)
    return steps[steps > 0][-curves.LAST :]


def _range(env: str, algo: str, x: curves.Axis) -> tuple[float, float, int, str]:
    """Return the published mean over the last 10 of the environment steps `x`: low, high, how many sources, and which.

    Without a source, low and high are NaN, and the text says why.
    """
    steps = _compared(x)
    if not len(steps):
        return np.nan, np.nan, 0, "none published"
    if steps[-1] > 1.05 * HORIZON:
        return np.nan, np.nan, 0, "none published after 1M steps"
    returns, there = find_returns(env, algo), find_curves(env, algo)
    begun = [curve for curve in there if curve.env_step[0] <= steps[0]]
    if returns and steps[-1] >= HORIZON and steps[-1] - steps[0] <= WINDOW:
        low, _, high, count = returns
        return low, high, count, f"published returns at 1M steps, of {count} source{'s' * (count > 1)}"
    if not there:
        return np.nan, np.nan, 0, "none published"
    if not begun:
        first = min(curve.env_step[0] for curve in there)
        return np.nan, np.nan, 0, f"none published before step {first:,.0f}"
    means = [_mean_over(curve, steps) for curve in begun]
    names = ", ".join(SOURCES[curve.source][0] for curve in begun)
    lows, highs = zip(*means, strict=True)
    return min(lows), max(highs), len(begun), f"{names}, at the same steps"


def _mean_over(curve: Curve, steps: curves.Axis) -> tuple[float, float]:
    """Return the 95% interval of a published curve's mean over `steps`."""
    from scipy import stats  # Imported here, because it takes most of a second and training does not need it.

    mean, std = (np.mean(np.interp(steps, curve.env_step, values)) for values in (curve.mean, curve.std))
    half = stats.t.ppf(0.975, curve.num_seeds - 1) * std / np.sqrt(curve.num_seeds - 1)
    return mean - half, mean + half


@cache
def _random_steps_of_preset(name: str, algo: str) -> int:
    """Return the number of random steps of the preset `paper` on a task."""
    return config.resolve({"algo": algo, "env": f"{name}-v5", "preset": "paper"}).plan.warmup_steps


@cache
def _curves() -> list[Curve]:
    found: dict[tuple[str, str, str], list[dict[str, str]]] = {}
    for row in _rows("curves.csv"):
        found.setdefault((row["source"], row["algo"], row["env"]), []).append(row)
    return [_curve(*key, rows) for key, rows in found.items()]


def _curve(source: str, algo: str, env: str, rows: Sequence[dict[str, str]]) -> Curve:
    names = ("env_step", "return_mean", "return_std")
    step, mean, std = (np.array([float(row[name]) for row in rows]) for name in names)
    return Curve(source, algo, env, step + UNCOUNTED.get((source, algo), 0), mean, std, int(rows[0]["num_seeds"]))


@cache
def _rows(name: str) -> list[dict[str, str]]:
    with resources.files(__name__).joinpath(name).open() as file:
        return list(csv.DictReader(file))
