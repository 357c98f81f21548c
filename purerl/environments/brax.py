"""Adapter from Brax environments, registered or user-defined, to `Environment`.

purerl uses none of Brax's wrappers. Brax's automatic reset overwrites the last observation of an episode and starts
every episode from the same state. Its `done` is also set at the time limit. Wrappers of a user's environment are
removed if they reset or batch (`autoreset`). An `EpisodeWrapper` is supported.
"""

import contextlib
import io
import warnings
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

with contextlib.redirect_stdout(io.StringIO()):  # MuJoCo prints that warp is missing. It is not needed.
    from brax import envs, fluid

    from purerl.environments import autoreset, observations
    from purerl.environments.mujoco import levels

from purerl.environments.base import (
    Environment,
    Outcome,
    Scene,
    bounds,
    checked,
    ends,
    physics,
    scalar,
    strong,
    vector,
    whole,
)
from purerl.environments.names import unknown
from purerl.errors import attempt, closest
from purerl.types import Array, Key

BACKENDS = ("generalized", "spring", "positional", "mjx")
RESTRICTED = {"swimmer": ("generalized",), "fast": ()}  # `fast` has no physics


class _ClipAsBefore:
    """`jax.numpy` with `clip(a_min=)`, which JAX 0.10 removed and Brax's fluid forces (swimmer) use."""

    def __getattr__(self, name: str) -> Any:
        return getattr(jnp, name)

    @staticmethod
    def clip(x: Any, a_min: Any = None, a_max: Any = None) -> Array:
        return jnp.clip(x, a_min, a_max)


fluid.jp = _ClipAsBefore()


def names() -> tuple[str, ...]:
    """Return the names of the environments that Brax registers."""
    return tuple(envs._envs)


def make(name: str, backend: str | None = None, episode_length: int | Any = 1000) -> Environment:
    """Return a registered Brax environment on a physics backend. The default is `generalized`, as in Brax.

    Raises ValueError for an unknown name or a backend that the environment does not support.
    """
    if name not in names():
        raise ValueError(unknown("unknown Brax environment", name, names()))
    allowed = RESTRICTED.get(name, BACKENDS)
    if backend is not None and backend not in allowed:
        known = closest(backend, allowed) if allowed else "; it has no physics, so leave the backend out"
        raise ValueError(f"{name} has no backend {backend!r}{known}")
    options = {"backend": backend or allowed[0]} if allowed else {}
    with warnings.catch_warnings(category=UserWarning, action="ignore"):  # Brax: not actively maintained
        env = envs.get_environment(name, **options)
    return from_brax(env, episode_length, name)


def from_brax(env: envs.Env, episode_length: int | Any = 1000, name: str | None = None) -> Environment:
    """Return any `brax.envs.Env` as an `Environment`.

    Brax environments take actions in [-1, 1]. An environment with another range declares it as the attribute
    `action_range`, a pair (low, high) of numbers or arrays `[action_size]`. Its step then gets actions in this range.
    If `info["truncation"]` exists, it marks the `done` that is a truncation.

    Raises ValueError if the environment breaks its contract: sizes, shapes, dtypes, or the structure of its state.
    """
    name = name or type(env).__name__
    core = autoreset.unwrapped(env)
    autoreset.refuse_wrapped(core, name)

    def observe(state: envs.State) -> Float[Array, " obs"]:
        return observations.joined(state.obs, lambda entry: vector(entry, state.reward))

    def sound(state: Any) -> envs.State:
        if not isinstance(state, envs.State):
            raise ValueError(f"a state is a {type(state).__name__}; it must be a brax.envs.State")
        _ = observe(state), scalar(state.reward, "reward", jnp.float32), ends(state)
        return strong(state)

    @physics
    @levels.apart()
    def reset(key: Key) -> envs.State:
        return sound(core.reset(key))

    state = attempt(f"{name}: reset(key)", lambda: jax.eval_shape(reset, jax.random.key(0)))
    obs_size, action_size = _sizes(env, name, jax.eval_shape(observe, state).shape[0])
    action_range = bounds(name, getattr(env, "action_range", (-1.0, 1.0)), action_size)

    @physics
    @levels.apart()
    def step(state: envs.State, action: Float[Array, " A"]) -> tuple[envs.State, Outcome]:
        state = sound(core.step(state, action))
        return state, Outcome(scalar(state.reward, "reward", jnp.float32), *ends(state))

    truncates, scene = "truncation" in state.info, _scene(env)
    made = Environment(
        reset, step, observe, obs_size, action_size, episode_length, name, truncates, action_range, scene
    )
    return checked(made._replace(actor_obs_size=observations.actor_size(state.obs)))


def _scene(env: Any) -> Scene | None:
    model = getattr(getattr(env, "sys", None), "mj_model", None)
    if model is None:
        return None
    return Scene(model, lambda state: {"qpos": state.pipeline_state.q}, float(env.dt))


def _sizes(env: Any, name: str, size: int) -> tuple[int, int]:
    """Return `(obs_size, action_size)` as `env` declares them. `size` is that of the observation after reset.

    They are read while tracing, because Brax's environments call `reset` to find them.
    """
    sizes = {}
    attempt(f"{name}: reading its sizes", lambda: jax.eval_shape(lambda: sizes.update(_declared(env, size))))
    if sizes["observation_size"] != size:
        said = f"{name}: observation_size is {sizes['observation_size']!r}"
        raise ValueError(f"{said} but the observation after reset has {size} numbers")
    obs_size, action_size = (whole(name, field, sizes[field]) for field in ("observation_size", "action_size"))
    return obs_size, action_size


def _declared(env: Any, size: int) -> dict[str, Any]:
    """Return the declared sizes. Called while tracing.

    The `observation_size` of Brax's base class runs a whole reset. `size` is already known. For a dict of observations,
    Brax declares a dict of sizes or shapes.
    """
    its_own = type(env).observation_size is not envs.PipelineEnv.observation_size
    declared = env.observation_size if its_own else size
    if isinstance(declared, Mapping):
        declared = sum(int(np.prod(shape)) for shape in declared.values())
    return {"observation_size": declared, "action_size": env.action_size}
