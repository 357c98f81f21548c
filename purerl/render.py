"""`purerl render`: draw an episode of a trained policy, as an interactive 3D page and as a film."""

import sys
from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path

from purerl import jax_flags
from purerl.cli.flags import add_cache, add_choice
from purerl.cli.parser import Parser, fail
from purerl.cli.startup import use_compilation_cache
from purerl.policies import load, rendering
from purerl.policies.film import FILMS, use_no_screen
from purerl.results import choice


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return the exit status 0. Bad input ends the process with status 2."""
    parser = Parser(
        prog="purerl render",
        description="Draw an episode of a trained policy, without exploration noise, as an interactive 3D page (Brax's "
        "viewer, which loads Three.js from the network) and as a film. No screen is needed.",
        allow_abbrev=False,
    )
    add_choice(parser)
    parser.add_argument(
        "--episode", metavar="N", type=int, default=0, help="number of the random initial state (default: %(default)s)"
    )
    parser.add_argument("--film", choices=(*FILMS, "none"), default="gif", help="film format (default: %(default)s)")
    parser.add_argument(
        "--seconds",
        metavar="X",
        type=float,
        default=10.0,
        help="maximum length of the film [seconds] (default: %(default)s)",
    )
    parser.add_argument("--out", metavar="FOLDER", help="output folder (default: RUN/render)")
    add_cache(parser)
    options = parser.parse_args(arguments)
    try:
        if not 0 < options.seconds < 1e6:
            raise ValueError(f"seconds is {options.seconds} but a film needs more than 0, and less than 1e6")
        render(options)
    except (ValueError, OSError) as error:
        fail(error)
    return 0


def render(options: Namespace) -> None:
    if options.film != "none":
        use_no_screen()
    jax_flags.settle()
    kept = load.read_policies(options.run, options.at)
    index = choice.choose(kept, options.seed, options.setting)
    use_compilation_cache(options.compilation_cache)
    env, job = rendering.environment(kept), kept.settings.job
    scene = rendering.scene_of(env)
    poses, rewards = rendering.episode(env, kept, index, options.episode)
    print(f"{job.algo} on {job.env}, {kept.name(index)}: return {rewards.sum():.1f} in {len(rewards)} steps")
    out = Path(options.out).expanduser() if options.out else kept.path / "render"
    for file in rendering.write(out / kept.file_name(index), scene, poses, options.film, options.seconds):
        print(file)


if __name__ == "__main__":
    sys.exit(main())
