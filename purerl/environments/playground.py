"""Adapter from MuJoCo Playground's tasks to `Environment`. Needs the extra `playground`.

purerl uses none of Playground's wrappers. Its automatic reset overwrites the last observation of an episode and starts
every episode from the same state. Wrappers of a user's environment are removed if they reset or batch (`autoreset`).
The physics is MJX in JAX. Playground's default, Warp, only runs on NVIDIA GPUs.
"""

import contextlib
import io
import operator
import sys
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Float, Float32
from mujoco import mjx

from purerl.environments import Length, autoreset, names, observations
from purerl.environments.base import Environment, Outcome, Scene, checked, ends, physics, scalar, strong, vector, whole
from purerl.environments.mujoco import levels, randomization
from purerl.environments.mujoco.randomization import Changes, Randomize
from purerl.errors import attempt, require
from purerl.types import Array, Key

SEEN = "state"  # the observation for the policy, if there are several


def make(
    name: str, backend: str | None = None, episode_length: Length = None, randomize: Randomize | Any = None
) -> Environment:
    """Return the task `name`, for example `CheetahRun`. If `episode_length` is None, Playground's time limit is used.

    `randomize` is `(key, model) -> {field: array}`, the changes of the `mjx.Model` in an episode.

    Raises ValueError for an unknown task, for any backend, if Playground is not installed, or if it cannot make the
    task. Tasks of locomotion and manipulation clone the robots of MuJoCo Menagerie from GitHub on first use.
    """
    with contextlib.redirect_stdout(io.StringIO()):  # Warp prints its version.
        registry = require("mujoco_playground", "playground", f"playground:{name}").registry
    if name not in registry.ALL_ENVS:
        raise ValueError(names.unknown("Playground has no task", name, registry.ALL_ENVS))
    if backend is not None:
        raise ValueError(f"playground:{name} has no backend {backend!r}; it runs on MJX, so leave the backend out")
    settings = registry.get_default_config(name)
    what = f"making playground:{name} (the robots of locomotion and manipulation are cloned from GitHub on first use)"
    env = attempt(what, lambda: registry.load(name, config_overrides={"impl": "jax"}))
    repeat = settings.action_repeat
    limit = settings.episode_length // repeat if episode_length is None else episode_length
    return from_playground(env, limit, f"playground:{name}", repeat, randomize)


def is_one(kind: type) -> bool:
    """Return whether a class is a Playground environment."""
    package = sys.modules.get("mujoco_playground")  # A user who has made an environment has imported it.
    return package is not None and issubclass(kind, package.MjxEnv)


def from_playground(
    env: Any,
    episode_length: int | Any,
    name: str | None = None,
    action_repeat: int = 1,
    randomize: Randomize | Any = None,
) -> Environment:
    """Return any `MjxEnv` as an `Environment`. One step of it is `action_repeat` steps of `env`.

    If there are several observations, the actor reads `state`, and the critic `state` and `privileged_state`. Others
    are not read. Without `state`, the actor reads all but `privileged_state`. `done` is a termination, unless
    `info["truncation"]` is set. `randomize` is `(key, model) -> {field: array}`, the changes of the `mjx.Model` in an
    episode. They are in `state.info["drawn"]`.

    Raises ValueError if the environment breaks its contract.
    """
    name = name or type(env).__name__
    core = autoreset.unwrapped(env)
    autoreset.refuse_wrapped(core, name)
    if randomize is not None:
        core = Randomized(core, randomize, name)

    def observe(state: Any) -> Float[Array, " obs"]:
        return observations.joined(state.obs, lambda entry: vector(entry, state.reward), SEEN)

    def sound(state: Any) -> Any:
        _ = observe(state), scalar(state.reward, "reward", jnp.float32), ends(state)
        return strong(state)

    @physics
    @levels.apart()
    def reset(key: Key) -> Any:
        return sound(core.reset(key))

    def one_step(state: Any, action: Float[Array, " A"]) -> tuple[Any, Float32[Array, ""]]:
        after = sound(core.step(state, action))
        return after, scalar(after.reward, "reward", jnp.float32)

    def repeated(state: Any, action: Float[Array, " A"]) -> tuple[Any, Float32[Array, ""]]:
        def going_on(state: Any, _: None) -> tuple[Any, Float32[Array, ""]]:
            after, reward = one_step(state, action)
            over = state.done.astype(bool)
            return jax.tree.map(lambda x, y: jnp.where(over, x, y), state, after), jnp.where(over, 0.0, reward)

        state, rewards = jax.lax.scan(going_on, state, None, action_repeat)
        return state, rewards.sum()

    @physics
    @levels.apart()
    def step(state: Any, action: Float[Array, " A"]) -> tuple[Any, Outcome]:
        state, reward = (one_step if action_repeat == 1 else repeated)(state, action)
        return state, Outcome(reward, *ends(state))

    state = attempt(f"{name}: reset(key)", lambda: jax.eval_shape(reset, jax.random.key(0)))
    obs_size = jax.eval_shape(observe, state).shape[0]
    action_size = whole(name, "action_size", attempt(f"{name}: action_size", lambda: env.action_size))
    truncates = "truncation" in getattr(state, "info", {})
    scene = Scene(env.mj_model, _pose, float(env.dt) * action_repeat)
    made = Environment(reset, step, observe, obs_size, action_size, episode_length, name, truncates, scene=scene)
    return checked(made._replace(actor_obs_size=observations.actor_size(state.obs, SEEN)))


def _pose(state: Any) -> dict[str, Array]:
    data = state.data
    return {"qpos": data.qpos, "mocap_pos": data.mocap_pos, "mocap_quat": data.mocap_quat}


class Randomized:
    """A Playground environment whose model is changed once per episode. The changes are in `state.info["drawn"]`.

    While a function of the environment is traced, its `_mjx_model` is the changed one.
    """

    def __init__(self, core: Any, randomize: Any, name: str) -> None:
        self.core, self.holder = core, getattr(core, "unwrapped", core)
        model = getattr(self.holder, "_mjx_model", None)
        if not isinstance(model, mjx.Model):
            raise ValueError(f"{name}: {type(self.holder).__name__} has no _mjx_model that randomize could change")
        self.model, self.draw = model, randomization.checked(randomize, model, name)
        state = attempt(f"{name}: reset(key)", lambda: jax.eval_shape(self.reset, jax.random.key(0)))
        drawn = state.info["drawn"]
        randomization.refuse_unread(name, self._computed, drawn, state, jax.random.key(0))

    def reset(self, key: Key) -> Any:
        draw_key, key = jax.random.split(key)
        drawn = self.draw(draw_key)
        with self._changed(drawn):
            return _with_drawn(self.core.reset(key), drawn)

    def step(self, state: Any, action: Float[Array, " A"]) -> Any:
        drawn = state.info["drawn"]
        with self._changed(drawn):
            return _with_drawn(self.core.step(_without_drawn(state), action), drawn)

    def _computed(self, drawn: Changes, state: Any, key: Key) -> Any:
        """Return everything that is computed from the changes of the model."""
        with self._changed(drawn):
            return self.core.step(_without_drawn(state), jnp.zeros(self.core.action_size)), self.core.reset(key)

    @contextlib.contextmanager
    def _changed(self, drawn: Changes) -> Iterator[None]:
        try:
            self.holder._mjx_model = randomization.changed(self.model, drawn)
            yield
        finally:
            self.holder._mjx_model = self.model


def _with_drawn(state: Any, drawn: Changes) -> Any:
    return state.replace(info=state.info | {"drawn": drawn})


def _without_drawn(state: Any) -> Any:
    return state.replace(info={name: x for name, x in state.info.items() if name != "drawn"})


def domain_randomizer(name: str) -> Randomize:
    """Return Playground's own domain randomizer of a task, such as `Go1JoystickFlatTerrain`, for `randomize`.

    Raises ValueError if Playground is not installed or has none for the task.
    """
    with contextlib.redirect_stdout(io.StringIO()):
        registry = require("mujoco_playground", "playground", f"playground:{name}").registry
    what = f"the domain randomizer of playground:{name}"
    theirs = attempt(what, lambda: registry.get_domain_randomizer(name))
    if theirs is None:
        raise ValueError(f"Playground has no domain randomizer for {name!r}; write a function (key, model) -> changes")
    return converted(theirs)


def converted(randomizer: Callable[[mjx.Model, Any], tuple[mjx.Model, mjx.Model]]) -> Randomize:
    """Return a randomizer in Playground's style, `(model, keys) -> (batched model, axes)`, for `randomize`."""

    def randomize(key: Key, model: mjx.Model) -> Changes:
        batched, axes = randomizer(model, key[None])
        known = randomization.float_fields(batched)
        return {name: x[0] for name, x in known.items() if operator.attrgetter(name)(axes) == 0}

    return randomize
