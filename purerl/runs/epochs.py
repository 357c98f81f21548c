"""Training: each group of runs from its start or its newest checkpoint to its end, telling listeners as it goes."""

from typing import Any, NamedTuple

import jax
import numpy as np
from jaxtyping import Shaped

from purerl.environments.episodes import Play
from purerl.results import run_folder
from purerl.runs import claims, playing, restoring, stretches
from purerl.runs.events import Event, fire
from purerl.runs.listeners import limits, listeners
from purerl.runs.session import Session
from purerl.training import loop, mapping


class TrainingResult(NamedTuple):
    """What training came to.

    Attributes:
        policies: of the groups that were trained, as `run_folder.write_policy` takes them.
        complete: whether all groups came to their end.
        stop: why they were to end early, also where they came to their end before; or None.
    """

    policies: list[dict[str, Any]]
    complete: bool
    stop: str | None = None


def train_groups(session: Session) -> TrainingResult:
    """Bring every group to its end, in order, or up to where the run is to end early."""
    policies: list[dict[str, Any]] = []
    stop = None
    for group in range(session.groups):
        if claims.are_finished(session.path, session.plan, session.runs(group), group):
            policies.append(run_folder.read_policy(session.path, group))
            continue
        event = train_group(session, group)
        policies.append(policy_of(event))
        if not event.ended:
            return TrainingResult(policies, False, event.stop)
        run_folder.write_policy(session.path, policies[-1], group)
        if (stop := event.stop or session.interrupt.reason) and group < session.groups - 1:
            return TrainingResult(policies, False, stop)
    return TrainingResult(policies, True, stop)


def train_group(session: Session, group: int) -> Event:
    """The last event of a group, which came to its end or is to end early, with a checkpoint there.

    Nothing more is done on the device from the moment in which a signal or the time limit asks for the end.
    """
    event, called = begun(session, group), listeners(session)
    while not event.ended and not event.stop:
        event = event._replace(metrics=None)
        if not limits.reason(event):
            event = _worked(event)
        event = fire(called, event)
    return event


def begun(session: Session, group: int) -> Event:
    """Where a group begins: at its newest whole checkpoint, or before its warm-up where it has none."""
    at, carry = restoring.restored(session, group)
    numbers = session.numbers(group, at.index)
    if carry is None:
        keys = mapping.keys_of([seed for _, seed in session.rows(group)])
        carry = session.programs.before_warm_up(numbers, mapping.laid_out(session.programs.mesh, keys))
    return Event(session, group, at, carry, numbers)


def _worked(event: Event) -> Event:
    """The event after a stretch of the warm-up or of training, or after an evaluation, whichever comes next."""
    session, at = event.session, event.at
    due = session.due(at.evaluations)
    if at.row < due and _none_is_left(event):
        event = event._replace(at=at._replace(row=due))  # All are frozen; the evaluation says so.
    return _trained(event) if event.at.row < due else _evaluated(event)


def _none_is_left(event: Event) -> bool:
    """Whether all runs of the group have diverged."""
    return bool((event.session.without_copies(event.group, jax.device_get(event.carry.diverged)) >= 0).all())


def _trained(event: Event) -> Event:
    """The event after a stretch of the warm-up or of training."""
    session, at = event.session, event.at
    plan, warms_up = session.plan, at.row < session.plan.warmup_rows
    session.display.stage("warming up" if warms_up else "training")
    if warms_up:
        what, rows, done, end = "warm_up", 1, 0, plan.warmup_rows
    else:
        what, rows, done, end = "cycles", session.programs.cycle.collects, plan.warmup_rows, session.due(at.evaluations)
    turns = range((at.row - done) // rows, (end - done) // rows)
    turn, carry = stretches.advance(session, what, event.numbers, event.carry, turns)
    new = (turn - turns.start) * rows
    steps = new * len(session.runs(event.group))
    session.clock.env_steps += steps * plan.num_envs
    session.clock.updates += 0 if warms_up else steps * plan.updates_per_step
    return event._replace(at=at._replace(row=at.row + new), carry=carry)


def _evaluated(event: Event) -> Event:
    """The event after an evaluation; as it was where the run is to end before that has ended."""
    session, index = event.session, event.at.evaluations
    play = _played(event)
    if play is None:
        session.display.say(f"evaluation {index} was not finished and begins anew on resuming")
        return event
    values = session.programs.judged(event.numbers, event.carry, play, event.at.row)
    carry = event.carry._replace(**{name: values[name] for name in loop.JUDGED})
    metrics = _measured(event, session.without_copies(event.group, jax.device_get(values)))
    return event._replace(at=event.at._replace(evaluations=index + 1), carry=carry, metrics=metrics)


def _played(event: Event) -> Play | None:
    """The episodes of an evaluation, or None where the run is to end before they have."""
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
    """`{name: [R]}` of the columns of curves.csv; runs diverged at an environment step, or NaN where they did not."""
    if event.at.evaluations == 0:  # Nothing has been learned yet.
        values = {name: x for name, x in values.items() if name not in event.carry.sums}
    num_envs = float(event.session.plan.num_envs)
    judged = {name: np.where(values[name] < 0, np.nan, values[name] * num_envs) for name in loop.JUDGED}
    return values | judged


def policy_of(event: Event) -> dict[str, Any]:
    """What acts, of every run of a group, whose it is, and to which environment step it was trained."""
    session, carry = event.session, event.carry
    statistics = carry.statistics._asdict() if carry.statistics else {}
    kept = jax.device_get({"actor": session.policy(carry.agent), "observation": statistics})
    settings, seeds = np.array(session.runs(event.group)).T
    steps = np.full(len(seeds), session.env_steps(event.at))
    return session.without_copies(event.group, kept) | {"setting": settings, "seed": seeds, "env_step": steps}
