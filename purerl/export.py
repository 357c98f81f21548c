"""`python -m purerl.export`: a trained policy as one file that other programs run, its normaliser inside."""

import sys
from collections.abc import Sequence
from pathlib import Path

from purerl import jax_flags
from purerl.cli.flags import add_choice
from purerl.cli.parser import Parser, fail
from purerl.policies import choice, exporting, load
from purerl.policies.formats import WRITERS


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line. Returns the exit status, 0; bad input ends it with 2."""
    parser = Parser(
        prog="python -m purerl.export",
        description="Write a trained policy as one file: npz (its layers, for NumPy), onnx, or stablehlo (for "
        "jax.export). It takes raw observations and gives actions in the environment's own units. Before the file is "
        "kept, it is compared with the policy that was trained.",
        allow_abbrev=False,
    )
    parser.add_argument("--format", choices=tuple(WRITERS), default="npz", help="kind of file (default: %(default)s)")
    add_choice(parser)
    parser.add_argument("--out", metavar="FILE", help="the file (default: RUN/policy/seed-K.FORMAT)")
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
    print(f"{out}: {job.algo} on {job.env}, {kept.name(index)}, {difference:.1e} from the trained policy at most")
    return 0


if __name__ == "__main__":
    sys.exit(main())
