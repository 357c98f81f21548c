"""Train each group of runs from its start or its newest checkpoint to its end, and call the listeners."""

from typing import Any, NamedTuple

import jax
import numpy as np
from jaxtyping import Shaped

from purerl.environments.episodes import Play
from purerl.results import run_folder
from purerl.runs import claims, playing, restoring, stretches, warm_start
from purerl.runs.events import Event, fire
from purerl.runs.listeners import limits, listeners, population
from purerl.runs.session import Session
from purerl.training import loop, mapping


class TrainingResult(NamedTuple):
    """The result of training.

    Attributes:
        policies: those of the groups that were trained, in the form that `run_folder.write_policy` takes.
        complete: whether all groups were finished.
        stop: why the run was asked to end early, or None. It may be set although all groups were finished.
    """

    policies: list[dict[str, Any]]
    complete: bool
    stop: str | None = None


def train_groups(session: Session) -> TrainingResult:
    """Train every group to its end, in order, or until the run is to end early."""
    policies: list[dict[str, Any]] = []
    stop = None
    for group in range(session.groups):
        if claims.are_finished(session.path, session.plan, session.runs(group), group):
            policies.append(run_folder.read_policy(session.path, group))
            continue
        event = train_group(session, group)
        policies.append(policy_of(event))
        if not event.ended:
            return TrainingResult(policies + _earlier(session, group + 1), False, event.stop)
        run_folder.write_policy(session.path, policies[-1], group)
        if (stop := event.stop or session.interrupt.reason) and group < session.groups - 1:
            return TrainingResult(policies + _earlier(session, group + 1), False, stop)
    return TrainingResult(policies, True, stop)


def _earlier(session: Session, first: int) -> list[dict[str, Any]]:
    """Return the policies of the groups from `first` on that the run had before it was made longer."""
    groups = range(first, session.groups)
    there = [group for group in groups if run_folder.trained_steps(session.path, group) is not None]
    return [run_folder.read_policy(session.path, group) for group in there]


def train_group(session: Session, group: int) -> Event:
    """Train a group and return its last event. The group is finished, or it ends early with a checkpoint.

    After a signal or the time limit asks for the end, no more work is done on the device.
    """
    event, called = begun(session, group), listeners(session)
    while not event.ended and not event.stop:
        event = event._replace(metrics=None)
        if not limits.reason(event):
            event = _worked(event)
        event = fire(called, event)
    return event


def begun(session: Session, group: int) -> Event:
    """Return the event at which a group begins: its newest undamaged checkpoint, or before its warm-up."""
    at, carry = restoring.restored(session, group)
    numbers = session.numbers(group, at.index)
    if carry is None:
        keys = mapping.keys_of([seed for _, seed in session.rows(group)])
        carry = session.programs.before_warm_up(numbers, mapping.laid_out(session.programs.mesh, keys))
        at, carry = warm_start.begun(session, group, carry)
    return population.catch_up(Event(session, group, at, carry, numbers))


def _worked(event: Event) -> Event:
    """Return the event after the next piece of work: a stretch of warm-up or training, or an evaluation."""
    session, at = event.session, event.at
    due = session.due(at.evaluations)
    if at.row < due and _none_is_left(event):
        event = event._replace(at=at._replace(row=due))  # Diverged runs are frozen, so there is nothing to train.
    return _trained(event) if event.at.row < due else _evaluated(event)


def _none_is_left(event: Event) -> bool:
    """Return whether all runs of the group have diverged."""
    return bool((event.session.without_copies(event.group, jax.device_get(event.carry.diverged)) >= 0).all())


def _trained(event: Event) -> Event:
    """Return the event after a stretch of warm-up or training."""
    session, at = event.session, event.at
    plan, warms_up = session.plan, at.row < session.plan.warmup_rows
    session.display.stage("warming up" if warms_up else "training")
    if warms_up:
        what, rows = "warm_up", range(at.row, plan.warmup_rows)
    else:
        what, rows = "cycles", range(at.row, session.due(at.evaluations), session.programs.cycle.collects)
    row, carry = stretches.advance(session, what, event.numbers, event.carry, rows)
    new = row - at.row
    steps = new * len(session.runs(event.group))
    session.clock.env_steps += steps * plan.num_envs
    session.clock.updates += 0 if warms_up else steps * plan.updates_per_step
    return event._replace(at=at._replace(row=row), carry=carry)


def _evaluated(event: Event) -> Event:
    """Return the event after an evaluation, or the same event if the run is to end before its last episode ends."""
    session, index = event.session, event.at.evaluations
    play = _played(event)
    if play is None:
        session.display.say(f"evaluation {index} was not finished; it starts again when the run is resumed")
        return event
    values = session.programs.judged(event.numbers, event.carry, play, event.at.row)
    carry = event.carry._replace(**{name: values[name] for name in loop.JUDGED})
    metrics = _measured(event, session.without_copies(event.group, jax.device_get(values)))
    return event._replace(at=event.at._replace(evaluations=index + 1), carry=carry, metrics=metrics)


def _played(event: Event) -> Play | None:
    """Return the episodes of an evaluation, or None if the run is to end before they have ended."""
    session, numbers, carry = event.session, event.numbers, event.carry
    session.display.stage("evaluating")
    with session.clock.on("evaluate"):
        return playing.play_out(
            session.programs.evaluation(carry, event.at.evaluations),
            lambda play, count: session.programs.play_on(numbers, carry, play, count),
            session.paces["play_on"],
            stretch=lambda: session.interrupt.stretch(session.clock),
            stopped=lambda: session.interrupt.reason,
        )


def _measured(event: Event, values: dict[str, Shaped[np.ndarray, " R"]]) -> dict[str, Shaped[np.ndarray, " R"]]:
    """Return `{name: [R]}` of the columns of curves.csv.

    The columns in `loop.JUDGED` are environment steps, or NaN for a run that has not diverged.
    """
    if event.at.evaluations == 0:  # Nothing was learned yet, so these have no value.
        values = {name: x for name, x in values.items() if name not in event.carry.sums}
    num_envs = float(event.session.plan.num_envs)
    judged = {name: np.where(values[name] < 0, np.nan, values[name] * num_envs) for name in loop.JUDGED}
    return values | judged


def policy_of(event: Event) -> dict[str, Any]:
    """Return the policies of all runs of a group, with their settings, seeds and last environment steps."""
    session, carry = event.session, event.carry
    statistics = carry.statistics._asdict() if carry.statistics else {}
    kept = jax.device_get({"actor": session.policy(carry.agent), "observation": statistics})
    settings, seeds = np.array(session.runs(event.group)).T
    steps = np.full(len(seeds), session.env_steps(event.at))
    return session.without_copies(event.group, kept) | {"setting": settings, "seed": seeds, "env_step": steps}
