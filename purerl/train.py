"""`python -m purerl.train`: train, show how it goes, and leave curves and policies behind."""

import argparse
import sys
from argparse import Namespace
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from purerl import jax_flags
from purerl.cli.flags import add_cache, add_settings
from purerl.cli.parser import Parser, fail, refuse_unknown, unwritable
from purerl.cli.startup import tune_cpu, use_compilation_cache
from purerl.errors import Refused
from purerl.results import naming
from purerl.runs.clock import DIVERGED, INTERRUPTED, leaving
from purerl.runs.garbage_collection import paused
from purerl.settings import config, registry, schema
from purerl.settings.hyperparameters import Hyperparameters
from purerl.settings.kinds import Table, fields
from purerl.settings.schema import Plan

if TYPE_CHECKING:
    from purerl.environments.base import Environment
    from purerl.types import Constructor

Claimed: TypeAlias = "tuple[schema.Config, Environment, Constructor, Path | None, bool]"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line. Returns the exit status.

    0: done, 1: the disk is full, 2: bad input, 3: every seed has diverged, 130: cut short.
    """
    with leaving():
        ready = understood(sys.argv[1:] if arguments is None else arguments)
        return train(*ready) if ready else 0


@paused()
def understood(arguments: Sequence[str]) -> "Claimed | None":
    """What `train` takes, as `claimed` makes it; None where nothing is to train. Bad input ends it."""
    try:
        flags, options = parse(arguments)
        if options.resume is not None:
            resumable(options, flags)
        settings = config.resolve(flags, options.config)
        if options.print_config:
            print(config.to_toml(settings), end="")
            return None
        return claimed(settings, options)
    except ValueError as error:
        fail(error)
    except OSError as error:
        fail(f"cannot read {error.filename or 'the run'}: {error.strerror or error}; the same command goes on")


def parse(arguments: Sequence[str]) -> tuple[Table, Namespace]:
    """`({setting: text}, options)`. Only what was said is among the settings. Raises ValueError for unknown flags."""
    first = Parser(add_help=False, allow_abbrev=False)
    for name in ("algo", "env", "preset", "config"):
        first.add_argument(f"--{name}")
    said = vars(first.parse_known_args(arguments)[0])
    chosen = {name: value for name, value in said.items() if value is not None and name != "config"}
    helping = {"-h", "--help"} & set(arguments)
    defaults = config.resolve(chosen, said["config"]) if helping else None
    algo = defaults.job.algo if defaults else chosen.get("algo") or _algo_of(said["config"])
    parser, known = build_parser(algo, defaults)
    options, unknown = parser.parse_known_args(arguments)
    refuse_unknown(parser, unknown)
    settings = {name: value for name, value in vars(options).items() if name in known}
    return settings, options


def _algo_of(file: str | None) -> Any:
    """The algorithm that the file of `--config` names, if it does; what else is wrong with it is said later."""
    with suppress(ValueError):
        return config.read_toml(Path(file)).get("algo") if file else None


def build_parser(algo: Any, defaults: schema.Config | None) -> tuple[Parser, set[str]]:
    """`(parser, names of the settings)`: flags for all settings, with their help.

    Where `algo` is not said, the hyperparameters of every algorithm are among them.
    """
    parser = Parser(
        prog="python -m purerl.train",
        description=f"Train {registry.spoken()}, or an algorithm of your own, many seeds side by side, in one compiled "
        "program. Flags beat --config, which beats the environment's file in envs/, which beats the preset.",
        allow_abbrev=False,
        argument_default=argparse.SUPPRESS,
    )
    parts = (defaults.job, defaults.plan, defaults.keep, defaults.hyper) if defaults else ()
    values = {type(part): part for part in parts}
    hypers = [type(defaults.hyper)] if defaults else _hyperparameters(algo)
    groups = [
        ("the run", schema.Job),
        ("training (a new value compiles anew)", Plan),
        ("checkpoints, logs and devices", schema.Keep),
    ]
    groups += [(f"hyperparameters of {algo}", cls) for cls in hypers]
    settings = add_settings(parser, groups, values)
    output = parser.add_argument_group("output")
    output.add_argument("--out", metavar="FOLDER", default=None, help="folder of the run (default: runs/ALGO-ENV-TIME)")
    output.add_argument("--config", metavar="FILE", default=None, help="TOML file of settings, a run.toml for example")
    output.add_argument("--resume", metavar="FOLDER", default=None, help="continue the run in this folder")
    output.add_argument("--plan", action="store_true", default=False, help="print the memory that is needed, and exit")
    output.add_argument("--print-config", action="store_true", default=False, help="print the resolved TOML and end")
    add_cache(output)
    return parser, settings


def _hyperparameters(algo: Any) -> list[type[Hyperparameters]]:
    """The classes of hyperparameters whose flags are known: those of all algorithms, `algo` of a module among them."""
    own = {algo: registry.find_algorithm(algo)} if isinstance(algo, str) and ":" in algo else {}
    specs = own | registry.ALGORITHMS  # Of two flags of one name, the first counts: the chosen algorithm's.
    return [spec.hyperparameters for spec in specs.values()]


def claimed(settings: schema.Config, options: Namespace) -> Claimed:
    """`(settings, env, constructor of the algorithm, folder, whether nobody named it)`; to see the plan, no folder.

    The folder of an unfinished run of the same settings is gone on with. Raises ValueError for all that can be wrong
    before compiling.
    """
    from purerl.results import run_folder
    from purerl.runs import claims, runner  # Here, so that help and most errors need not wait for JAX.

    jax_flags.settle()
    use_compilation_cache(options.compilation_cache)
    tune_cpu()
    path = folder(settings.job, options)
    if options.resume is None:
        run_folder.check_writable(path)
    env, build = runner.prepare(settings)
    if options.plan:
        return settings, env, build, None, False
    settings, complete = claims.claim(path, settings)
    if complete:
        raise ValueError(f"the run in {str(path)!r} is complete already; name another folder, or delete it")
    return settings, env, build, path, options.out is None and options.resume is None


def folder(job: schema.Job, options: Namespace) -> Path:
    """Where the run is kept. Raises ValueError for a name that can be none."""
    if options.resume is not None:
        return Path(options.resume).expanduser()
    return naming.default(job) if options.out is None else naming.named(options.out)


def resumable(options: Namespace, flags: Table) -> None:
    """Take the settings of the run to be resumed. Raises ValueError where there is none, or where others were said."""
    said = [name for name in flags if name not in fields(schema.Keep)]
    said += [name for name in ("config", "out") if vars(options)[name] is not None]
    if said:
        words = " ".join(f"--{name.replace('_', '-')}" for name in said)
        raise ValueError(f"a resumed run keeps its settings and its folder; leave out {words}")
    path = Path(options.resume).expanduser()
    if path.is_file():
        raise ValueError(f"resume {options.resume!r} is a file; name the folder of the run, {str(path.parent)!r}")
    options.config = path / "run.toml"


def train(settings: schema.Config, env: "Environment", build: "Constructor", path: Path | None, unnamed: bool) -> int:
    """Train in the folder `path`, or, where nobody named it, in a new one of that name. Returns the exit status."""
    from purerl.runs import fitting, runner, summary
    from purerl.runs.display import Display

    job, display = settings.job, Display()
    try:
        if path is None:
            fitting.plan(settings, env, build, display)
            return 0
        path = naming.fresh(path) if unnamed else path
        display.say(f"{job.algo} on {env.name}, {summary.size(settings)}, into {path}")
        outcome = runner.run(settings, env, build, path, display)
    except Refused as error:
        fail(error)
    except OSError as error:
        return unwritable(error, f"all that was written before stays in {path}; go on with --resume {path}")
    return INTERRUPTED if outcome.interrupted else DIVERGED if outcome.all_diverged else 0


if __name__ == "__main__":
    sys.exit(main())
