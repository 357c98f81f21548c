"""`python -m purerl.render`: an episode of a trained policy, as a page that one turns and plays, and as a film."""

import sys
from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path

from purerl import jax_flags
from purerl.cli.flags import add_cache, add_choice
from purerl.cli.parser import Parser, fail
from purerl.cli.startup import use_compilation_cache
from purerl.policies import choice, load, rendering
from purerl.policies.film import FILMS, use_no_screen


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line. Returns the exit status, 0; bad input ends it with 2."""
    parser = Parser(
        prog="python -m purerl.render",
        description="Draw an episode of a trained policy, without exploration noise: a page to turn and play (Brax's "
        "viewer; it loads Three.js from the network), and a film. No screen is needed.",
        allow_abbrev=False,
    )
    add_choice(parser)
    parser.add_argument("--episode", metavar="N", type=int, default=0, help="which random start (default: %(default)s)")
    parser.add_argument("--film", choices=(*FILMS, "none"), default="gif", help="kind of film (default: %(default)s)")
    parser.add_argument(
        "--seconds", metavar="X", type=float, default=10.0, help="length of the film at most (default: %(default)s)"
    )
    parser.add_argument("--out", metavar="FOLDER", help="where to (default: RUN/render)")
    add_cache(parser)
    options = parser.parse_args(arguments)
    try:
        if not 0 < options.seconds < 1e6:
            raise ValueError(f"seconds is {options.seconds} but a film takes more than 0")
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
