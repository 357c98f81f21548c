"""`purerl sweep`: train all programs of a sweep file, and compare them."""

import sys
from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from purerl import jax_flags
from purerl.cli.flags import add_cache, add_settings
from purerl.cli.parser import Parser, fail, refuse_unknown, unwritable
from purerl.cli.startup import tune_cpu, use_compilation_cache
from purerl.runs.clock import DIVERGED, INTERRUPTED, leaving
from purerl.settings import config, schema, sweep_file
from purerl.settings.kinds import Table, checked
from purerl.settings.schema import Plan
from purerl.settings.sweep_file import Program

if TYPE_CHECKING:
    from purerl.runs.display import Display
    from purerl.sweeps.campaign import SweepTask
    from purerl.sweeps.hosts import Host

FAILED = 1  # exit status if a program of the sweep failed


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return the exit status.

    0: done, 1: a program failed, 2: bad input, 3: every run diverged, 130: stopped early.
    """
    with leaving():
        try:
            flags, options = parse(sys.argv[1:] if arguments is None else arguments)
            file = sweep_file.find_sweep_file(options.file)
            table = config.read_toml(file)
            searched = table.pop("search", None)
            programs = sweep_file.expand(table, flags)
            jax_flags.settle()
            use_compilation_cache(options.compilation_cache)
            tune_cpu()
            path = Path(options.out or Path("runs") / file.stem).expanduser()
            if searched is not None:
                return search(path, searched, programs, options)
            return sweep(path, programs, options)
        except ValueError as error:
            fail(error)
        except OSError as error:
            return unwritable(error, "earlier files stay; run the same command to continue")


def parse(arguments: Sequence[str]) -> tuple[Table, Namespace]:
    """Return `({setting: text}, options)`. Only settings that were given are included.

    Raises ValueError if a flag is unknown.
    """
    parser = Parser(
        prog="purerl sweep",
        description="Train every program of a sweep. Numbers such as learning rates are swept inside one compiled "
        "program; other settings make one program per value. A stopped sweep is continued. Flags override the file. "
        "Hyperparameters have no flags: the file lists them under [hyper].",
        allow_abbrev=False,
    )
    parser.add_argument("file", metavar="FILE", help="a TOML file, or the name of a file in sweeps/")
    parser.add_argument("--out", metavar="FOLDER", help="folder of the sweep (default: runs/NAME)")
    parser.add_argument(
        "--only", metavar="PROGRAM", action="append", help="run one program, by name or number; repeatable"
    )
    parser.add_argument(
        "--dry-run", action="store_true", help="print programs, settings, runs, memory and groups, and exit"
    )
    parser.add_argument(
        "--time-limit",
        metavar="X",
        help="stop with checkpoints before this time has passed [seconds or h:mm:ss]",
    )
    parser.add_argument(
        "--launcher", choices=("ray", "slurm"), help="run the programs as Ray tasks, or as SLURM jobs with submitit"
    )
    parser.add_argument(
        "--gpus-per-program",
        metavar="X",
        type=float,
        help="GPUs per program with a launcher (default: ray 1, if any; slurm 0)",
    )
    group = parser.add_argument_group(
        "several processes, each with a share of the runs; the other flags must be the same"
    )
    group.add_argument(
        "--coordinator",
        metavar="HOST:PORT",
        help="address of the first process; auto: from the scheduler's environment",
    )
    group.add_argument("--num-processes", metavar="N", type=int, help="number of processes")
    group.add_argument("--process-id", metavar="K", type=int, help="index of this process, from 0")
    add_cache(parser)
    runs = "every run (defaults: from the sweep file, then the environment's file, then the preset)"
    groups = [(runs, schema.Job), ("training", Plan), ("checkpoints, logs and devices", schema.Keep)]
    settings = add_settings(parser, groups, show=False, without=["time_limit"])
    options, unknown = parser.parse_known_args(arguments)
    refuse_unknown(parser, unknown)
    options.time_limit = checked(schema.Keep, "time_limit", options.time_limit)
    options.flags = {name: value for name, value in vars(options).items() if name in settings and value is not None}
    return options.flags, options


def sweep(path: Path, programs: list[Program], options: Namespace) -> int:
    """Run `programs` in the folder `path`, or print the plan with `--dry-run`. Return the exit status."""
    from purerl.runs.display import Display
    from purerl.sweeps import campaign, hosts, launchers  # Imported here, so that --help does not wait for JAX.

    launchers.refuse_unusable(options.launcher, options.gpus_per_program, options.time_limit, options.coordinator)
    host = hosts.join(options.coordinator, options.num_processes, options.process_id)
    display = Display()
    tasks, wanted = prepared(path, programs, options, host)
    if options.dry_run:
        campaign.show_plan(wanted, display, [task.name for task in tasks])
        return 0
    if options.launcher:
        launch = launchers.Launch(options.launcher, main, common_words(path, options), options.gpus_per_program)
        failed, interrupted = launchers.run_on_launcher(launch, wanted, path, display), None
    else:
        failed, interrupted = campaign.run_tasks(wanted, display, options.time_limit, host)
    if host is None or host.index == 0:
        campaign.write_comparison(path, tasks, display)
    for name, error in failed.items():
        print(f"error: program {name} failed: {error}", file=sys.stderr)
    if interrupted:
        return ended_early(interrupted, display)
    if failed:
        return FAILED
    return DIVERGED if campaign.all_diverged(tasks) else 0


def prepared(
    path: Path, programs: list[Program], options: Namespace, host: "Host | None"
) -> tuple[list["SweepTask"], list["SweepTask"]]:
    """Return `(tasks of all programs, tasks to run)`, and create the folder of the sweep unless this is a dry run."""
    from purerl.sweeps import campaign

    def prepare() -> "tuple[list[SweepTask], list[SweepTask]]":
        tasks = campaign.make_tasks(path, programs, host=host)
        wanted = campaign.chosen(tasks, options.only) if options.only else tasks
        if not options.dry_run:
            campaign.create(path, programs)
        return tasks, wanted

    return host.in_turn("prepared", prepare) if host else prepare()


def common_words(path: Path, options: Namespace) -> list[str]:
    """Return the arguments that the commands of all programs of a launcher have in common."""
    file = Path(options.file)
    words = [str(file.absolute()) if file.is_file() else options.file]
    words += ["--out", str(path.absolute()), "--compilation-cache", options.compilation_cache]
    return words + [part for name, value in options.flags.items() for part in (f"--{name.replace('_', '-')}", value)]


def search(path: Path, table: Any, programs: list[Program], options: Namespace) -> int:
    """Run the search that the table [search] describes. Return the exit status."""
    from purerl.runs.display import Display
    from purerl.sweeps import campaign
    from purerl.sweeps import search as searching

    if options.coordinator is not None or options.launcher is not None:
        raise ValueError("a search runs in one process; leave out --coordinator and --launcher")
    display, plan = Display(), searching.understood(table, programs)
    tasks = campaign.make_tasks(path, programs, table)
    if options.dry_run:
        display.say(f"{plan.search.trials} trials, {plan.search.batch} at a time; the program of each generation:")
        examples = [searching.example(plan, task) for task in tasks]
        campaign.show_plan(examples, display, [task.name for task in examples])
        return 0
    campaign.create(path, programs, table)
    interrupted = searching.run_search(path, plan, display, options.time_limit)
    if interrupted:
        return ended_early(interrupted, display)
    display.say(f"all trials: {path / 'trials.csv'}, {path / 'history.png'}")
    return 0


def ended_early(reason: str, display: "Display") -> int:
    """Print why the sweep stopped early. Return the exit status."""
    display.say(f"ended early: {reason}; run the same command to continue")
    return INTERRUPTED


if __name__ == "__main__":
    from purerl.sweep import main  # The workers of a launcher import it by this name.

    sys.exit(main())
