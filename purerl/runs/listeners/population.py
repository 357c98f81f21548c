"""Population-based training: after some evaluations, the worst settings of every seed take over from the best."""

from purerl.results import comparison, run_folder
from purerl.runs import pbt
from purerl.runs.events import Event
from purerl.training import mapping


def exploit(event: Event) -> Event | None:
    """Return the event with the carry and the hyperparameters after an exploit, if one is due.

    The new hyperparameters are written to pbt.csv. The returns are read from curves.csv, so `recording.write` must be
    called before.
    """
    return None if event.metrics is None or not _is_due(event) else _exploited(event)


def catch_up(event: Event) -> Event:
    """Return the event after an exploit that is due and was not made, because the run was to end there.

    The run was made longer since then.
    """
    made = pbt.exploits(event.session.path)
    return event if not event.at.evaluations or not _is_due(event) or event.at.index in made else _exploited(event)


def _exploited(event: Event) -> Event:
    session, index = event.session, event.at.index
    returns = comparison.returns_until_divergence(run_folder.read_curves(session.path))[1][-1]
    numbers = session.without_copies(event.group, {name: event.numbers[name] for name in session.settings.swept})
    rows = pbt.exploit(session.path, session.settings, index, numbers, returns)
    carry = pbt.taken_over(event.carry, session.repeated(event.group, rows))
    return event._replace(
        carry=mapping.laid_out(session.programs.mesh, carry), numbers=session.numbers(event.group, index)
    )


def _is_due(event: Event) -> bool:
    """Return whether the settings are a population and an exploit follows the last evaluation of the event.

    No exploit follows the end of a run.
    """
    population, index = event.session.settings.pbt, event.at.index
    return bool(population) and index > 0 and index % population.every == 0 and index < event.session.plan.num_epochs
