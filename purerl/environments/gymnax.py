"""Adapter from environments in the style of gymnax to `Environment`. gymnax itself is not needed.

gymnax's `step` starts a new episode by itself and may lose the last observation. purerl calls `step_env`, which does
not. Three conventions for the end of an episode are supported:

- gymnax up to 0.0.9: `done` means termination or truncation.
- gymnax from 1.0: `step_env` returns `terminated`, and `is_truncated` returns truncation.
- `step_env` returns six values, with truncation among them.

Observations, rewards and states depend on the environment's `max_steps_in_episode`. To find out whether an end has
another reason than the time limit, purerl computes a second step. It starts from the same state with the same key,
under a limit that cannot be reached. Only the end of the episode is kept from that step. XLA computes the common parts
once.
"""

import contextlib
import copy
import dataclasses
import inspect
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Bool, Float, Float32, PyTree, Shaped, UInt32

from purerl.environments import Length, names, observations
from purerl.environments.base import ActionRange, Environment, Outcome, checked, physics, scalar, vector, whole
from purerl.errors import attempt, require
from purerl.types import Array, Key

LIMIT = "max_steps_in_episode"  # gymnax's name of the time limit among the parameters
NO_LIMIT = 2**30  # steps


class State(NamedTuple):
    """The environment's state, its observation `[obs_size]`, and the random key of the next step."""

    state: PyTree
    observation: Float32[Array, " obs"]
    key: UInt32[Array, " words"]


def is_one(kind: type) -> bool:
    """Return whether a class is in the style of gymnax."""
    return all(callable(getattr(kind, name, None)) for name in ("reset_env", "step_env", "action_space"))


def make(name: str, backend: str | None = None, episode_length: Length = None) -> Environment:
    """Return the environment that gymnax registers as `name`, with its default parameters.

    Raises ValueError if there is no such environment.
    """
    gymnax = require("gymnax", "gymnax", f"gymnax:{name}")
    if backend is not None:
        raise ValueError(f"gymnax:{name} has no backend {backend!r}; leave the backend out")
    if name not in gymnax.registered_envs:
        raise ValueError(names.unknown("gymnax has no environment", name, gymnax.registered_envs))
    env, params = attempt(f"making gymnax:{name}", lambda: gymnax.make(name))
    return from_gymnax(env, params, episode_length, f"gymnax:{name}")


def from_gymnax(env: Any, params: Any = None, episode_length: Length = None, name: str | None = None) -> Environment:
    """Return an environment in the style of gymnax as an `Environment`.

    If `params` is None, the environment's own parameters are used, if it has any. If `episode_length` is None, the time
    limit is `max_steps_in_episode` of `params`, or 1000. Another `episode_length` replaces it in `params`, so that
    observations and rewards use the same time limit.

    Actions must be a vector within finite bounds. Observations must be one array, which is flattened, or a dict of such
    arrays (`observations`). Raises ValueError if they are not, or if the environment breaks its contract.
    """
    name = name or type(env).__name__
    if not is_one(type(env)):
        methods = "reset_env, step_env and action_space"
        raise ValueError(f"{name}: {type(env).__name__} has no {methods} of its own; give the environment it wraps")
    params, length = _own(env, params, episode_length, name)
    far = _with_limit(params, max(NO_LIMIT, length), name)
    action_range, shape = _action_range(
        attempt(f"{name}: action_space(params)", lambda: env.action_space(params)), name
    )

    @physics
    def reset(key: Key) -> State:
        reset_key, key = jax.random.split(key)
        observation, state = env.reset_env(reset_key, params)
        return State(state, _flat(observation), jax.random.key_data(key))

    def advance(state: State, action: Float[Array, " A"], limited: Any) -> tuple[State, Outcome]:
        """Return a step with `params`, whose end is that of a step with the parameters `limited`."""
        step_key, key = jax.random.split(jax.random.wrap_key_data(state.key))
        action = action.reshape(shape)

        def advanced(params: Any) -> Sequence[Any]:
            result = env.step_env(step_key, state.state, action, params)
            if len(result) not in (5, 6):
                raise ValueError(f"it returns {len(result)} values; they must be 5, or 6 with truncation")
            return result

        observation, after, reward, *_ = result = advanced(params)
        ends = _ends(env, result if limited is params else advanced(limited), after, limited)
        after = State(after, _flat(observation), jax.random.key_data(key))
        return after, Outcome(_one(reward, "reward", jnp.float32), *ends)

    @physics
    def step(state: State, action: Float[Array, " A"]) -> tuple[State, Outcome]:
        return advance(state, action, far)

    state = attempt(f"{name}: reset_env(key, params)", lambda: jax.eval_shape(reset, jax.random.key(0)))
    sizes = state.observation.shape[0], int(np.prod(shape))
    seen = observations.actor_size(jax.eval_shape(lambda key: env.reset_env(key, params)[0], jax.random.key(0)))
    made = Environment(reset, step, lambda state: state.observation, *sizes, length, name, True, action_range)
    made = made._replace(actor_obs_size=seen)
    return checked(made, lambda state, action: advance(state, action, params))


def _limit(params: Any) -> Any:
    return params.get(LIMIT) if isinstance(params, Mapping) else getattr(params, LIMIT, None)


def _own(env: Any, params: Any, episode_length: Length, name: str) -> tuple[Any, int]:
    """Return `(params, time limit)`: the parameters that the environment gets, with the time limit in use."""
    if params is None and inspect.getattr_static(env, "default_params", None) is not None:
        params = attempt(f"{name}: default_params", lambda: env.default_params)
    limit = _limit(params)
    if episode_length is not None:
        length = whole(name, "episode_length", episode_length)
        return _with_limit(params, length, name), length
    return params, 1000 if limit is None else whole(name, LIMIT, _plain(limit))


def _plain(limit: Any) -> Any:
    """Return a limit as an int if it is an array of one number or a whole float. Some limits of gymnax are floats."""
    number = limit.item() if isinstance(limit, np.ndarray | np.generic | jax.Array) and limit.size == 1 else limit
    return int(number) if isinstance(number, float) and number.is_integer() else number


def _with_limit(params: Any, limit: int, name: str) -> Any:
    """Return a copy of `params` with another time limit. Parameters without one are returned unchanged."""
    if _limit(params) is None:
        return params
    return attempt(f"{name}: setting {LIMIT} of a {type(params).__name__}", lambda: _replaced(params, {LIMIT: limit}))


def _replaced(params: Any, change: dict[str, Any]) -> Any:
    if hasattr(params, "_replace"):  # a NamedTuple
        return params._replace(**change)
    if isinstance(params, type):
        return type(params.__name__, (params,), change)
    if dataclasses.is_dataclass(params) and not isinstance(params, type):
        with contextlib.suppress(TypeError, ValueError):  # if its constructor takes other arguments
            return dataclasses.replace(params, **change)
    elif isinstance(params, Mapping):
        kind: Any = type(params)
        return kind({**params, **change})
    changed = copy.copy(params)
    for field, value in change.items():
        object.__setattr__(changed, field, value)
    return changed


def _ends(env: Any, result: Sequence[Any], after: Any, params: Any) -> tuple[Bool[Array, ""], Bool[Array, ""]]:
    """Return `(terminated, truncated)` of the `result` of a step that led to `after`."""
    _, _, _, terminated, *truncated, _ = result
    if not truncated and hasattr(env, "is_truncated"):
        truncated = [env.is_truncated(after, params)]
    terminated = _one(terminated, "done", bool)
    truncated = _one(truncated[0], "truncated", bool) if truncated else jnp.asarray(False)
    return terminated, truncated & ~terminated


def _flat(observation: Any) -> Float32[Array, " obs"]:
    def part(entry: Any) -> Float32[Array, " n"]:
        flat = jnp.ravel(entry)
        return vector(flat, flat)

    return observations.joined(observation, part)


def _one(value: Any, field: str, dtype: type) -> Shaped[Array, ""]:
    """Return one number of any shape as `[]`."""
    return scalar(jnp.reshape(value, ()) if jnp.size(value) == 1 else value, field, dtype)


def _action_range(space: Any, name: str) -> tuple[ActionRange, tuple[int, ...]]:
    """Return `((low, high), shape)` of a box of actions. The bounds are `[action_size]`."""
    try:
        shape = tuple(space.shape)
        low, high = (np.broadcast_to(np.asarray(x, np.float32), shape).ravel() for x in (space.low, space.high))
    except (AttributeError, TypeError, ValueError):
        raise ValueError(f"{name}: its action space is {space!r}; DDPG, TD3 and SAC need a box of numbers") from None
    return (low, high), shape
