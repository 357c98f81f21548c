"""`purerl export`: write a trained policy, with its observation normalizer, as one file that other programs can run."""

import sys
from collections.abc import Sequence
from pathlib import Path

from purerl import jax_flags
from purerl.cli.flags import add_choice
from purerl.cli.parser import Parser, fail
from purerl.policies import exporting, load
from purerl.policies.formats import WRITERS
from purerl.results import choice


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return the exit status 0. Bad input ends the process with status 2."""
    parser = Parser(
        prog="purerl export",
        description="Write a trained policy as one file: npz (its layers, for NumPy), onnx, or stablehlo (for "
        "jax.export). It takes raw observations and returns actions in the environment's own units. The file is "
        "compared with the trained policy before it is kept.",
        allow_abbrev=False,
    )
    parser.add_argument("--format", choices=tuple(WRITERS), default="npz", help="kind of file (default: %(default)s)")
    add_choice(parser)
    parser.add_argument("--out", metavar="FILE", help="output file (default: RUN/policy/seed-K.FORMAT)")
    options = parser.parse_args(arguments)
    try:
        jax_flags.settle()
        kept = load.read_policies(options.run, options.at)
        index = choice.choose(kept, options.seed, options.setting)
        out = Path(options.out).expanduser() if options.out else exporting.file(kept, index, options.format)
        jax_flags.check_platform()
        difference = exporting.export(kept, index, options.format, out)
    except (ValueError, OSError) as error:
        fail(error)
    job = kept.settings.job
    what = f"{job.algo} on {job.env}, {kept.name(index)}"
    print(f"{out}: {what}, differs from the trained policy by at most {difference:.1e}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
