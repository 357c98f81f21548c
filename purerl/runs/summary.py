"""The table that a run prints at its end."""

from pathlib import Path

import numpy as np
from jaxtyping import Float, Int

from purerl.results import comparison
from purerl.results.statistics import iqm
from purerl.runs.display import Display
from purerl.runs.outcome import RunOutcome
from purerl.settings.schema import Config

SHOWN = 5  # the most settings, and the most diverged runs, that the table names

Row = tuple[str, str]  # a name and a value
Final = dict[str, Float[np.ndarray, " R"]]  # the last row of curves.csv of each run, {column: [R]}


def show(display: Display, settings: Config, path: Path, outcome: RunOutcome) -> None:
    """Print the table. The speed is that of this process."""
    job, early = settings.job, outcome.interrupted
    rows = [(f"{'return so far' if early else 'final return'}: min / IQM / max", spread(np.sort(outcome.returns)))]
    rows += faults(outcome.final, settings)
    if settings.swept:
        rows += [(f"  {line.label}", spread(np.sort(line.final))) for line in best(path, job.env)]
    rows += _speed(settings, outcome)
    rows.append(("resume with" if early else "saved in", f"{'--resume ' if early else ''}{path}"))
    ended = f", ended early: {early}" if early else ""
    display.table(f"{job.algo} on {job.env}, {size(settings)}{ended}", rows)


def _speed(settings: Config, outcome: RunOutcome) -> list[Row]:
    """Return the rows of the table that say where the time went and how fast training was."""
    clock, runs = outcome.clock, "runs" if settings.swept else "seeds"
    env_steps, updates = (f"{clock.per_second(number):,.0f}" for number in (clock.env_steps, clock.updates))
    return [
        ("wall time, seconds", f"{clock.session:.1f}" + (f", {clock.earlier:.1f} before" if clock.earlier else "")),
        ("  compile / train / evaluate", f"{clock.compile:.1f} / {clock.train:.1f} / {clock.evaluate:.1f}"),
        (f"training, all {runs}", f"{env_steps} env steps/s, {updates} updates/s"),
    ]


def faults(final: Final, settings: Config) -> list[Row]:
    """Return the rows of the table on diverged runs, on NaN from the environment and on transitions not stored."""
    from_environment = ~np.isnan(final["environment_nan"])
    by_itself = ~np.isnan(final["diverged"]) & ~from_environment
    rows = []
    for what, lost in (("diverged", by_itself), ("NaN or overflow of environment", from_environment)):
        if lost.any():
            rows.append((f"{what}, left out: {lost.sum()}", _named(final, np.flatnonzero(lost), settings)))
    if dropped := np.nansum(final["dropped"]):
        made = np.sum(final["env_step"])
        rows.append(
            ("transitions not stored", f"{dropped:,.0f} of {made:,.0f}: reward not finite at the end of an episode")
        )
    return rows


def _named(final: Final, lost: Int[np.ndarray, " lost"], settings: Config) -> str:
    """Return a text that names the runs `lost` and the steps at which they diverged."""
    which = [f"{_name(final, run, settings)} at step {final['diverged'][run]:,.0f}" for run in lost.tolist()]
    more = f" and {len(which) - SHOWN} more" if len(which) > SHOWN else ""
    return ", ".join(which[:SHOWN]) + more


def _name(final: Final, run: int, settings: Config) -> str:
    setting = f"setting {final['setting'][run]:.0f}, " if settings.swept else ""
    return f"{setting}seed {final['seed'][run]:.0f}"


def size(settings: Config) -> str:
    """Return a text that says how many runs there are."""
    seeds = settings.job.num_seeds
    of_settings = f"{settings.num_settings} settings x " if settings.swept else ""
    return f"{of_settings}{seeds} seed{'s' * (seeds > 1)}"


def best(path: Path, env: str, number: int = SHOWN) -> list[comparison.Line]:
    """Return the best settings of the run in the folder `path`."""
    return comparison.ranked(comparison.lines(path, env))[:number]


def spread(returns: Float[np.ndarray, " R"]) -> str:
    """Return the minimum, the IQM and the maximum of sorted `returns` `[R]` as a text."""
    return f"{returns[0]:.1f} / {iqm(returns):.1f} / {returns[-1]:.1f}" if len(returns) else "none"
