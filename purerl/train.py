"""`python -m purerl.train`: train, show how it goes, and leave curves and policies behind."""

import argparse
import os
import sys
from datetime import datetime
from functools import partial
from pathlib import Path

from purerl import config
from purerl.errors import closest
from purerl.settings import HYPERS, Plan, fields

INTERRUPTED = 130  # the exit status of a run that SIGINT or SIGTERM ended early, everything so far on disk


class Parser(argparse.ArgumentParser):
    """Errors are one line."""

    def error(self, message):
        fail(message)


def fail(message):
    print("error:", " ".join(str(message).split()), file=sys.stderr)
    raise SystemExit(2)


def main(arguments=None):
    """Run the command line. Returns the exit status: 0, 2 after bad input, 130 after an interruption."""
    arguments = sys.argv[1:] if arguments is None else arguments
    try:
        flags, options = parse(arguments)
        if options.resume is not None:
            resumable(options, flags)
        settings = config.resolve(flags, options.config)
        if options.print_config:
            print(config.to_toml(settings), end="")
            return 0
        ready = prepare(settings, options)
    except ValueError as error:
        fail(error)
    return train(settings, *ready)


def parse(arguments):
    """`({setting: text}, options)`. Only what was said is among the settings. Raises ValueError for unknown flags."""
    first = Parser(add_help=False, allow_abbrev=False)
    for name in ("algo", "env", "preset", "config"):
        first.add_argument(f"--{name}")
    said = vars(first.parse_known_args(arguments)[0])
    chosen = {name: value for name, value in said.items() if value is not None and name != "config"}
    helping = {"-h", "--help"} & set(arguments)
    defaults = config.resolve(chosen, said["config"]) if helping else None
    algo = defaults.job.algo if defaults else chosen.get("algo")
    parser = build_parser(algo, defaults)
    options, unknown = parser.parse_known_args(arguments)
    if unknown:
        known = tuple(option for action in parser._actions for option in action.option_strings)
        raise ValueError(f"unknown argument {unknown[0]!r}{closest(unknown[0], known)}")
    settings = {name: value for name, value in vars(options).items() if name in parser.settings}
    return settings, options


def build_parser(algo, defaults):
    """Flags for all settings, with their help; every algorithm's hyperparameters where `algo` is not said."""
    parser = Parser(
        prog="python -m purerl.train",
        description="Train DDPG, TD3 or SAC, many seeds side by side, in one compiled program. Flags beat --config, "
        "which beats the environment's file in envs/, which beats the preset.",
        allow_abbrev=False,
        argument_default=argparse.SUPPRESS,
    )
    parser.settings = set()
    values = defaults and {config.Job: defaults.job, Plan: defaults.plan, type(defaults.hyper): defaults.hyper}
    hypers = [type(defaults.hyper)] if defaults else HYPERS.values()
    groups = [("the run", config.Job), ("the plan (a new value compiles anew)", Plan)]
    groups += [(f"hyperparameters of {algo}", cls) for cls in hypers]
    for title, cls in groups:
        group = parser.add_argument_group(title)
        for name, (default, description, _) in fields(cls).items():
            if name not in parser.settings:
                add_setting(group, name, getattr(values[cls], name) if values else default, description, cls)
                parser.settings.add(name)
    output = parser.add_argument_group("output")
    output.add_argument("--out", metavar="FOLDER", default=None, help="folder of the run (default: runs/ALGO-ENV-TIME)")
    output.add_argument("--config", metavar="FILE", default=None, help="TOML file of settings, a run.toml for example")
    output.add_argument("--resume", metavar="FOLDER", default=None, help="go on with the run in this folder, exactly")
    for name, least, default, help in (
        ("--checkpoint-every", 0, 0, "evaluations between checkpoints; 0: only where interrupted (default: 0)"),
        ("--checkpoint-keep", 1, 3, "newest checkpoints that are kept (default: 3)"),
    ):
        output.add_argument(name, metavar="N", type=partial(natural, least=least), default=default, help=help)
    output.add_argument("--print-config", action="store_true", default=False, help="print the resolved TOML and end")
    output.add_argument(
        "--compilation-cache",
        metavar="FOLDER",
        default=os.environ.get("JAX_COMPILATION_CACHE_DIR", "~/.cache/purerl/xla"),
        help="folder that keeps compiled programs between runs; none: keep none (default: %(default)s)",
    )
    return parser


def add_setting(group, name, default, description, cls):
    shown = ",".join(map(str, default)) if isinstance(default, tuple) else str(default)
    flag = {"nargs": "?", "const": "true"} if isinstance(default, bool) else {}
    description = f"{description} (default: {shown.lower() if default in (True, False, None) else shown})"
    group.add_argument(f"--{name.replace('_', '-')}", metavar=form(cls, name), help=description, **flag)


def form(cls, name):
    """What a value looks like: N, X, true|false, N,N, NAME, or the names to choose from."""
    schema = fields(cls)[name][2].json_schema()
    schema = next((kind for kind in schema.get("anyOf", []) if kind["type"] != "null"), schema)
    if "enum" in schema:
        return "|".join(schema["enum"])
    return {"integer": "N", "number": "X", "boolean": "true|false", "array": "N,N"}.get(schema["type"], "NAME")


def prepare(settings, options):
    """`(env, constructor of the algorithm, place)`. Raises ValueError for all that can be wrong before compiling."""
    from purerl import results, runner  # Here, so that help and most errors need not wait for JAX.

    use_compilation_cache(options.compilation_cache)
    resumed = options.resume is not None
    if resumed and results.is_complete(options.resume, settings.plan.total_steps):
        raise ValueError(f"resume {options.resume!r} is complete already; there is nothing to go on with")
    env, build = runner.prepare(settings)
    if resumed:
        path = Path(options.resume)
    else:
        path = results.create(default_folder(settings.job) if options.out is None else options.out)
    return env, build, runner.Place(path, options.checkpoint_every, options.checkpoint_keep, resumed)


def resumable(options, flags):
    """Take the settings of the run to be resumed. Raises ValueError where there is none, or where others were said."""
    path = Path(options.resume)
    said = [*flags, *(name for name in ("config", "out") if vars(options)[name] is not None)]
    if said:
        said = " ".join(f"--{name.replace('_', '-')}" for name in said)
        raise ValueError(f"a resumed run keeps its settings and its folder; leave out {said}")
    if not any((path / "checkpoints").glob("[0-9]*")):
        raise ValueError(f"resume {options.resume!r} has no checkpoint; --checkpoint-every and Ctrl-C make them")
    options.config = path / "run.toml"


def natural(text, least):
    """A whole number from `least` on."""
    if not text.isdecimal() or len(text) > 9 or int(text) < least:
        raise argparse.ArgumentTypeError(f"{text!r} should be a whole number from {least} to 999999999")
    return int(text)


def train(settings, env, build, place):
    from purerl import runner
    from purerl.progress import Display

    display = Display(settings.plan.total_steps)
    display.say(f"{settings.job.algo} on {env.name}, {settings.job.num_seeds} seeds, into {place.path}; compiling")
    outcome = runner.run(settings, env, build, place, display)
    return 0 if outcome.complete else INTERRUPTED


def default_folder(job):
    name = job.env.rpartition(":")[2]
    return Path("runs") / f"{job.algo}-{name}-{datetime.now():%Y%m%d-%H%M%S}"


def use_compilation_cache(folder):
    import jax

    if folder.lower() == "none":
        return
    path = Path(folder).expanduser()
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ValueError(
            f"compilation_cache {folder!r} cannot be written: {error.strerror}; name a folder that can, or none"
        ) from None
    jax.config.update("jax_compilation_cache_dir", str(path.absolute()))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.5)


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:  # before the first evaluation, or for the second time
        print("interrupted", file=sys.stderr)
        sys.exit(INTERRUPTED)
