"""Brax environments, its own twelve and a user's, behind `Environment`.

None of Brax's wrappers is used: its automatic reset overwrites the last observation of an episode and begins every
episode from the same state, and its `done` is also set at the time limit.
"""

import contextlib
import io
import warnings

import jax
import jax.numpy as jnp
import numpy as np

with contextlib.redirect_stdout(io.StringIO()):  # MuJoCo prints that warp, which is not used, is missing.
    from brax import envs, fluid

    from purerl.environments import levels

from purerl.environments.base import Environment, Outcome, Scene, physics, same_structure, scaled, strong
from purerl.errors import attempt, closest

BACKENDS = ("generalized", "spring", "positional", "mjx")
RESTRICTED = {"swimmer": ("generalized",), "fast": ()}  # `fast` has no physics


class _ClipAsBefore:
    """`jax.numpy` with the `clip(a_min=)` that JAX 0.10 dropped and Brax's fluid forces (swimmer) use."""

    def __getattr__(self, name):
        return getattr(jnp, name)

    @staticmethod
    def clip(x, a_min=None, a_max=None):
        return jnp.clip(x, a_min, a_max)


fluid.jp = _ClipAsBefore()


def names():
    """The environments that Brax registers."""
    return tuple(envs._envs)


def make(name, backend=None, episode_length=1000):
    """A registered Brax environment on a physics backend, by default `generalized`, as in Brax.

    Raises ValueError for an unknown name or a backend that the environment does not have.
    """
    if name not in names():
        raise ValueError(f"unknown Brax environment {name!r}{closest(name, names())}")
    allowed = RESTRICTED.get(name, BACKENDS)
    if backend is not None and backend not in allowed:
        known = closest(backend, allowed) if allowed else "; it has no physics, so leave the backend out"
        raise ValueError(f"{name} has no backend {backend!r}{known}")
    options = {"backend": backend or allowed[0]} if allowed else {}
    with warnings.catch_warnings(category=UserWarning, action="ignore"):  # that Brax is not actively maintained
        env = envs.get_environment(name, **options)
    return from_brax(env, episode_length, name)


def from_brax(env, episode_length=1000, name=None):
    """Any `brax.envs.Env` as an `Environment`.

    Brax environments take actions in [-1, 1]. One that takes others says so by an attribute `action_range`, a pair
    (low, high) of numbers or arrays `[action_size]`. `info["truncation"]`, where there is one, tells which `done` is
    truncation.

    Raises ValueError where the environment breaks its contract: sizes, shapes, dtypes, or the structure of its state.
    """
    name = name or type(env).__name__
    action_range = _action_range(env, name)

    @physics
    @levels.apart()
    def reset(key):
        return strong(env.reset(key))

    @physics
    @levels.apart()
    def step(state, action):
        state = strong(env.step(state, scaled(action, action_range)))
        done = state.done.astype(bool)
        truncated = done & jnp.asarray(state.info.get("truncation", False)).astype(bool)
        return state, Outcome(state.reward.astype(jnp.float32), done & ~truncated, truncated)

    def observe(state):
        return state.obs.astype(jnp.float32)

    obs_size, action_size, truncates = _sizes(env, name, reset, step)
    return Environment(
        reset, step, observe, obs_size, action_size, episode_length, name, truncates, action_range, _scene(env)
    )


def _scene(env):
    model = getattr(getattr(env, "sys", None), "mj_model", None)
    if model is None:
        return None
    return Scene(model, lambda state: {"qpos": state.pipeline_state.q}, float(env.dt))


def _sizes(env, name, reset, step):
    """`(obs_size, action_size, truncates)`, after tracing one reset and one step: the environment may be anybody's."""
    state = attempt(f"{name}: reset(key)", lambda: jax.eval_shape(reset, jax.random.key(0)))
    if not isinstance(state, envs.State):
        raise ValueError(f"{name}: reset(key) returns a {type(state).__name__}; it must be a brax.envs.State")
    if not hasattr(state.obs, "shape") or len(state.obs.shape) != 1:
        raise ValueError(f"{name}: observations must be one flat vector, not {jax.tree.map(jnp.shape, state.obs)}")
    declared = {}
    attempt(f"{name}: reading its sizes", lambda: jax.eval_shape(lambda: declared.update(_declared(env, state))))
    action_size, obs_size = declared["action_size"], declared["observation_size"]
    if isinstance(action_size, bool) or not isinstance(action_size, int | np.integer) or action_size < 1:
        raise ValueError(f"{name}: action_size is {action_size!r}; it must be a positive int")
    if obs_size != state.obs.shape[0]:
        raise ValueError(f"{name}: observation_size is {obs_size!r} but reset observes {state.obs.shape[0]} numbers")
    for field, value in (("reward", state.reward), ("done", state.done), *state.info.items()):
        if field in ("reward", "done", "truncation") and jnp.shape(value) != ():
            raise ValueError(f"{name}: {field} must be a scalar, not of shape {jnp.shape(value)}")
    action = jax.ShapeDtypeStruct((int(action_size),), jnp.float32)
    after, _ = attempt(f"{name}: step(state, action [{action_size}])", lambda: jax.eval_shape(step, state, action))
    same_structure(state, after, name)
    return int(obs_size), int(action_size), "truncation" in state.info


def _declared(env, state):
    """Read while tracing. Brax's own `observation_size` is what a whole reset observes, which `state` knows already."""
    its_own = type(env).observation_size is not envs.PipelineEnv.observation_size
    size = env.observation_size if its_own else state.obs.shape[0]
    return {"observation_size": size, "action_size": env.action_size}


def _action_range(env, name):
    try:
        low, high = (np.asarray(bound, np.float32) for bound in getattr(env, "action_range", (-1.0, 1.0)))
    except (TypeError, ValueError):
        raise ValueError(f"{name}: action_range is {env.action_range!r}; it must be a pair (low, high)") from None
    if not (np.isfinite(low).all() and np.isfinite(high).all() and (low < high).all()):
        raise ValueError(f"{name}: action_range is {env.action_range!r}; it must be finite, with low below high")
    return low, high
