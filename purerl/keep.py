"""`purerl keep`: copy settings, curves and some policies of a run into another folder, without its checkpoints."""

import sys
from collections.abc import Sequence
from pathlib import Path

from purerl.cli.parser import Parser, fail

DEFAULT = "best,median,worst"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return the exit status 0. Bad input ends the process with status 2."""
    parser = Parser(
        prog="purerl keep",
        description="Copy the settings, the curves and some policies of a run into a new folder, to store or to share "
        "them. Checkpoints, logs and pictures stay behind. The new folder can be plotted, evaluated, rendered and "
        "exported, but not resumed.",
        allow_abbrev=False,
    )
    parser.add_argument("run", metavar="RUN", help="folder of a run")
    parser.add_argument(
        "--policies",
        metavar="K,best,median,worst|all|none",
        default=DEFAULT,
        help="which policies: seeds, or ranks by final return (default: %(default)s)",
    )
    parser.add_argument("--setting", metavar="N", type=int, help="in a sweep, choose from this setting (default: all)")
    parser.add_argument("--out", metavar="FOLDER", required=True, help="a new folder")
    options = parser.parse_args(arguments)
    which = [each for each in options.policies.split(",") if each]
    try:
        if not which or ("none" in which and len(which) > 1):
            raise ValueError(f"policies is {options.policies!r}; use all, none, or a list as {DEFAULT}")
        from purerl.policies import keeping  # Imported here, so that --help does not wait for it.

        out = Path(options.out).expanduser()
        names = keeping.keep(Path(options.run).expanduser(), out, [] if which == ["none"] else which, options.setting)
    except (ValueError, OSError) as error:
        fail(error)
    size = sum(file.stat().st_size for file in out.rglob("*") if file.is_file())
    print(f"{out}: {size / 1e6:.1f} MB, with {'the policies of ' + ', '.join(names) if names else 'no policy'}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
