"""`python -m purerl.plot`: the curves of runs, drawn each paper's way."""

import sys
from pathlib import Path

from purerl.cli.parser import Parser, fail
from purerl.settings import registry

STYLES = ("rliable", "td3", "sac", "spinningup")
FORMATS = (".png", ".svg", ".pdf")


def main(arguments=None):
    """Run the command line. Returns the exit status; bad input ends it with 2."""
    options = build_parser().parse_args(arguments)
    try:
        for line in draw(options):
            print(line)
    except ValueError as error:
        fail(error)
    except OSError as error:
        fail(f"cannot write {options.out}: {error.strerror}; name a file in a folder that can be written")
    return 0


def build_parser():
    parser = Parser(
        prog="python -m purerl.plot",
        description="Draw the learning curves of runs: a panel per environment, a line per set of seeds.",
        allow_abbrev=False,
    )
    parser.add_argument("runs", metavar="RUNS", nargs="+", help="run folders, or folders that hold some")
    parser.add_argument(
        "--by",
        metavar="NAME,NAME",
        default="algo",
        help="settings that tell lines apart, or run: a line per run (default: %(default)s)",
    )
    parser.add_argument("--x", choices=("env_step", "update", "wall_s"), default="env_step", help="the axis")
    parser.add_argument(
        "--style",
        choices=STYLES,
        default="rliable",
        help="IQM with a 95%% bootstrap interval; or the mean with half a std, smoothed; with min and max; with one "
        "std, smoothed (default: %(default)s)",
    )
    parser.add_argument("--published", action="store_true", help="published curves beside them, dashed")
    parser.add_argument("--out", metavar="FILE", required=True, help="a .png, .svg or .pdf")
    return parser


def draw(options):
    """Write the figure; returns lines that say what is in it. Raises ValueError for what cannot be drawn."""
    out = Path(options.out).expanduser()
    if out.suffix.lower() not in FORMATS:
        raise ValueError(f"out {options.out!r} is no picture; end it with {', '.join(FORMATS)}")
    if options.published and options.x != "env_step":
        raise ValueError(f"published curves are over env_step; leave out --published, or --x {options.x}")
    from purerl.results import (
        curves,  # Here, so that errors need not wait for them.
        figures,
    )

    by = [name for name in options.by.split(",") if name]
    if not by:
        raise ValueError("by names no setting; say algo, or run for a line per run")
    frame = curves.load(*options.runs, by=by)
    if options.x == "wall_s" and (run := curves.one_after_another(frame)):
        raise ValueError(f"the seeds of {run} trained in groups, one after another; draw it over --x env_step")
    panels = {}
    for (env, *key), part in frame.groupby(["env", *by], sort=False):
        panels.setdefault(env, {})[label(by, key)] = part
    others = find(frame, by) if options.published else {}
    shown = {
        env: {name: curves.gather(part, options.x) for name, part in lines.items()} for env, lines in panels.items()
    }
    figure = figures.compare(shown, options.x, options.style, others)
    out.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(out, dpi=300)
    said = [
        f"{env}: {figures.counted(name, runs.diverged)}" for env, lines in shown.items() for name, runs in lines.items()
    ]
    notes = [
        f"note: {name} on {env} pools runs that differ in {', '.join(differs)}; tell them apart with --by"
        for env, lines in panels.items()
        for name, part in lines.items()
        if (differs := curves.differing(part, *options.runs))
    ]
    names = {name for lines in shown.values() for name in lines}
    if len(names) > len(figures.PALETTE):
        notes.append(f"note: {len(names)} lines share {len(figures.PALETTE)} colours; draw fewer runs")
    return [*said, *notes]


def label(by, key):
    """`TD3`, or `TD3, tau 0.005`."""
    return ", ".join(registry.label(value) if name == "algo" else value if name == "run" else f"{name} {value}"
                     for name, value in zip(by, key, strict=True))  # fmt: skip


def find(frame, by):
    """`{env: {label: [published.Curve]}}`, with each algorithm's first line, of episodes as long as the published ones.

    Raises ValueError where there is none.
    """
    from purerl.results import published

    found = {}
    there = frame[[published.is_limit(*row) for row in zip(frame["env"], frame["limit"], strict=True)]]
    for (env, algo), part in there.groupby(["env", "algo"], sort=False):
        first = part.iloc[0]
        line = label(by, [first[name] for name in by])
        found.setdefault(env, {}).setdefault(line, []).extend(published.find(env, algo))
    if not any(curves for lines in found.values() for curves in lines.values()):
        envs = ", ".join(frame["env"].unique())
        raise ValueError(
            f"nothing is published for {envs}; known: {', '.join(published.tasks())}, in episodes of their own length"
        )
    return found


if __name__ == "__main__":
    sys.exit(main())
