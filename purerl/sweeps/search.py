"""Search for good hyperparameters with Optuna. A generation of trials, times the seeds, is one program.

It is set in a file of sweeps/ with one program and no lists:

    [search]
    trials = 32                # in total; the first trial has the settings of the file
    batch = 8                  # trials of one generation
    sampler = "tpe"            # tpe, random or cmaes
    objective = "final"        # the final return of a seed; area: the area under its curve
    aggregate = "iqm"          # over all seeds; mean and min also see the worst seeds
    rungs = [2, 4]             # after these evaluations the worse half of a generation is stopped
    [search.space]
    actor_lr = { log_uniform = [1e-4, 1e-2] }

The trials that survive a rung continue from their state in a new run folder with fewer rows. Its first checkpoint holds
the survivors' part of an earlier one. Regrouping through checkpoints costs one compilation per rung, which all
generations share. After that, only the survivors take time. Masked rows would cost as much as active rows. A search can
be interrupted and resumed like a run.
"""

import csv
import io
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float

from purerl.environments.base import Environment
from purerl.errors import Refused
from purerl.policies import videos
from purerl.results import comparison, run_folder
from purerl.results.statistics import iqm
from purerl.runs import claims, fitting, runner
from purerl.runs.clock import Clock
from purerl.runs.display import Display
from purerl.runs.fork import Origin, fork
from purerl.settings import config, schema
from purerl.settings.kinds import checked, fields, flows
from purerl.settings.schema import Search
from purerl.settings.sweep_file import Program, limits
from purerl.types import Constructor

if TYPE_CHECKING:
    from optuna import Study, Trial
    from optuna.samplers import BaseSampler

    from purerl.sweeps.campaign import SweepTask

Interval = tuple[float, float, bool]  # low, high, whether its logarithm is searched
Setting = dict[str, float]  # hyperparameters of a trial, by name
Score = tuple[float, int]  # the score, and its evaluation
Made = tuple[Environment, Constructor]

STUDY = "study.log"  # Optuna's journal

AGGREGATES = {"iqm": iqm, "mean": partial(np.mean, axis=-1), "min": partial(np.min, axis=-1)}  # `[..., seeds] -> [...]`


@dataclass(frozen=True)
class SearchPlan:
    """A `Search`, where it looks, and when it stops trials.

    Attributes:
        space: `{name: (low, high, whether its logarithm is searched)}`.
        rungs: evaluations, in order.
        settings: the `Config` that all trials share.
    """

    search: Search
    space: dict[str, Interval]
    rungs: tuple[int, ...]
    settings: schema.Config


def understood(table: Any, programs: Sequence[Program]) -> SearchPlan:
    """Return the `SearchPlan` of the table [search] for the programs of a sweep.

    Raises ValueError for what cannot be searched.
    """
    if len(programs) != 1 or programs[0].settings.swept:
        raise ValueError("a search needs exactly one program: leave out lists; set what is searched in [search.space]")
    if not isinstance(table, dict):
        raise ValueError(f"search is {table!r}; it should be a table, [search], with [search.space]")
    settings, table = programs[0].settings, dict(table)
    space, rungs = table.pop("space", {}), table.pop("rungs", [])
    for name in table:
        if name not in fields(Search):
            raise ValueError(f"unknown setting {name!r} under [search]; known: {', '.join((*fields(Search), 'space'))}")
    if not isinstance(space, dict) or not space:
        raise ValueError("[search.space] is empty; set what is searched, for example tau = { uniform = [0.001, 0.1] }")
    space = {name: _interval(settings, name, value) for name, value in space.items()}
    evaluations = range(1, settings.plan.num_epochs)
    known = isinstance(rungs, list) and all(type(rung) is int and rung in evaluations for rung in rungs)
    if not known or sorted(set(rungs)) != rungs:
        last = settings.plan.num_epochs - 1
        raise ValueError(f"rungs is {rungs!r}; it should be numbers of evaluations, increasing, from 1 to {last}")
    if rungs and settings.job.seeds_per_batch is not None:
        raise ValueError("rungs need all runs of a generation at once; leave out seeds_per_batch")
    return SearchPlan(Search(**table), space, tuple(rungs), settings)


def _interval(settings: schema.Config, name: str, value: Any) -> Interval:
    hyper = type(settings.hyper)
    if name not in fields(hyper):
        raise ValueError(config.why_unknown(name, settings.job.algo))
    kind = next(iter(value)) if isinstance(value, dict) and len(value) == 1 else None
    if kind not in ("uniform", "log_uniform"):
        raise ValueError(f"search.space.{name} is {value!r}; it should be like {{ log_uniform = [1e-4, 1e-2] }}")
    low, high = (checked(hyper, name, x) for x in limits(f"search.space.{name}", kind, value[kind]))
    there = getattr(settings.hyper, name)
    if not flows(low) or not flows(there):
        raise ValueError(f"search.space.{name}: only hyperparameters that are traced arrays can be searched")
    if not low <= there <= high:
        raise ValueError(
            f"search.space.{name} is from {low} to {high}; it should include {there}, the value of the first trial"
        )
    return low, high, kind == "log_uniform"


def run_search(path: Path, plan: SearchPlan, display: Display, time_limit: float | None = None) -> str | None:
    """Search in the folder `path`, or resume a search there. Returns why it ended early, or None."""
    import optuna
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    storage = JournalStorage(JournalFileBackend(str(path / STUDY)))
    study = optuna.create_study(storage=storage, study_name="search", direction="maximize", load_if_exists=True)
    made, clock = videos.prepare(plan.settings), Clock()
    while (first := _first_untold(study)) < plan.search.trials:
        generation = first // plan.search.batch
        asked = _asked(study, plan, generation)
        rest = None if time_limit is None else max(1e-3, time_limit - clock.session)
        outcome = _trained(path, plan, [values for _, values in asked], generation, made, display, rest)
        if isinstance(outcome, str):
            return outcome
        for (trial, _), (score, rung) in zip(asked, outcome, strict=True):
            trial.report(score, rung)
            pruned = optuna.trial.TrialState.PRUNED if rung < plan.settings.plan.num_epochs else None
            study.tell(trial, None if pruned else score, state=pruned, skip_if_finished=True)
        display.say(f"generation {generation}: {described(study)}")
    _draw(path, study, plan)
    return None


def described(study: "Study") -> str:
    """Return a text about the best trial and the first."""
    best, first = study.best_trial, study.trials[0]
    values = run_folder.spoken(best.params)
    there = f"{first.value:.1f}" if first.value is not None else "stopped at a rung"
    return f"best of {len(study.trials)} trials: {best.value:.1f} with {values}; the settings of the file: {there}"


def _first_untold(study: "Study") -> int:
    """Return the number of the first trial that is not finished, or of the next trial."""
    open_trials = [trial.number for trial in study.trials if not trial.state.is_finished()]
    return min(open_trials, default=len(study.trials))


def _asked(study: "Study", plan: SearchPlan, generation: int) -> list[tuple["Trial", Setting]]:
    """Return `[(trial, {name: value})]` of a generation.

    Trials that were asked for before an interruption are returned again.
    """
    import optuna

    study.sampler = _sampler(plan, generation)
    first, end = (min((generation + i) * plan.search.batch, plan.search.trials) for i in (0, 1))
    if not study.trials:
        study.enqueue_trial({name: getattr(plan.settings.hyper, name) for name in plan.space})
    begun = [trial for trial in study.trials if trial.state != optuna.trial.TrialState.WAITING]
    trials = [optuna.trial.Trial(study, trial._trial_id) for trial in begun[first:end]]
    trials += [study.ask() for _ in range(len(begun), end)]
    return [
        (trial, {name: trial.suggest_float(name, low, high, log=log) for name, (low, high, log) in plan.space.items()})
        for trial in trials
    ]


def _sampler(plan: SearchPlan, generation: int) -> "BaseSampler":
    """Return the sampler of a generation. It is new for each, so that a resumed search draws the same trials."""
    from optuna import samplers

    seed, batch = plan.search.seed * 1_000_003 + generation, plan.search.batch
    return {
        "tpe": lambda: samplers.TPESampler(n_startup_trials=batch, constant_liar=True, seed=seed),
        "random": lambda: samplers.RandomSampler(seed=seed),
        "cmaes": lambda: samplers.CmaEsSampler(seed=seed),
    }[plan.search.sampler]()


def _trained(
    path: Path,
    plan: SearchPlan,
    values: Sequence[Setting],
    generation: int,
    made: Made,
    display: Display,
    time_limit: float | None,
) -> list[Score] | str:
    """Return `[(score, its evaluation)]` of every trial of a generation, or why training ended early."""
    alive, scores, before, clock = list(range(len(values))), {}, None, Clock()
    for rung, until in enumerate((*plan.rungs, None)):
        settings = of_trials(plan.settings, [values[i] for i in alive])
        folder = path / (f"generation-{generation:03}" + (f"-rung-{rung}" if plan.rungs else ""))
        if before and not run_folder.has_begun(folder):
            fork(before, folder, settings, made[0])
        if time_limit is not None:
            rest = max(1e-3, time_limit - clock.session)
            settings = replace(settings, keep=replace(settings.keep, time_limit=rest))
        if reason := _brought(settings, made, folder, until, display):
            return reason
        last = until or settings.plan.num_epochs
        found = _scores(folder, plan, last)
        scores |= {trial: (score, last) for trial, score in zip(alive, found, strict=True)}
        kept = sorted(np.argsort(-found, kind="stable")[: -(-len(found) // plan.search.keep)].tolist())
        before, alive = Origin(folder, settings, last, kept), [alive[i] for i in kept]
    return [scores[i] for i in range(len(values))]


def with_defaults(table: Any) -> Any:
    """Return the table [search] with defaults for missing values, as an older sweep.toml may have."""
    defaults = {name: default for name, (default, _, _) in fields(Search).items()}
    return defaults | {"rungs": []} | table if isinstance(table, dict) else table


def of_trials(settings: schema.Config, values: Sequence[Setting]) -> schema.Config:
    """Return `settings` of a program whose settings are the `values`, `[{name: value}]`."""
    swept = {name: tuple(each[name] for each in values) for name in values[0]}
    return replace(settings, hyper=replace(settings.hyper, **values[0]), swept=swept)


def example(plan: SearchPlan, task: "SweepTask") -> "SweepTask":
    """Return `task` with the settings that a generation of trials will have."""
    lows = {name: low for name, (low, _, _) in plan.space.items()}
    return replace(task, settings=of_trials(plan.settings, [lows] * plan.search.batch))


def _brought(settings: schema.Config, made: Made, folder: Path, until: int | None, display: Display) -> str | None:
    """Train a program to its end, or up to evaluation `until`.

    Returns why it was asked to end early, or None.
    """
    settings, complete = claims.claim(folder, settings)
    if complete:
        return None
    if until and claims.has_come_to(folder, settings, until):
        claims.check_fit(folder, settings, fitting.programs_of(settings, *made, settings.num_runs), settings.runs)
        return None
    drawn = videos.listeners(settings, made[0])
    return runner.run(settings, *made, folder, Display(display.console), until=until, listeners=drawn).asked


def _scores(folder: Path, plan: SearchPlan, index: int) -> Float[np.ndarray, " settings"]:
    """Return the objective of every setting at evaluation `index`, `[settings]`.

    A seed that diverged counts with the worst return of all, so that losing seeds makes no setting better.
    """
    lines = comparison.lines(folder, plan.settings.job.env)
    returns = np.stack([line.returns[: index + 1] for line in lines])
    if np.isnan(returns[:, -1]).all():
        raise Refused(f"every run of {folder} has diverged; narrow [search.space], or check the environment")
    returns = np.where(np.isnan(returns), np.nanmin(returns), returns)
    aggregate = AGGREGATES[plan.search.aggregate]
    if plan.search.objective == "final":
        return aggregate(returns[:, -1])
    steps = lines[0].steps[: index + 1]
    return aggregate(np.trapezoid(returns, steps, axis=1) / (steps[-1] - steps[0]))


def _draw(path: Path, study: "Study", plan: SearchPlan) -> None:
    """Write history.png and importance.png with Optuna, and trials.csv with one row per trial."""
    from optuna.exceptions import ExperimentalWarning
    from optuna.importance import PedAnovaImportanceEvaluator
    from optuna.visualization import matplotlib

    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["trial", "state", "score", "evaluation", *plan.space])
    for trial in study.trials:
        ((index, score),) = trial.intermediate_values.items()
        writer.writerow([trial.number, trial.state.name.lower(), run_folder.cell(score), index, *trial.params.values()])
    run_folder.write(path, "trials.csv", text.getvalue())
    with warnings.catch_warnings(category=ExperimentalWarning, action="ignore"):
        pictures = {"history": matplotlib.plot_optimization_history(study)}
        if len({trial.value for trial in study.trials if trial.value is not None}) > 1:
            evaluator = PedAnovaImportanceEvaluator()
            pictures["importance"] = matplotlib.plot_param_importances(study, evaluator=evaluator)
    for name, axes in pictures.items():
        picture = io.BytesIO()
        axes.figure.savefig(  # pyright: ignore[reportAttributeAccessIssue]  # a figure, not a subfigure
            picture, format="png", bbox_inches="tight"
        )
        run_folder.write(path, f"{name}.png", picture.getvalue())
