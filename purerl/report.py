"""What a run came to: its table, its picture and its page. `python -m purerl.report FOLDER` makes the page again."""

import io
import sys
from dataclasses import dataclass
from typing import Any

import numpy as np

from purerl.cli.parser import Parser, fail
from purerl.results import comparison, figures, page, run_folder
from purerl.results.statistics import iqm
from purerl.runs.clock import Clock


@dataclass(frozen=True)
class Outcome:
    """What a run came to.

    Attributes:
        final: the last row of curves.csv of each run, `{column: [R]}`.
        interrupted: why it ended early, or None.
        asked: why it was to end early, also where it came to its end before; or None.
        clock: where the time went.
    """

    final: Any
    interrupted: str | None
    asked: str | None
    clock: Clock

    @property
    def returns(self):
        """The last return of each run that has not diverged."""
        return self.final["return_mean"][np.isnan(self.final["diverged"])]

    @property
    def all_diverged(self):
        """Whether there are runs, and none is left."""
        return len(self.final["diverged"]) > 0 and not len(self.returns)


def draw(path, curves, title, env, swept):
    """Write the picture of the run, without what its seeds returned after they diverged."""
    if swept:
        figure = comparison.figure(comparison.lines(path, env))
    else:
        figure = figures.learning_curve(*comparison.sound(curves), title)
    picture = io.BytesIO()
    figure.savefig(picture, format="png")
    run_folder.write(path, "curve.png", picture.getvalue())


def show(display, settings, path, outcome):
    """The table at the end. Speed is this process's."""
    job, clock, final = settings.job, outcome.clock, np.sort(outcome.returns)
    per_s = [f"{clock.per_second(number):,.0f}" for number in (clock.env_steps, clock.updates)]
    rows = [
        (f"{'return so far' if outcome.interrupted else 'final return'}: min / IQM / max", spread(final)),
        ("wall time, seconds", f"{clock.session:.1f}" + (f", {clock.earlier:.1f} before" if clock.earlier else "")),
        ("  compile / train / evaluate", f"{clock.compile:.1f} / {clock.train:.1f} / {clock.evaluate:.1f}"),
        (f"training, all {'runs' if settings.swept else 'seeds'}", f"{per_s[0]} env steps/s, {per_s[1]} updates/s"),
        ("go on with" if outcome.interrupted else "kept in", f"{'--resume ' if outcome.interrupted else ''}{path}"),
    ]
    if settings.swept:
        rows[1:1] = [(f"  {line.label}", spread(np.sort(line.final))) for line in best(path, job.env)]
    rows[1:1] = faults(outcome.final, settings)
    ended = f", ended early: {outcome.interrupted}" if outcome.interrupted else ""
    display.table(f"{job.algo} on {job.env}, {size(settings)}{ended}", rows)


def faults(final, settings):
    """Rows of the table: which runs have diverged, which their environment gave NaN, and what was not stored."""
    from_environment = ~np.isnan(final["environment_nan"])
    by_itself = ~np.isnan(final["diverged"]) & ~from_environment
    rows = []
    for what, lost in (("diverged", by_itself), ("NaN or overflow of environment", from_environment)):
        if lost.any():
            which = [f"{_name(final, i, settings)} at step {final['diverged'][i]:,.0f}" for i in np.flatnonzero(lost)]
            more = f" and {len(which) - 5} more" if len(which) > 5 else ""
            rows.append((f"{what}, left out: {lost.sum()}", ", ".join(which[:5]) + more))
    if dropped := np.nansum(final["dropped"]):
        made = np.sum(final["env_step"])
        rows.append(("transitions not stored", f"{dropped:,.0f} of {made:,.0f}: reward not finite at the end"))
    return rows


def size(settings):
    """How many runs there are, in words."""
    seeds = settings.job.num_seeds
    of_settings = f"{settings.num_settings} settings x " if settings.swept else ""
    return f"{of_settings}{seeds} seed{'s' * (seeds > 1)}"


def best(path, env, number=5):
    """The best settings of a program."""
    return comparison.ranked(comparison.lines(path, env))[:number]


def _name(final, run, settings):
    setting = f"setting {final['setting'][run]:.0f}, " if settings.swept else ""
    return f"{setting}seed {final['seed'][run]:.0f}"


def spread(returns):
    """`returns` `[R]`, sorted, in words."""
    return f"{returns[0]:.1f} / {iqm(returns):.1f} / {returns[-1]:.1f}" if len(returns) else "none"


def main(arguments=None):
    """Run the command line. Returns the exit status; bad input ends it with 2."""
    parser = Parser(
        prog="python -m purerl.report",
        description=f"Make {page.FILE}, one page that needs no network, of each folder of a run or a sweep.",
        allow_abbrev=False,
    )
    parser.add_argument("folders", metavar="FOLDER", nargs="+", help="the folder of a run, or one that holds some")
    for folder in parser.parse_args(arguments).folders:
        try:
            page.write(folder)
        except ValueError as error:
            fail(error)
        except OSError as error:
            fail(f"cannot write {folder}/{page.FILE}: {error.strerror}; make room, or the folder writable")
        print(f"{folder}/{page.FILE}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
