"""`purerl train`: train, show the progress, and write curves and policies.

From Python, this module is also the function `purerl.train(...)`, which is `purerl.interface.training.train`.
"""

import argparse
import importlib
import inspect
import sys
from argparse import Namespace
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from purerl.cli.flags import add_cache, add_settings
from purerl.cli.parser import Parser, fail, refuse_unknown, unwritable
from purerl.errors import Refused
from purerl.interface import training
from purerl.results import naming
from purerl.runs.clock import DIVERGED, INTERRUPTED, leaving
from purerl.runs.garbage_collection import paused
from purerl.settings import config, registry, schema
from purerl.settings.hyperparameters import Hyperparameters
from purerl.settings.kinds import Table, checked, fields
from purerl.settings.schema import Plan

if TYPE_CHECKING:
    from purerl.interface.launch import Claimed


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return the exit status.

    0: done, 1: a file could not be written, 2: bad input, 3: every seed diverged, 130: stopped early.
    """
    with leaving():
        ready = understood(sys.argv[1:] if arguments is None else arguments)
        return train(ready) if ready else 0


@paused()
def understood(arguments: Sequence[str]) -> "Claimed | None":
    """Return the run to train, or None if there is nothing to train. Bad input ends the process."""
    try:
        flags, options = parse(arguments)
        options.longer = None
        if options.resume is not None:
            resumable(options, flags)
        if options.rescale_schedules and options.longer is None:
            raise ValueError("--rescale-schedules needs --resume FOLDER --total-steps N")
        settings = config.resolve(flags, options.config)
        if options.print_config:
            print(config.to_toml(_with_length(settings, options)), end="")
            return None
        return claimed(settings, options)
    except ValueError as error:
        fail(error)
    except OSError as error:
        fail(f"cannot read {error.filename or 'the run'}: {error.strerror or error}; run the same command to continue")


def _with_length(settings: schema.Config, options: Namespace) -> schema.Config:
    """Return the settings with the length of `--resume --total-steps`. Raises ValueError if it does not fit the run."""
    if options.longer in (None, settings.plan.total_steps):
        return settings
    from purerl.runs import extending

    return extending.longer(Path(options.resume), settings, options.longer)


def parse(arguments: Sequence[str]) -> tuple[Table, Namespace]:
    """Return `({setting: text}, options)`. Only settings that were given are included.

    Raises ValueError if a flag is unknown.
    """
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
    """Return the algorithm in the file of `--config`, or None. Errors in the file are reported later."""
    with suppress(ValueError):
        return config.read_toml(Path(file)).get("algo") if file else None


def build_parser(algo: Any, defaults: schema.Config | None) -> tuple[Parser, set[str]]:
    """Return `(parser, names of the settings)`, with a flag for each setting.

    Without `defaults`, the parser has the flags of all algorithms.
    """
    parser = Parser(
        prog="purerl train",
        description=f"Train {registry.spoken()}, or your own algorithm, with many seeds in one compiled program. Flags "
        "override --config, which overrides the environment's file in envs/, which overrides the preset.",
        allow_abbrev=False,
        argument_default=argparse.SUPPRESS,
    )
    parts = (defaults.job, defaults.plan, defaults.keep, defaults.hyper) if defaults else ()
    values = {type(part): part for part in parts}
    hypers = [type(defaults.hyper)] if defaults else _hyperparameters(algo)
    groups = [
        ("the run", schema.Job),
        ("training (a new value compiles a new program)", Plan),
        ("checkpoints, logs and devices", schema.Keep),
    ]
    groups += [(f"hyperparameters of {algo}", cls) for cls in hypers]
    settings = add_settings(parser, groups, values)
    output = parser.add_argument_group("output")
    output.add_argument("--out", metavar="FOLDER", default=None, help="folder of the run (default: runs/ALGO-ENV-TIME)")
    output.add_argument("--config", metavar="FILE", default=None, help="TOML file of settings, for example a run.toml")
    output.add_argument(
        "--resume",
        metavar="FOLDER",
        default=None,
        help="continue the run in this folder; with --total-steps N, make it longer",
    )
    output.add_argument(
        "--rescale-schedules",
        action="store_true",
        default=False,
        help="with --resume and --total-steps: let schedules follow the new length",
    )
    output.add_argument("--plan", action="store_true", default=False, help="print the required memory and exit")
    output.add_argument(
        "--print-config", action="store_true", default=False, help="print the resolved settings as TOML and exit"
    )
    add_cache(output)
    return parser, settings


def _hyperparameters(algo: Any) -> list[type[Hyperparameters]]:
    """Return the classes of hyperparameters of all algorithms, including `algo` if it is from a module."""
    own = {algo: registry.find_algorithm(algo)} if isinstance(algo, str) and ":" in algo else {}
    specs = own | registry.ALGORITHMS  # The chosen algorithm comes first: its flag counts if another has the name.
    return [spec.hyperparameters for spec in specs.values()]


def claimed(settings: schema.Config, options: Namespace) -> "Claimed":
    """Return the run, ready to start. With `--plan`, its folder is None.

    Raises ValueError for every error that is found before compiling.
    """
    from purerl.interface import launch  # Imported here, so that --help does not wait for JAX.

    launch.set_up_jax(options.compilation_cache)
    return launch.claimed(
        settings,
        folder(settings.job, options),
        resumes=options.resume is not None,
        unnamed=options.out is None and options.resume is None,
        only_planned=options.plan,
        total_steps=options.longer,
        rescale_schedules=options.rescale_schedules,
    )


def folder(job: schema.Job, options: Namespace) -> Path:
    """Return the folder of the run. Raises ValueError if its name is not valid."""
    if options.resume is not None:
        return Path(options.resume).expanduser()
    return naming.default(job) if options.out is None else naming.named(options.out)


def resumable(options: Namespace, flags: Table) -> None:
    """Make `options.config` the run.toml of the run to resume, and take `total_steps` out of `flags`.

    Raises ValueError if settings other than these and `Keep`, or another folder, were given, or if `--resume` is a
    file.
    """
    total_steps = flags.pop("total_steps", None)
    options.longer = None if total_steps is None else checked(Plan, "total_steps", total_steps)
    said = [name for name in flags if name not in fields(schema.Keep)]
    said += [name for name in ("config", "out") if vars(options)[name] is not None]
    if said:
        words = " ".join(f"--{name.replace('_', '-')}" for name in said)
        raise ValueError(
            f"a resumed run keeps its settings and its folder; leave out {words}, or begin a new run with --init-from"
        )
    path = Path(options.resume).expanduser()
    if path.is_file():
        raise ValueError(f"resume {options.resume!r} is a file; give the folder of the run, {str(path.parent)!r}")
    options.config = path / "run.toml"


def train(run: "Claimed") -> int:
    """Train and return the exit status. With `--plan`, print the required memory instead."""
    from purerl.interface import launch
    from purerl.runs import fitting
    from purerl.runs.display import Display

    path, display = run.path, Display()
    try:
        if path is None:
            fitting.plan(run.settings, run.env, run.build, display)
            return 0
        path = launch.named(run)
        outcome = launch.carried_out(run, path, display)
    except Refused as error:
        fail(error)
    except OSError as error:
        return unwritable(error, f"earlier files stay in {path}; continue with --resume {path}")
    return INTERRUPTED if outcome.interrupted else DIVERGED if outcome.all_diverged else 0


class CallableModule(ModuleType):
    """The class of this module, so that `purerl.train(...)` works whatever was imported first."""

    __signature__ = inspect.signature(training.train)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return training.train(*args, **kwargs)

    def __reduce__(self) -> tuple[Any, ...]:  # for pickle, which takes no modules
        return importlib.import_module, (self.__name__,)


CallableModule.__call__.__doc__ = training.train.__doc__
if __name__ == "__main__":
    sys.exit(main())
sys.modules[__name__].__class__ = CallableModule
