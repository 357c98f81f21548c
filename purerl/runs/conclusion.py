"""Write the files of a run at its end: its picture, its policy and its page."""

import numpy as np
from jaxtyping import Float

from purerl.results import page, picture, run_folder
from purerl.results.statistics import iqm
from purerl.runs.epochs import TrainingResult
from purerl.runs.listeners import limits
from purerl.runs.outcome import RunOutcome
from purerl.runs.session import Session


def conclude(session: Session, env: str, trained: TrainingResult) -> RunOutcome:
    """Write the final files of a run on `env` and return its `RunOutcome`.

    The policy is written after all files that a complete run must have, because it marks the run as complete.
    """
    settings, path = session.settings, session.path
    session.display.stage("writing the report")
    curves = run_folder.read_curves(path)
    evaluated = len(curves["env_step"]) > 0
    if evaluated:
        picture.write_picture(path, curves, settings.job.algo, env, settings.swept)
    outcome = _outcome(session, run_folder.final(curves), trained)
    if outcome.all_diverged and outcome.final["env_step"].max() < settings.plan.total_steps:
        last = outcome.final["env_step"].max()
        session.display.say(f"ended at step {last:,.0f}: every run has diverged")
    session.log("end", interrupted=outcome.interrupted, return_iqm=run_folder.json_number(iqm(outcome.returns)))
    run_folder.write_policy(path, run_folder.joined(trained.policies))
    if trained.complete:
        run_folder.drop_parts(path)
    if evaluated:
        page.write_page(path)
    return outcome


def _outcome(session: Session, final: dict[str, Float[np.ndarray, " R"]], trained: TrainingResult) -> RunOutcome:
    """Return the outcome of the run. A run that is left for a fork was not interrupted."""
    stop = None if trained.stop == limits.UNTIL else trained.stop
    asked = session.interrupt.reason or stop
    return RunOutcome(final, None if trained.complete else asked, asked, session.clock)
