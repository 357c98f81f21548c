"""`purerl plot`: draw learning curves of runs, in the style of rliable or of a paper."""

import sys
from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path

from purerl.cli.parser import Parser, fail

STYLES = ("rliable", "td3", "sac", "spinningup")
FORMATS = (".png", ".svg", ".pdf")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return the exit status. Bad input ends the process with status 2."""
    options = build_parser().parse_args(arguments)
    try:
        for line in draw(options):
            print(line)
    except ValueError as error:
        fail(error)
    except OSError as error:
        fail(f"cannot write {options.out}: {error.strerror}; choose a file in a writable folder")
    return 0


def build_parser() -> Parser:
    parser = Parser(
        prog="purerl plot",
        description="Draw learning curves of runs: one panel per environment, one line per set of seeds.",
        allow_abbrev=False,
    )
    parser.add_argument("runs", metavar="RUNS", nargs="+", help="folders of runs, or folders that contain them")
    parser.add_argument(
        "--by",
        metavar="NAME,NAME",
        default="algo",
        help="settings that define a line, or run: one line per run (default: %(default)s)",
    )
    parser.add_argument("--x", choices=("env_step", "update", "wall_s"), default="env_step", help="the horizontal axis")
    parser.add_argument(
        "--style",
        choices=STYLES,
        default="rliable",
        help="rliable: IQM with a 95%% bootstrap interval; td3: smoothed mean with half a standard deviation; sac: "
        "mean with minimum and maximum; spinningup: smoothed mean with one standard deviation (default: %(default)s)",
    )
    parser.add_argument("--published", action="store_true", help="also draw published curves, dashed")
    parser.add_argument("--out", metavar="FILE", required=True, help="a .png, .svg or .pdf file")
    return parser


def draw(options: Namespace) -> list[str]:
    """Write the figure and return lines that describe it. Raises ValueError if it cannot be drawn."""
    out = Path(options.out).expanduser()
    if out.suffix.lower() not in FORMATS:
        raise ValueError(f"out {options.out!r} is not a picture file; end it with {', '.join(FORMATS)}")
    if options.published and options.x != "env_step":
        raise ValueError(f"published curves have the axis env_step; leave out --published, or --x {options.x}")
    by = [name for name in options.by.split(",") if name]
    if not by:
        raise ValueError("by lists no setting; use algo, or run for one line per run")
    from purerl.results import panels  # Imported here, so that errors do not wait for it.

    figure, lines = panels.draw_panels(options.runs, by, options.x, options.style, options.published)
    out.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(out, dpi=300)
    return lines


if __name__ == "__main__":
    sys.exit(main())
