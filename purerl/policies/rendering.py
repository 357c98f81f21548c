"""An episode of a trained policy, played and drawn."""

from collections.abc import Iterator
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


def environment(kept: Policies) -> "Environment":
    """The environment to draw. Raises ValueError where it has no bodies, or other sizes than the policies."""
    env = acting.environment(kept.settings)
    scene_of(env)
    acting.check_sizes(kept, env, "it has changed since")
    return env


def scene_of(env: "Environment") -> "Scene":
    """What is drawn of an environment. Raises ValueError where it has no bodies."""
    if env.scene is None:
        raise ValueError(f"{env.name} has no bodies that could be drawn; what has: a MuJoCo model, as Brax's `sys` is")
    return env.scene


def episode(env: "Environment", kept: Policies, index: int, number: int) -> tuple[Poses, Float[np.ndarray, " steps"]]:
    """`(poses of its states [T + 1, ...], rewards [T])` of one whole episode, from the random start `number`."""
    import jax
    import jax.numpy as jnp

    act, scene = acting.act(kept), scene_of(env)

    @jax.jit
    def play(policy: tuple[Nested, Nested], key: "Key") -> Any:
        def step(carry: Any, _: None) -> Any:
            state, alive = carry
            state, outcome = env.step(state, act(*policy, env.observe(state)))
            going_on = alive & ~(outcome.terminated | outcome.truncated)
            return (state, going_on), (scene.pose(state), outcome.reward, alive)

        start = env.reset(key)
        return scene.pose(start), jax.lax.scan(step, (start, jnp.bool_(True)), None, env.episode_length)[1]

    first, (rest, rewards, alive) = jax.device_get(play(acting.one(kept, index), jax.random.key(number)))
    length = alive.sum()
    poses = {name: jnp.concatenate([first[name][None], rest[name][:length]]) for name in first}
    return jax.device_get(poses), rewards[:length]


def write(file: Path, scene: "Scene", poses: Poses, kind: str, seconds: float) -> Iterator[Path]:
    """Write the page of an episode, and a film of its first seconds unless its `kind` is "none".

    `file` is the path of both without its ending. Yields each path when it is written.
    """
    file.parent.mkdir(parents=True, exist_ok=True)
    yield _written(file, "html", page(scene, poses))
    if kind != "none":
        yield _written(file, kind, FILMS[kind](*frames(scene, poses, seconds)))


def _written(file: Path, ending: str, content: str | bytes) -> Path:
    name = f"{file.name}.{ending}"
    run_folder.write(file.parent, name, content)
    return file.parent / name
