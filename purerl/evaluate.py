"""`purerl evaluate`: measure the return of trained policies, in purerl's environment and in Gymnasium's."""

import sys
from argparse import Namespace
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np

from purerl import jax_flags
from purerl.cli.flags import add_cache, add_choice
from purerl.cli.parser import Parser, fail
from purerl.cli.startup import use_compilation_cache
from purerl.policies import evaluation, load
from purerl.policies.kept import Policies
from purerl.results import choice, run_folder
from purerl.results.statistics import interval, mean, overlaps

COLUMNS = ("env", "algo", "setting", "seed", "place", "episode", "return")  # of the file of --out


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return the exit status 0. Bad input ends the process with status 2."""
    parser = Parser(
        prog="purerl evaluate",
        description="Play complete episodes with trained policies, without exploration noise, and print their returns "
        "with 95% bootstrap intervals over episodes. With --in gymnasium, also play in Gymnasium's environment of the "
        "same name, with MuJoCo's C library on the CPU, and print whether the intervals overlap.",
        allow_abbrev=False,
    )
    parser.add_argument("--env", metavar="NAME", help="another environment with the same sizes (default: the run's)")
    parser.add_argument("--in", dest="place", choices=("purerl", "gymnasium"), default="purerl", help="where to play")
    parser.add_argument(
        "--episodes", metavar="N", type=int, default=100, help="episodes per policy (default: %(default)s)"
    )
    parser.add_argument("--out", metavar="FILE", help="also write the return of every episode to this .csv file")
    add_choice(parser, "all")
    add_cache(parser)
    options = parser.parse_args(arguments)
    try:
        if options.episodes < 2:
            raise ValueError(f"episodes is {options.episodes} but an interval needs at least 2")
        out = Path(options.out).expanduser() if options.out else None
        if out:
            check_file(out)
        evaluate(options, out)
    except (ValueError, OSError) as error:
        fail(error)
    return 0


def evaluate(options: Namespace, out: Path | None) -> None:
    jax_flags.settle()
    kept = load.read_policies(options.run, options.at)
    chosen = choice.several(kept, options.seed, options.setting)
    use_compilation_cache(options.compilation_cache)
    env = evaluation.environment(kept, options.env)
    returns = evaluation.returns(env, kept, chosen, options.episodes, options.place == "gymnasium")
    title = f"{kept.settings.job.algo} on {env.name}, mean return of {options.episodes} episodes, 95% intervals"
    show(title, [kept.name(index) for index in chosen], returns)
    if out:
        out.parent.mkdir(parents=True, exist_ok=True)
        run_folder.write(out.parent, out.name, table(kept, chosen, env.name, returns))
        print(out)


def check_file(file: Path) -> None:
    """Raise ValueError if no CSV file can be written at `file`."""
    if file.suffix != ".csv":
        raise ValueError(f"out {str(file)!r} is not a table; end it with .csv")
    if file.is_dir():
        raise ValueError(f"out {str(file)!r} is a folder; name a file in it")
    run_folder.check_writable(file.parent)


def table(kept: Policies, chosen: Sequence[int], env: str, returns: Mapping[str, np.ndarray]) -> str:
    """Return the text of a CSV file with one row per place, policy and episode. `returns` is as in `show`."""
    rows = [
        (env, kept.settings.job.algo, int(kept.final["setting"][index]), kept.seed(index), place, episode, value)
        for place, values in returns.items()
        for index, episodes in zip(chosen, values, strict=True)
        for episode, value in enumerate(map(run_folder.cell, episodes))
    ]
    return run_folder.lines([COLUMNS, *rows])


def show(title: str, names: Sequence[str], returns: Mapping[str, np.ndarray]) -> None:
    """Print a table with one row per policy and one for all. For two places, it shows if their intervals overlap."""
    import rich.console
    from rich.table import Table

    table = Table(title=title, title_justify="left")
    for column in ("policy", *returns, *(("difference", "overlap") if len(returns) == 2 else ())):
        table.add_column(column, justify="left" if column == "policy" else "right", no_wrap=True)
    for i, name in enumerate(names):
        table.add_row(name, *compared([[values[i]] for values in returns.values()]))
    if len(names) > 1:
        table.add_row(f"all {len(names)}", *compared(list(returns.values())))
    console = rich.console.Console(highlight=False)
    if not console.is_terminal:
        console.width = 100
    console.print(table)


def compared(places: Sequence[Iterable[np.ndarray]]) -> list[str]:
    """Return the cells of a row. A place has the returns of one or several policies, whose means have equal weight."""
    spans = [interval(mean, *values) for values in places]
    cells = [f"{mean(*values):.1f} [{low:.1f}, {high:.1f}]" for values, (low, high) in zip(places, spans, strict=True)]
    if len(places) == 1:
        return cells
    ours, theirs = places
    return [*cells, f"{mean(*theirs) - mean(*ours):+.1f}", "yes" if overlaps(*spans) else "no"]


if __name__ == "__main__":
    sys.exit(main())
