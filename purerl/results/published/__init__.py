"""What others have published: returns and curves of DDPG, TD3 and SAC, with their sources. No JAX here.

curves.csv   mean and population std over seeds of the evaluation return, every 10k steps to 100k, every 30k after, the
             last, and the best of each curve: a few dozen points of the roughly 100 that each source has; steps are
             the source's own
returns.csv  the mean of the last 10 deterministic evaluations at 1M steps: lowest, median and highest of num_sources
             published implementations, each the mean of its seeds, whose spread is not among them
"""

import csv
from collections.abc import Iterable, Sequence
from functools import cache
from importlib import resources
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from jaxtyping import Float

from purerl.results import curves, statistics

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
# Random steps before the first that a source counts. Tianshou's examples/mujoco/mujoco_*.py fill the buffer before the
# trainer, and its clock, begin: by 10,000 steps for SAC, by 25,000 for the others (its README.md, footnote 8).
UNCOUNTED = {("tianshou", "ddpg"): 25_000, ("tianshou", "td3"): 25_000, ("tianshou", "sac"): 10_000}
INCOMPARABLE = {
    "Walker2d-v5": "v5 raises the foot's friction from 0.9 to 1.9",
    "Humanoid-v5": "v5 restores the contact cost",
}
REMARKS = {"Reacher-v5": "v5 pays about 0.2 more: for where the arm is after a step, not before"}
LIMITS = {"Reacher": 50}  # the most steps of an episode, of which the others have 1000
HORIZON = 1_000_000  # environment steps after which the returns in returns.csv were taken
WINDOW = HORIZON // 10  # and the most over which they are a mean


Line = Float[np.ndarray, " points"]


class Curve(NamedTuple):
    """A published curve of one algorithm on one task."""

    source: str
    algo: str
    env: str  # with its version
    env_step: Line  # the warm-up among them; where the source does not count it, the curve begins after it
    mean: Line  # over seeds
    std: Line  # population
    num_seeds: int

    @property
    def label(self) -> str:
        return f"{SOURCES[self.source][0]}, {self.env}"


class Verdict(NamedTuple):
    """Where a mean return lies beside the published range: `inside`, `above`, `below`, or `no reference`."""

    verdict: str
    low: float
    high: float
    of: str


def task(env: str) -> str:
    """`Ant` of `Ant-v5`."""
    return env.rpartition("-v")[0]


def tasks() -> list[str]:
    """The tasks that something is published for."""
    return sorted({task(curve.env) for curve in _curves()})


def cells() -> list[tuple[str, str]]:
    """`(task, algorithm)` of every published return."""
    return [(row["task"], row["algo"]) for row in _rows("returns.csv")]


def find_curves(env: str, algo: str | None = None) -> list[Curve]:
    """The published `Curve`s of the task of `env`, of any version; of one algorithm or of all."""
    return [curve for curve in _curves() if task(curve.env) == task(env) and algo in (None, curve.algo)]


def limit(env: str) -> int:
    """The most steps of a published episode of the task of `env`."""
    return LIMITS.get(task(env), 1000)


def is_limit(env: str, steps: int | float) -> bool:
    """Whether episodes of at most so many steps are as long as the published ones; NaN is the task's own limit."""
    return bool(np.isnan(steps) or steps == limit(env))


def find_returns(env: str, algo: str) -> tuple[float, float, float, int] | None:
    """`(low, median, high)` over published sources at 1M steps, and how many those are, or None."""
    for row in _rows("returns.csv"):
        if (row["task"], row["algo"]) == (task(env), algo):
            low, median, high = (float(row[name]) for name in ("low", "median", "high"))
            return low, median, high, int(row["num_sources"])
    return None


def judge(env: str, algo: str, runs: curves.Runs, limits: Iterable[int | float] = ()) -> Verdict:
    """The `Verdict` on `curves.Runs` over environment steps, by the mean of their last 10 evaluations, or of all.

    For a mean over the last 100k of 1M steps, the published range is that of returns.csv; otherwise that of the
    published curves over the same steps, each with the 95% interval of its mean (Student's t); after 1M steps there is
    none. Ours is outside where its own interval and the range do not overlap. There is no verdict on a single seed,
    which has no interval, nor where `limits`, the most steps of our episodes, are not those of the published ones.
    Seeds that have not come to the last step are left out.
    """
    low, high, of = _range(env, algo, runs.x)
    ours = statistics.present(curves.mean_of_last(runs.x, runs.finished))
    if why := _reason(env, limits, len(ours)):
        return Verdict("no reference", low, high, f"{of}; {why}")
    if np.isnan(low):
        return Verdict("no reference", low, high, of)
    least, most = statistics.interval(statistics.mean, ours)
    of = f"{of}; {REMARKS[env]}" if env in REMARKS else of
    return Verdict("below" if most < low else "above" if least > high else "inside", low, high, of)


def _reason(env: str, limits: Iterable[int | float], num_seeds: int) -> str | None:
    """Why `num_seeds` runs cannot be held against what is published, or None."""
    if env in INCOMPARABLE:
        return INCOMPARABLE[env]
    if other := [steps for steps in limits if not is_limit(env, steps)]:
        return f"its episodes end after {limit(env)} steps, these after {other[0]:.0f}"
    return "a single seed has no interval" if num_seeds < 2 else None


def beside_published(frame: "pandas.DataFrame", by: Sequence[str] = ("env", "algo")) -> "pandas.DataFrame":
    """A row per group of seeds of a frame of runs: the mean of the last 10 evaluations and its verdict.

    The mean is called as `curves.summary` calls it. `by` are columns of the frame, `env` and `algo` among them. Raises
    ValueError as `curves.summary` does.
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
    return table.join(pandas.DataFrame(verdicts, index=table.index))


def _range(env: str, algo: str, x: curves.Axis) -> tuple[float, float, str]:
    """`(low, high, of what)` of the published mean over the last 10 of the environment steps `x`."""
    steps = np.asarray(x)[np.asarray(x) > 0][-curves.LAST :]
    if not len(steps):
        return np.nan, np.nan, "none published"
    if steps[-1] > 1.05 * HORIZON:
        return np.nan, np.nan, "none published after 1M steps"
    returns, there = find_returns(env, algo), find_curves(env, algo)
    if returns and steps[-1] >= HORIZON and steps[-1] - steps[0] <= WINDOW:
        low, _, high, count = returns
        return low, high, f"published returns at 1M steps, of {count} source{'s' * (count > 1)}"
    if not there:
        return np.nan, np.nan, "none published"
    means = [_mean_over(curve, steps) for curve in there]
    names = ", ".join(SOURCES[curve.source][0] for curve in there)
    return min(low for low, _ in means), max(high for _, high in means), f"{names}, at the same steps"


def _mean_over(curve: Curve, steps: curves.Axis) -> tuple[float, float]:
    """The 95% interval of a published curve's mean over `steps`."""
    from scipy import stats  # Here, because it takes most of a second, and training begins without it.

    mean, std = (np.mean(np.interp(steps, curve.env_step, values)) for values in (curve.mean, curve.std))
    half = stats.t.ppf(0.975, curve.num_seeds - 1) * std / np.sqrt(curve.num_seeds - 1)
    return mean - half, mean + half


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
