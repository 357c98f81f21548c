"""The command line that makes report.html again: `python -m purerl.report FOLDER`."""

import sys
from collections.abc import Sequence

from purerl.cli.parser import Parser, fail
from purerl.results import page


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line. Returns the exit status; bad input ends it with 2."""
    parser = Parser(
        prog="python -m purerl.report",
        description=f"Make {page.FILE}, one page that needs no network, of each folder of a run or a sweep.",
        allow_abbrev=False,
    )
    parser.add_argument("folders", metavar="FOLDER", nargs="+", help="the folder of a run, or one that holds some")
    for folder in parser.parse_args(arguments).folders:
        try:
            page.write_page(folder)
        except ValueError as error:
            fail(error)
        except OSError as error:
            fail(f"cannot write {folder}/{page.FILE}: {error.strerror}; make room, or the folder writable")
        print(f"{folder}/{page.FILE}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
