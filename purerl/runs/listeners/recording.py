"""Write each evaluation to curves.csv, to the loggers and to log.jsonl."""

from purerl.results import run_folder
from purerl.results.statistics import iqm
from purerl.runs.events import Event
from purerl.training import loop


def write(event: Event) -> None:
    """Write the metrics of the evaluation that just ended, if there is one."""
    if event.metrics is None:
        return
    session, index = event.session, event.at.index
    clock = {
        "env_step": loop.env_steps(session.plan, index),
        "update": loop.updates(session.plan, index),
        "wall_s": round(session.clock.wall, 3),
    }
    run_folder.append_evaluation(session.path, session.runs(event.group), clock, event.metrics)
    session.feed()
    session.log("evaluation", index=index, return_iqm=run_folder.json_number(iqm(event.returns)), **clock)
