"""`Environment`: three pure functions of one copy of an environment, and the checks of user environments."""

from collections.abc import Callable, Mapping
from functools import wraps
from typing import Any, NamedTuple, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Bool, Float, Float32, PyTree, Shaped

from purerl.environments import autoreset, observations
from purerl.errors import attempt
from purerl.types import Array, Key

State = PyTree  # of arrays: the state of one copy
Bound = Float[np.ndarray, ""] | Float[np.ndarray, " A"]
ActionRange = tuple[Bound, Bound]  # low, high
Function = TypeVar("Function", bound=Callable[..., Any])
Tree = TypeVar("Tree")

MOST = 2**31 - 1  # the largest size and the longest time limit


class Outcome(NamedTuple):
    """The result of one environment step. All fields are scalars `[]`.

    Attributes:
        reward: float32.
        terminated: bool, True if the new state is absorbing.
        truncated: bool, True if the environment ends the episode for another reason. It must not apply the time limit:
            purerl does (`Environment.episode_length`).
    """

    reward: Float[Array, ""]
    terminated: Bool[Array, ""]
    truncated: Bool[Array, ""]


class Scene(NamedTuple):
    """How to draw an environment.

    Attributes:
        model: the `mujoco.MjModel` of its bodies.
        pose: `(state) -> {field: array}`, the fields of `mujoco.MjData` that define the pose: `qpos`, `mocap_pos` …
        timestep: seconds between two environment steps.
    """

    model: Any
    pose: Callable[[State], dict[str, Array]]
    timestep: float


class Environment(NamedTuple):
    """One copy of an environment, as pure functions. No function may start a new episode by itself.

    Attributes:
        reset: `(key) -> state`, the start of a random episode.
        step: `(state, action [action_size]) -> (state, Outcome)`. The action is in the environment's units, within
            `action_range`. `act` takes an action in [-1, 1].
        observe: `(state) -> observation [obs_size]`, float32. It may also be a dict of such vectors, which `checked`
            joins (`observations`).
        obs_size, action_size: Python ints.
        episode_length: the time limit [steps]. An episode that reaches it is truncated.
        name: the name that the user gave.
        truncates: whether `step` itself may truncate. If it may, the compact replay buffer cannot be used.
        action_range: (low, high), numbers or arrays `[action_size]`: the least and the greatest action. A policy's
            actions -1 and 1 become these.
        scene: how to draw the environment, or None if it has no bodies.
        actor_obs_size: how many numbers of an observation the actor reads, the first ones. The critic reads all. None:
            the actor reads all, too. With a dict that has the entry `privileged_state`, it follows from the dict.
    """

    reset: Callable[[Key], State]
    step: Callable[[State, Float[Array, " A"]], tuple[State, Outcome]]
    observe: Callable[[State], Float[Array, " obs"]]
    obs_size: int
    action_size: int
    episode_length: int
    name: str
    truncates: bool = True
    action_range: tuple[ArrayLike, ArrayLike] = (-1.0, 1.0)
    scene: Scene | None = None
    actor_obs_size: int | None = None


def physics(function: Function) -> Function:
    """Return `function`, compiled at full matrix precision. Reduced precision breaks contacts.

    All programs share one trace of the function.
    """
    if getattr(function, "is_physics", False):
        return function

    @wraps(function)
    def precise(*args: Any) -> Any:
        with jax.default_matmul_precision("highest"):
            return strong(function(*args))

    compiled: Any = jax.jit(precise)
    compiled.is_physics = True
    return compiled


def checked(
    env: Environment, own_step: Callable[[State, Float[Array, " A"]], tuple[State, Outcome]] | None = None
) -> Environment:
    """Return `env` with physics at full precision, after checking its contract. Every adapter calls this last.

    `own_step` is a step whose outcome contains every end that the environment itself declares. It is needed if the
    outcome of `env.step` does not.

    Raises ValueError before anything is compiled if `env` breaks its contract. The checks cover the types and limits of
    its fields, shapes, dtypes, the structure of its state, and steps that start new episodes by themselves.
    """
    env = declared(env)
    env = env._replace(reset=physics(env.reset), step=physics(env.step))
    key = jax.eval_shape(lambda: jax.random.key(0))
    state = attempt(f"{env.name}: reset(key)", lambda: jax.eval_shape(env.reset, key))
    if not jax.tree.leaves(state):
        raise ValueError(f"{env.name}: reset(key) returns {shown(state)}; a state must hold at least one array")
    action = jax.ShapeDtypeStruct((env.action_size,), jnp.float32)
    _check_step(env, state, action)
    observation = attempt(f"{env.name}: observe(state)", lambda: jax.eval_shape(env.observe, state))
    if isinstance(observation, Mapping):
        env, observation = _joined(env, state, observation)
    _check_kind(env.name, "observe(state)", observation, "float32", (env.obs_size,))
    autoreset.refuse_resetting(env.name, (env.reset, key), (own_step or env.step, state, action))
    return env


def _joined(env: Environment, state: State, observation: Mapping[Any, Any]) -> tuple[Environment, jax.ShapeDtypeStruct]:
    """Return `env`, whose `observe` returns a dict, with one that returns a vector, and that vector.

    Raises ValueError if the sizes of `env` are not those of the dict.
    """
    observe, what = env.observe, f"{env.name}: observe(state)"
    joined = env._replace(observe=lambda state: observations.joined(observe(state), observations.flat_float32))
    vector = attempt(what, lambda: jax.eval_shape(joined.observe, state))
    seen, entries = observations.actor_size(observation), observations.sizes(observation)
    if env.obs_size != vector.shape[0]:
        raise ValueError(f"{what} has {vector.shape[0]} numbers ({entries}); obs_size is {env.obs_size}")
    if env.actor_obs_size not in (None, seen):
        raise ValueError(
            f"{env.name}: actor_obs_size is {env.actor_obs_size}, but the entries of an observation are {entries}; "
            "leave actor_obs_size out: the actor reads all but privileged_state"
        )
    return joined._replace(actor_obs_size=seen), vector


def _check_step(env: Environment, state: State, action: jax.ShapeDtypeStruct) -> None:
    what = f"step(state, action [{env.action_size}])"
    result = attempt(f"{env.name}: {what}", lambda: jax.eval_shape(env.step, state, action))
    if not isinstance(result, tuple) or len(result) != 2 or not all(hasattr(result[1], x) for x in Outcome._fields):
        kinds = f"({', '.join(type(x).__name__ for x in result)})" if type(result) is tuple else type(result).__name__
        raise ValueError(f"{env.name}: {what} returns {kinds}; it must return (state, Outcome)")
    after, outcome = result
    same_structure(state, after, env.name)
    for field, dtype in (("reward", "float32"), ("terminated", "bool"), ("truncated", "bool")):
        _check_kind(env.name, field, getattr(outcome, field), dtype, ())


def _check_kind(name: str, what: str, found: PyTree, dtype: str, shape: tuple[int, ...]) -> None:
    if describe(found) != {"": f"{dtype}{list(shape)}"}:
        kind = describe(found).get("", type(found).__name__)
        wide = jax.config.jax_enable_x64  # pyright: ignore[reportAttributeAccessIssue]  # JAX defines its flags late
        flag = " also where jax_enable_x64 is set" if wide else ""
        raise ValueError(f"{name}: {what} is {kind}; it must be {dtype}{list(shape)}{flag}")


def declared(env: Environment) -> Environment:
    """Return `env` with sizes and limits as ints and float32. Raises ValueError if a field is invalid.

    No function of `env` is called.
    """
    if not isinstance(env, Environment):
        raise ValueError(f"an environment is a name or an Environment, not {shown(env)}")
    if not isinstance(env.name, str) or not env.name:
        raise ValueError(f"Environment: name is {shown(env.name)}; it must be a str that is not empty")
    for field in ("reset", "step", "observe"):
        if not callable(getattr(env, field)):
            raise ValueError(f"{env.name}: {field} is {shown(getattr(env, field))}; it must be a function")
    if not isinstance(env.truncates, bool | np.bool_):
        raise ValueError(f"{env.name}: truncates is {shown(env.truncates)}; it must be True or False")
    if env.scene is not None and not isinstance(env.scene, Scene):
        raise ValueError(f"{env.name}: scene is of {type(env.scene).__name__}; it must be a Scene or None")
    counts = {x: whole(env.name, x, getattr(env, x)) for x in ("obs_size", "action_size", "episode_length")}
    seen = _actor_obs_size(env.name, env.actor_obs_size, counts["obs_size"])
    return env._replace(
        **counts, actor_obs_size=seen, action_range=bounds(env.name, env.action_range, counts["action_size"])
    )


def _actor_obs_size(name: str, value: Any, obs_size: int) -> int | None:
    """Return how many numbers the actor reads, or None for all. Raises ValueError if there are not so many."""
    if value is None:
        return None
    size = whole(name, "actor_obs_size", value)
    if size > obs_size:
        raise ValueError(f"{name}: actor_obs_size is {size}; it must be at most obs_size, {obs_size}")
    return None if size == obs_size else size


def shown(value: object) -> str:
    """Return the repr of a value, shortened to 80 characters."""
    text = " ".join(repr(value).split())
    return text if len(text) <= 80 else f"{text[:77]}..."


def whole(name: str, field: str, value: Any) -> int:
    """Return `value` as an int. Raises ValueError if it is no int, or not between 1 and `MOST`."""
    if isinstance(value, bool) or not isinstance(value, int | np.integer) or not 1 <= value <= MOST:
        raise ValueError(f"{name}: {field} is {shown(value)}; it must be a positive int, up to {MOST}")
    return int(value)


def bounds(name: str, action_range: Any, action_size: int) -> ActionRange:
    """Return `(low, high)` as float32, `[]` or `[action_size]`.

    Raises ValueError if the bounds are not finite, or if low is not below high.
    """
    said = f"{name}: action_range is {shown(action_range)}"
    try:
        low, high = (np.asarray(bound) for bound in action_range)
    except (TypeError, ValueError):
        raise ValueError(f"{said}; it must be a pair (low, high)") from None
    for bound in (low, high):
        if bound.dtype.kind not in "iuf" or bound.shape not in ((), (action_size,)):
            allowed = f"numbers, or arrays of shape ({action_size},)"
            raise ValueError(f"{said}, of {bound.dtype}{list(bound.shape)}; low and high must be {allowed}")
    with np.errstate(over="ignore", invalid="ignore"):
        low, high = low.astype(np.float32), high.astype(np.float32)
        span = high - low
    if not (np.isfinite(low).all() and np.isfinite(span).all() and (span > 0).all()):
        raise ValueError(f"{said}; the bounds must be finite in float32, with low below high")
    return low, high


def scalar(value: Any, field: str, dtype: type) -> Shaped[Array, ""]:
    """Return `value` as an array `[]`. Raises ValueError if it is not one real number."""
    if jnp.shape(value) != ():
        raise ValueError(f"{field} must be a scalar, not of shape {jnp.shape(value)}")
    return _real(value, field).astype(dtype)


def vector(value: Any, reward: Any) -> Float32[Array, " obs"]:
    """Return an observation as float32 `[obs_size]`. Raises ValueError if it is not a flat vector of real numbers."""
    if not hasattr(value, "shape") or len(value.shape) != 1:
        shapes = jax.tree.map(jnp.shape, value)
        copies = jnp.shape(reward)[:1]
        batch = f"; {autoreset.ONE_COPY}" if copies and jnp.shape(value)[:1] == copies else ""
        raise ValueError(f"observations must be one flat vector, not {shapes}{batch}")
    return _real(value, "an observation").astype(jnp.float32)


def _real(value: Any, field: str) -> Shaped[Array, "..."]:
    value = jnp.asarray(value)
    if not (jnp.issubdtype(value.dtype, jnp.floating) or jnp.issubdtype(value.dtype, jnp.integer)) and (
        value.dtype != bool
    ):
        raise ValueError(f"{field} must be real numbers, not {value.dtype}")
    return value


def ends(state: Any) -> tuple[Bool[Array, ""], Bool[Array, ""]]:
    """Return `(terminated, truncated)` of a Brax or Playground state.

    If `info["truncation"]` is set, `done` is a truncation. Otherwise it is a termination.
    """
    done = scalar(state.done, "done", bool)
    truncated = done & scalar(getattr(state, "info", {}).get("truncation", False), "truncation", bool)
    return done & ~truncated, truncated


def actions_of(env: Environment, num_envs: int, actions: Any) -> Float32[np.ndarray, "E A"]:
    """Return `actions` as float32 `[num_envs, action_size]`.

    Raises ValueError if they have another shape, are not real numbers or are not finite.
    """
    expected = (num_envs, env.action_size)
    try:
        actions = np.asarray(actions)
    except ValueError:
        raise ValueError(f"{env.name}: actions are of different lengths; they must be of shape {expected}") from None
    if actions.shape != expected:
        raise ValueError(f"{env.name}: actions are of shape {actions.shape}; they must be of shape {expected}")
    if actions.dtype.kind not in "iuf" and actions.dtype != jnp.bfloat16:
        raise ValueError(f"{env.name}: actions are of {actions.dtype}; they must be real numbers")
    actions = actions.astype(np.float32)
    if not np.isfinite(actions).all():
        row = int(np.flatnonzero(~np.isfinite(actions).all(axis=1))[0])
        raise ValueError(f"{env.name}: the action of environment {row} is {actions[row].tolist()}; it must be finite")
    return actions


def act(env: Environment, state: State, action: Float[Array, " A"]) -> tuple[State, Outcome]:
    """Return `env.step` after an action of a policy, `[action_size]` in [-1, 1]. Everything that trains calls this.

    It is the only place where actions are scaled to `env.action_range`.
    """
    return env.step(state, scaled(action, env.action_range))


def scaled(action: Float[Array, "*batch A"], action_range: tuple[ArrayLike, ArrayLike]) -> Float[Array, "*batch A"]:
    """Return an action from [-1, 1], `[..., action_size]`, in the environment's units.

    If the range is (-1, 1), the action is returned as it is, without rounding.
    """
    low, high = (np.asarray(bound) for bound in action_range)
    if (low == -1).all() and (high == 1).all():
        return action
    return low + (high - low) * (action + 1.0) / 2.0  # pyright: ignore[reportReturnType]  # the stubs say NumPy


def strong(tree: Tree) -> Tree:
    """Return `tree` without weak types. A carry that starts with a weak type would compile a second program."""
    return jax.tree.map(lambda x: jax.lax.convert_element_type(x, jnp.result_type(x)), tree)


def describe(tree: PyTree) -> dict[str, str]:
    """Return `{path: dtype[shape]}` of a pytree of abstract arrays."""
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    return {jax.tree_util.keystr(path): f"{x.dtype}{list(x.shape)}" for path, x in leaves}


def same_structure(before: PyTree, after: PyTree, name: str) -> None:
    """Raise ValueError if a step of `name` changes the structure, shapes or dtypes of the state.

    The message names the first difference.
    """
    if jax.tree.structure(before) == jax.tree.structure(after) and describe(before) == describe(after):
        return
    was, now = describe(before), describe(after)
    path = next((path for path in [*was, *now] if was.get(path) != now.get(path)), "the tree itself")
    raise ValueError(
        f"{name}: step does not return the kind of state that reset makes: {path} is {was.get(path, 'absent')} after "
        f"reset and {now.get(path, 'absent')} after step; make reset create it as step returns it"
    )
