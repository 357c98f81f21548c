"""`python -m purerl.plot`: the curves of runs, drawn each paper's way."""

import sys
from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path

from purerl.cli.parser import Parser, fail

STYLES = ("rliable", "td3", "sac", "spinningup")
FORMATS = (".png", ".svg", ".pdf")


def main(arguments: Sequence[str] | None = None) -> int:
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


def build_parser() -> Parser:
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


def draw(options: Namespace) -> list[str]:
    """Write the figure; returns lines that say what is in it. Raises ValueError for what cannot be drawn."""
    out = Path(options.out).expanduser()
    if out.suffix.lower() not in FORMATS:
        raise ValueError(f"out {options.out!r} is no picture; end it with {', '.join(FORMATS)}")
    if options.published and options.x != "env_step":
        raise ValueError(f"published curves are over env_step; leave out --published, or --x {options.x}")
    by = [name for name in options.by.split(",") if name]
    if not by:
        raise ValueError("by names no setting; say algo, or run for a line per run")
    from purerl.results import panels  # Here, so that errors need not wait for it.

    figure, lines = panels.draw_panels(options.runs, by, options.x, options.style, options.published)
    out.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(out, dpi=300)
    return lines


if __name__ == "__main__":
    sys.exit(main())
