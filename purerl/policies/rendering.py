"""Play and draw an episode of a trained policy."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float

from purerl.policies import acting
from purerl.policies.film import FILMS, Poses, frames, page
from purerl.policies.kept import Policies
from purerl.policies.layers import Nested
from purerl.results import run_folder

if TYPE_CHECKING:
    from purerl.environments.base import Environment, Scene
    from purerl.types import Key

    Player = Callable[[tuple[Nested, Nested], Key], Any]


def environment(kept: Policies) -> "Environment":
    """Return the environment to draw. Raises ValueError if it has no bodies, or other sizes than the policies."""
    env = acting.environment(kept.settings)
    scene_of(env)
    acting.check_sizes(kept, env, "the environment has changed since the training")
    return env


def scene_of(env: "Environment") -> "Scene":
    """Return the `Scene` of an environment. Raises ValueError if it has none."""
    if env.scene is None:
        raise ValueError(f"{env.name} has no bodies to draw; drawing needs a MuJoCo model, for example Brax's `sys`")
    return env.scene


def episode(
    env: "Environment", kept: Policies, index: int, number: int, play: "Player | None" = None
) -> tuple[Poses, Float[np.ndarray, " steps"]]:
    """Return `(poses of the states [T + 1, ...], rewards [T])` of one whole episode from random start `number`.

    `play` is the result of `player`, for several episodes without compiling again.
    """
    import jax

    play = play or player(env, kept)
    first, (rest, rewards, alive) = jax.device_get(play(acting.one(kept, index), jax.random.key(number)))
    length = alive.sum()
    return {name: np.concatenate([first[name][None], rest[name][:length]]) for name in first}, rewards[:length]


def player(env: "Environment", kept: Policies) -> "Player":
    """Return a compiled function that plays one episode with a policy of `kept`, or of the same run at another time."""
    import jax
    import jax.numpy as jnp

    from purerl.environments import base

    act, scene = acting.act(kept), scene_of(env)

    @jax.jit
    def play(policy: tuple[Nested, Nested], key: "Key") -> Any:
        def step(carry: Any, _: None) -> Any:
            state, alive = carry
            state, outcome = base.act(env, state, act(*policy, env.observe(state)))
            going_on = alive & ~(outcome.terminated | outcome.truncated)
            return (state, going_on), (scene.pose(state), outcome.reward, alive)

        start = env.reset(key)
        return scene.pose(start), jax.lax.scan(step, (start, jnp.bool_(True)), None, env.episode_length)[1]

    return play


def write(file: Path, scene: "Scene", poses: Poses, kind: str, seconds: float) -> Iterator[Path]:
    """Write the web page of an episode, and a film of its first `seconds` unless `kind` is "none".

    `file` is the path of both files without the extension. Yields each path after writing it.
    """
    file.parent.mkdir(parents=True, exist_ok=True)
    yield _written(file, "html", page(scene, poses))
    if kind != "none":
        yield _written(file, kind, FILMS[kind](*frames(scene, poses, seconds)))


def _written(file: Path, ending: str, content: str | bytes) -> Path:
    name = f"{file.name}.{ending}"
    run_folder.write(file.parent, name, content)
    return file.parent / name
