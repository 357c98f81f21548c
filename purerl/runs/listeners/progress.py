"""Show how far the runs have come, and the last evaluation."""

import numpy as np

from purerl.results.statistics import iqm
from purerl.runs.events import Event
from purerl.training import loop


def show(event: Event) -> None:
    """Advance the bar, and show an evaluation that just ended."""
    session, plan = event.session, event.session.plan
    before = event.group * plan.total_steps
    if event.metrics is None:
        session.display.moved(before + event.at.row * plan.num_envs)
        return
    returns, clock = event.returns, session.clock
    session.display.evaluation(
        before + loop.env_steps(plan, event.at.index),
        float(iqm(returns)),
        clock.per_second(clock.updates),
        int(np.isnan(returns).sum()),
    )
