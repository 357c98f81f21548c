"""`python -m purerl.export`: a trained policy as one file that other programs run, its normaliser inside."""

import sys
from pathlib import Path

import numpy as np

from purerl import jax_flags
from purerl.cli.flags import add_choice
from purerl.cli.parser import Parser, fail
from purerl.policies import acting, choice, load
from purerl.policies.formats import READERS, WRITERS, Exported
from purerl.policies.kept import about
from purerl.results import run_folder

TOLERANCE = 1e-5  # in units of half the action's range


def main(arguments=None):
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
        kept = load.read(options.run, options.at)
        index = choice.choose(kept, options.seed, options.setting)
        name = f"{kept.name(index).replace(' ', '-')}.{options.format}"
        out = Path(options.out).expanduser() if options.out else (kept.path / run_folder.POLICY).with_name(name)
        jax_flags.check_platform()
        difference = export(kept, index, options.format, out)
    except (ValueError, OSError) as error:
        fail(error)
    job = kept.settings.job
    print(f"{out}: {job.algo} on {job.env}, {kept.name(index)}, {difference:.1e} from the trained policy at most")
    return 0


def export(kept, index, format, out):
    """Write policy number `index` of `kept`, a `Policies`, to the file `out`.

    Returns the largest difference of an action from the trained policy's, in units of half its range, over 1024 random
    observations. Raises ValueError where it is more than 1e-5; then nothing is written.
    """
    policy = Exported(
        kept.layers(index), acting.trained(kept, index), kept.obs_size, kept.action_size, about(kept, index)
    )
    content, observation = WRITERS[format](policy), observations(kept, index)
    low, high = kept.action_range
    error = np.abs(READERS[format](content)(observation) - policy.function(observation)) * 2 / (high - low)
    if not error.max() <= TOLERANCE:
        raise ValueError(
            f"as {format}, actions differ by {error.max():.1e} from the trained policy's, more than {TOLERANCE}"
        )
    run_folder.write(out.parent, out.name, content)
    return float(error.max())


def observations(kept, index, count=1024):
    """Random observations `[count, obs_size]`, around those that were met where the normaliser knows them."""
    noise = 3 * np.random.default_rng(0).normal(size=(count, kept.obs_size)).astype(np.float32)
    _, statistics = acting.one(kept, index)
    return statistics["mean"] + np.sqrt(statistics["variance"]) * noise if statistics else noise


if __name__ == "__main__":
    sys.exit(main())
