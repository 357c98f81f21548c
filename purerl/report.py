"""`purerl report`: write report.html of runs and sweeps again."""

import sys
from collections.abc import Sequence

from purerl.cli.parser import Parser, fail
from purerl.results import page


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return the exit status. Bad input ends the process with status 2."""
    parser = Parser(
        prog="purerl report",
        description=f"Write {page.FILE} in each folder of a run or a sweep: one page that needs no network.",
        allow_abbrev=False,
    )
    parser.add_argument(
        "folders", metavar="FOLDER", nargs="+", help="the folder of a run, or a folder that contains runs"
    )
    for folder in parser.parse_args(arguments).folders:
        try:
            page.write_page(folder)
        except ValueError as error:
            fail(error)
        except OSError as error:
            fail(f"cannot write {folder}/{page.FILE}: {error.strerror}; free some space, or make the folder writable")
        print(f"{folder}/{page.FILE}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
