"""An episode of a trained policy, played and drawn."""

from purerl.policies import acting
from purerl.policies.film import FILMS, frames, page
from purerl.results import run_folder


def environment(kept):
    """The environment to draw. Raises ValueError where it has no bodies, or other sizes than the policies."""
    env, job = acting.environment(kept.settings), kept.settings.job
    if env.scene is None:
        raise ValueError(f"{job.env} has no bodies that could be drawn; what has: a MuJoCo model, as Brax's `sys` is")
    acting.check_sizes(kept, env, "it has changed since")
    return env


def episode(env, kept, index, number):
    """`(poses of its states [T + 1, ...], rewards [T])` of one whole episode, from the random start `number`."""
    import jax
    import jax.numpy as jnp

    act = acting.act(kept)

    @jax.jit
    def play(policy, key):
        def step(carry, _):
            state, alive = carry
            state, outcome = env.step(state, act(*policy, env.observe(state)))
            going_on = alive & ~(outcome.terminated | outcome.truncated)
            return (state, going_on), (env.scene.pose(state), outcome.reward, alive)

        start = env.reset(key)
        return env.scene.pose(start), jax.lax.scan(step, (start, jnp.bool_(True)), None, env.episode_length)[1]

    first, (rest, rewards, alive) = jax.device_get(play(acting.one(kept, index), jax.random.key(number)))
    length = alive.sum()
    poses = {name: jnp.concatenate([first[name][None], rest[name][:length]]) for name in first}
    return jax.device_get(poses), rewards[:length]


def write(file, scene, poses, kind, seconds):
    """Write the page of an episode, and a film of its first seconds unless its `kind` is "none".

    `file` is the path of both without its ending. Yields each path when it is written.
    """
    file.parent.mkdir(parents=True, exist_ok=True)
    yield _written(file, "html", page(scene, poses))
    if kind != "none":
        yield _written(file, kind, FILMS[kind](*frames(scene, poses, seconds)))


def _written(file, ending, content):
    name = f"{file.name}.{ending}"
    run_folder.write(file.parent, name, content)
    return file.parent / name
