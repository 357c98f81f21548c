"""`from_xml`: your own MuJoCo model as an `Environment`."""

from collections.abc import Callable
from copy import copy
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import mujoco
from jaxtyping import Bool, Float
from mujoco import mjx

from purerl.environments import Length, base, observations
from purerl.environments.base import Environment, checked, shown
from purerl.environments.mujoco import definition, dynamics, plain, randomization
from purerl.environments.mujoco.definition import Action, Observation, Pose, Task, Terminated, Terms
from purerl.environments.mujoco.dynamics import Body, Derived, State
from purerl.environments.mujoco.randomization import Changes
from purerl.errors import attempt, closest
from purerl.types import Array, Key

PHYSICS = {"purerl": dynamics.advance, "mjx": plain.advance}


def from_xml(
    model: str | Path | mujoco.MjModel | Any,
    *,
    reward: Callable[[State, Action, State], Float[Array, ""]] | Any,
    observe: Callable[[State], Observation] | Any = None,
    terminated: Callable[[State], Bool[Array, ""]] | Any = None,
    start: Callable[[Key], Pose] | Any = None,
    derive: Callable[[mjx.Model, mjx.Data], Derived] | Any = None,
    randomize: Callable[[Key, mjx.Model], Changes] | Any = None,
    substeps: int | Any = 1,
    episode_length: Length = 1000,
    name: str | Any = None,
    physics: str | Any = "purerl",
) -> Environment:
    """Return a MuJoCo model as an `Environment`. Actions are the actuators' controls, within their `ctrlrange`.

    The functions are of one copy. A `State` has `qpos` `[nq]`, `qvel` `[nv]`, `derived`, and `drawn`, the changes of
    the model in this episode.

    Args:
        model: path of an XML file, the XML text itself, or a `mujoco.MjModel`, which is copied.
        reward: `(before, action, after) -> []`, for two `State`s and the action `[nu]` between them.
        observe: `(state) -> [obs_size]`, or a dict of vectors (`observations`). Default: `qpos` and `qvel`.
        terminated: `(state) -> []` bool. Default: only where a position or a velocity is not finite.
        start: `(key) -> (qpos [nq], qvel [nv])`. Default: `qpos0` and no velocity, each plus uniform noise of ± 0.01.
        derive: `(model, data) -> {name: array}` from the `mjx.Model` and `mjx.Data` of a step. It becomes
            `state.derived`. As in MuJoCo, it is one timestep of the model older than `qpos`.
        randomize: `(key, model) -> {field: array}`, the changes of the `mjx.Model` in an episode, for example
            `{"body_mass": ...}` or `{"opt.gravity": ...}`. See `randomization`.
        substeps: timesteps of the model per environment step.
        episode_length: the time limit [steps].
        name: what the environment is called. Default: the name of the file or of the model.
        physics: `purerl`, or `mjx` for steps of MJX itself, which supports more features of models.

    Raises ValueError, in one line, for an invalid argument or a model that the physics does not support.
    """
    compiled = _model(model)
    name = _name(model, compiled) if name is None else name
    if not isinstance(physics, str) or physics not in PHYSICS:
        raise ValueError(f"{name}: unknown physics {physics!r}{closest(physics, PHYSICS)}")
    functions = {"reward": reward, "observe": observe, "terminated": terminated, "start": start, "derive": derive}
    for field, function in functions.items():
        if not callable(function) and (function is not None or field == "reward"):
            raise ValueError(f"{name}: {field} is {shown(function)}; it must be a function")
    (dynamics.check_model if physics == "purerl" else dynamics.check_actions)(compiled, name)
    body = dynamics.compiled(compiled, name)
    task = Task(
        name,
        base.whole(name, "substeps", substeps),
        _start(name, start),
        _observe(name, observe),
        _reward(name, reward, terminated),
        _derive(name, derive),
        base.whole(name, "episode_length", episode_length),
        PHYSICS[physics],
    )
    draw = None if randomize is None else randomization.checked(randomize, body.on_device, name)
    env = definition.environment(task, body, name, draw)
    if observe is None:
        return checked(env)
    observation = jax.eval_shape(lambda key: observe(env.reset(key)), jax.random.key(0))
    return checked(env._replace(actor_obs_size=observations.actor_size(observation)))


def _model(model: Any) -> mujoco.MjModel:
    """Return a new `MjModel`, which nobody else changes. Raises ValueError if it cannot be read."""
    with dynamics.without_warnings():
        if isinstance(model, mujoco.MjModel):
            return copy(model)
        if isinstance(model, str) and "<" in model:
            return attempt("the XML text", lambda: mujoco.MjModel.from_xml_string(model))
        if not isinstance(model, str | Path):
            kinds = "a path, XML text or a mujoco.MjModel"
            raise ValueError(f"a MuJoCo model is {kinds}, not {shown(model)}")
        if not Path(model).is_file():
            raise ValueError(f"there is no MuJoCo model {str(model)!r}; give the path of an XML file")
        return attempt(str(model), lambda: mujoco.MjModel.from_xml_path(str(model)))


def _name(model: Any, compiled: mujoco.MjModel) -> str:
    if isinstance(model, Path) or (isinstance(model, str) and "<" not in model):
        return Path(model).stem
    return compiled.names.split(b"\0", 1)[0].decode() or "MuJoCo model"


def _start(name: str, start: Callable[[Key], Any] | None) -> Callable[[Body, Key], Pose]:
    def default(body: Body, key: Key) -> Pose:
        return definition.start(body, key, 0.01, 0.01)

    def own(body: Body, key: Key) -> Pose:
        assert start is not None
        sizes, pose = (body.model.nq, body.model.nv), start(key)
        if not isinstance(pose, tuple | list) or [jnp.shape(x) for x in pose] != [(n,) for n in sizes]:
            shapes = tuple(jnp.shape(x) for x in pose) if isinstance(pose, tuple | list) else shown(pose)
            raise ValueError(f"it returns {shapes}; it must be (qpos, qvel) of shapes {(sizes[0],)} and {(sizes[1],)}")
        return jnp.asarray(pose[0]), jnp.asarray(pose[1])

    return default if start is None else _named(f"{name}: start(key)", own)


def _observe(name: str, observe: Callable[[State], Any] | None) -> Callable[[Body, State], Observation]:
    def default(body: Body, state: State) -> Observation:
        return jnp.concatenate([state.qpos, state.qvel])

    def own(body: Body, state: State) -> Observation:
        assert observe is not None
        return observations.joined(observe(state), lambda entry: base.vector(entry, 0.0))

    return default if observe is None else _named(f"{name}: observe(state)", own)


def _reward(
    name: str, reward: Callable[[State, Action, State], Any], terminated: Callable[[State], Any] | None
) -> definition.Reward:
    def ends(state: State) -> Bool[Array, ""]:
        if terminated is None:
            return ~(jnp.isfinite(state.qpos).all() & jnp.isfinite(state.qvel).all())
        over = jnp.asarray(terminated(state))
        if not jnp.issubdtype(over.dtype, jnp.bool_):
            raise ValueError(f"it returns {over.dtype}; it must return bool, for example state.qpos[0] < 0")
        return base.scalar(over, "terminated", bool)

    def paid(before: State, action: Action, after: State) -> Float[Array, ""]:
        return base.scalar(reward(before, action, after), "reward", jnp.float32)

    def both(body: Body, before: State, after: State, action: Action) -> tuple[Terms, Terminated]:
        gain = _named(f"{name}: reward(before, action, after)", paid)(before, action, after)
        return {"reward": gain}, _named(f"{name}: terminated(state)", ends)(after)

    return both


def _derive(name: str, derive: Callable[[mjx.Model, mjx.Data], Any] | None) -> dynamics.Derive:
    def own(body: Body, data: mjx.Data) -> Derived:
        assert derive is not None
        found = derive(body.on_device, data)
        if not isinstance(found, dict) or not all(isinstance(key, str) for key in found):
            raise ValueError(f"it returns {shown(found)}; it must return a dict {{name: array}}")
        return jax.tree.map(jnp.asarray, found)

    return (lambda body, data: {}) if derive is None else _named(f"{name}: derive(model, data)", own)


def _named(what: str, function: Callable[..., Any]) -> Callable[..., Any]:
    """Return `function`, whose errors say `what` it is, in one line."""
    return lambda *arguments: attempt(what, lambda: function(*arguments))
