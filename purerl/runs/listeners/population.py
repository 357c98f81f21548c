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
    if not _is_due(event):
        return None
    session, index = event.session, event.at.index
    returns = comparison.returns_until_divergence(run_folder.read_curves(session.path))[1][-1]
    numbers = session.without_copies(event.group, {name: event.numbers[name] for name in session.settings.swept})
    rows = pbt.exploit(session.path, session.settings, index, numbers, returns)
    carry = pbt.taken_over(event.carry, session.repeated(event.group, rows))
    return event._replace(
        carry=mapping.laid_out(session.programs.mesh, carry), numbers=session.numbers(event.group, index)
    )


def _is_due(event: Event) -> bool:
    """Return whether the settings are a population and an exploit follows the evaluation that just ended.

    No exploit follows the last evaluation.
    """
    population, index = event.session.settings.pbt, event.at.index
    if not population or event.metrics is None:
        return False
    return index > 0 and index % population.every == 0 and index < event.session.plan.num_epochs
