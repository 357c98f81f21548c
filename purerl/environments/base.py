"""An environment as three pure functions of one copy of it, and what goes wrong with a foreign one."""

from collections.abc import Callable
from functools import wraps
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from purerl.errors import attempt


class Outcome(NamedTuple):
    """What one step brings about: `reward`, float32, `terminated` and `truncated`, bool, all `[]`.

    `terminated` where the new state is absorbing. `truncated` where the environment itself ends the episode for another
    reason; its time limit is not its own business (`Environment.episode_length`).
    """

    reward: jax.Array
    terminated: jax.Array
    truncated: jax.Array


class Scene(NamedTuple):
    """What there is to see of an environment.

    Attributes:
        model: the `mujoco.MjModel` of its bodies.
        pose: `(state) -> {field: array}`, the fields of `mujoco.MjData` that say where they are: `qpos`, `mocap_pos` …
        timestep: seconds between two of its steps.
    """

    model: Any
    pose: Callable
    timestep: float


class Environment(NamedTuple):
    """One copy of an environment. No function resets by itself.

    Attributes:
        reset: `(key) -> state`, at the start of a random episode.
        step: `(state, action [action_size] in [-1, 1]) -> (state, Outcome)`.
        observe: `(state) -> observation [obs_size]`, float32.
        obs_size, action_size: Python ints.
        episode_length: the time limit [steps]; reaching it truncates.
        name: how the user called it.
        truncates: whether `step` itself may truncate; then the compact replay buffer cannot be used.
        action_range: (low, high), numbers or arrays `[action_size]`: what the actions -1 and 1 are in its own units.
        scene: how to draw it, or None where it has no bodies.
    """

    reset: Callable
    step: Callable
    observe: Callable
    obs_size: int
    action_size: int
    episode_length: int
    name: str
    truncates: bool = True
    action_range: tuple[Any, Any] = (-1.0, 1.0)
    scene: Scene | None = None


def physics(function):
    """`function` of arrays at full precision, for a reduced one ruins contacts; all programs share one trace of it."""

    @wraps(function)
    def precise(*args):
        with jax.default_matmul_precision("highest"):
            return function(*args)

    return jax.jit(precise)


def checked(env):
    """`env`, an `Environment` of anybody's, its physics at full precision.

    Raises ValueError where it breaks its contract: shapes, dtypes, or the structure of its state.
    """
    env = env._replace(reset=physics(env.reset), step=physics(env.step))
    state = attempt(f"{env.name}: reset(key)", lambda: jax.eval_shape(env.reset, jax.random.key(0)))
    action, what = jax.ShapeDtypeStruct((env.action_size,), jnp.float32), f"step(state, action [{env.action_size}])"
    after, outcome = attempt(f"{env.name}: {what}", lambda: jax.eval_shape(env.step, state, action))
    same_structure(state, after, env.name)
    observation = attempt(f"{env.name}: observe(state)", lambda: jax.eval_shape(env.observe, state))
    expected = {"observe(state)": (observation, "float32", (env.obs_size,)), "reward": (outcome.reward, "float32", ())}
    expected |= {name: (getattr(outcome, name), "bool", ()) for name in ("terminated", "truncated")}
    for name, (found, dtype, shape) in expected.items():
        if (found.dtype, found.shape) != (dtype, shape):
            raise ValueError(f"{env.name}: {name} is {found.dtype}{list(found.shape)}; it must be {dtype}{list(shape)}")
    return env


def scaled(action, action_range):
    """An action in [-1, 1], `[..., action_size]`, in the units of an environment."""
    low, high = action_range
    return low + (high - low) * (action + 1.0) / 2.0


def strong(tree):
    """`tree` without weak types: a carry that began weak would compile a second program."""
    return jax.tree.map(lambda x: jax.lax.convert_element_type(x, jnp.result_type(x)), tree)


def describe(tree):
    """`{path: dtype[shape]}` of a pytree of abstract arrays."""
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    return {jax.tree_util.keystr(path): f"{x.dtype}{list(x.shape)}" for path, x in leaves}


def same_structure(before: Any, after: Any, name: str):
    """Raises ValueError, naming the first difference, where a step of `name` changes the kind of its state."""
    if jax.tree.structure(before) == jax.tree.structure(after) and describe(before) == describe(after):
        return
    was, now = describe(before), describe(after)
    path = next((path for path in [*was, *now] if was.get(path) != now.get(path)), "the tree itself")
    raise ValueError(
        f"{name}: step does not return the kind of state that reset makes: {path} is {was.get(path, 'absent')} after "
        f"reset and {now.get(path, 'absent')} after step; make reset create it as step leaves it"
    )
