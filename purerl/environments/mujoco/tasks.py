"""Gymnasium's MuJoCo tasks, `-v5` and `-v4`, in JAX.

Models, rewards, terminations and start distributions are the same, and transitions agree step by step. The models are
the XML files of the installed `gymnasium`. Every task is a `Task` record. A `-v4` task is the `-v5` record with the
differences of `-v4`. Rewards and observations read the same quantities as Gymnasium, even if these are one substep old
(`dynamics.State`).
"""

import importlib.util
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Bool, Float
from mujoco import mjx

from purerl.environments import Length, names
from purerl.environments.base import Environment, declared
from purerl.environments.mujoco import definition, dynamics
from purerl.environments.mujoco.definition import Action, Observation, Pose, Reward, Task, Terminated, Terms, start
from purerl.environments.mujoco.dynamics import Body, Derived, State
from purerl.errors import how_to_install
from purerl.types import Array, Key

Place = Float[Array, "3"]
Alive = Bool[Array, ""]


def make(name: str, backend: str | None = None, episode_length: Length = None) -> Environment:
    """Return the task `name`, for example `HalfCheetah-v5`, as an `Environment`.

    If `episode_length` is None, Gymnasium's time limit is used. Raises ValueError for an unknown task, an unknown
    backend, or if the extra `gymnasium` is not installed.
    """
    task = find_task(name)
    if backend not in (None, "mjx"):
        raise ValueError(f"{name} has no backend {backend!r}; known: mjx")
    env = definition.environment(task, load_body(task), name)
    return declared(env if episode_length is None else env._replace(episode_length=episode_length))


def find_task(name: str) -> Task:
    """Return the `Task` called `name`. Raises ValueError if there is none."""
    if name in TASKS:
        return TASKS[name]
    if name == "Pusher-v4":
        raise ValueError("Pusher-v4 does not run in Gymnasium itself since MuJoCo 3.0; use Pusher-v5")
    raise ValueError(names.unknown("unknown Gymnasium task", name, ("Pendulum-v1", *TASKS)))


def load_body(task: Task) -> Body:
    """Return the `dynamics.Body` of a `Task`. Raises ValueError if `gymnasium` is not installed."""
    package = importlib.util.find_spec("gymnasium")
    if package is None or package.origin is None:
        raise ValueError(f"Gymnasium's tasks need the package gymnasium; {how_to_install('gymnasium')}")
    return dynamics.load_body(Path(package.origin).parent / "envs/mujoco/assets" / task.xml)


# Start distributions


def _start_reacher(body: Body, key: Key) -> Pose:
    """Draw a start with the goal uniform on a disc. Gymnasium draws from a square until the goal lies on the disc."""
    arm_key, radius_key, angle_key = jax.random.split(key, 3)
    qpos, qvel = start(body, arm_key, 0.1, 0.005)
    radius = 0.2 * jnp.sqrt(jax.random.uniform(radius_key))
    angle = 2 * jnp.pi * jax.random.uniform(angle_key)
    goal = radius * jnp.stack([jnp.cos(angle), jnp.sin(angle)])
    return qpos.at[2:].set(goal), qvel.at[2:].set(0.0)


def _start_pusher(body: Body, key: Key) -> Pose:
    """Draw a start with the object more than 0.17 from the goal: the first of 32 draws that fulfills this.

    One draw is enough in 4 of 5 cases.
    """
    object_key, arm_key = jax.random.split(key)
    draws = jax.random.uniform(object_key, (32, 2), minval=jnp.array([-0.3, -0.2]), maxval=jnp.array([0.0, 0.2]))
    place = draws[jnp.argmax(jnp.linalg.norm(draws, axis=1) > 0.17)]
    _, qvel = start(body, arm_key, 0.0, 0.005)
    qpos = jnp.asarray(body.model.qpos0)
    return qpos.at[-4:-2].set(place).at[-2:].set(0.0), qvel.at[-4:].set(0.0)


# Observations


def _observe(body: Body, state: State, skip: int = 0, clip: int | float = np.inf) -> Observation:
    """Return the positions without the first `skip`, and the velocities."""
    return jnp.concatenate([state.qpos[skip:], jnp.clip(state.qvel, -clip, clip)])


def _observe_double_pendulum(body: Body, state: State, forces: int = 1) -> Observation:
    angles, push = state.qpos[1:], jnp.clip(state.derived["constraint"][:forces], -10, 10)
    return jnp.concatenate([state.qpos[:1], jnp.sin(angles), jnp.cos(angles), jnp.clip(state.qvel, -10, 10), push])


def _observe_reacher(body: Body, state: State, axes: int = 2) -> Observation:
    arm, to_goal = state.qpos[:2], state.derived["to_goal"][:axes]
    return jnp.concatenate([jnp.cos(arm), jnp.sin(arm), state.qpos[2:], state.qvel[:2], to_goal])


def _observe_pusher(body: Body, state: State) -> Observation:
    return jnp.concatenate([state.qpos[:7], state.qvel[:7], state.derived["places"].ravel()])


def _observe_ant(body: Body, state: State) -> Observation:
    return jnp.concatenate([_observe(body, state, 2), state.derived["contact"][1:].ravel()])


def _observe_humanoid(body: Body, state: State, first_body: int = 1, first_force: int = 6) -> Observation:
    """Omit the values of the world body and the forces at the free joint. They are always 0, and `-v4` has them."""
    derived = state.derived
    parts = derived["inertia"][first_body:], derived["velocity"][first_body:], derived["actuator"][first_force:]
    parts = [_observe(body, state, 2), *parts, derived["contact"][first_body:]]
    return jnp.concatenate([part.ravel() for part in parts])


# Quantities that are read besides positions and velocities


def _derive_double_pendulum(body: Body, data: mjx.Data) -> Derived:
    return {"tip": data.site_xpos[0], "constraint": data.qfrc_constraint}


def _derive_reacher(body: Body, data: mjx.Data) -> Derived:
    return {"to_goal": _place(body, data, "fingertip") - _place(body, data, "target")}


def _derive_pusher(body: Body, data: mjx.Data) -> Derived:
    return {"places": jnp.stack([_place(body, data, name) for name in ("tips_arm", "object", "goal")])}


def _place(body: Body, data: mjx.Data, name: str) -> Place:
    return data.xpos[body.model.body(name).id]


def _derive_torso(body: Body, data: mjx.Data) -> Derived:
    return {"torso": data.xpos[1]}


def _derive_ant(body: Body, data: mjx.Data) -> Derived:
    return {"torso": data.xpos[1], "contact": jnp.clip(dynamics.contact_forces(body.on_device, data), -1.0, 1.0)}


def _derive_humanoid(body: Body, data: mjx.Data) -> Derived:
    mass = body.model.body_mass
    derived = {"centre": jnp.asarray(mass / mass.sum(), data.xipos.dtype) @ data.xipos, "velocity": data.cvel}
    derived |= {"inertia": data._impl.cinert, "actuator": data.qfrc_actuator}
    return derived | {"contact": dynamics.contact_forces(body.on_device, data)}


# Rewards


def _square(x: Float[Array, "..."]) -> Float[Array, ""]:
    return jnp.sum(jnp.square(x))


def _run(body: Body, before: State, after: State, action: Action, substeps: int, effort: float) -> Terms:
    """Return the forward and control terms that most tasks have."""
    seconds = substeps * dynamics.timestep(body)
    return {"reward_forward": (after.qpos[0] - before.qpos[0]) / seconds, "reward_ctrl": -effort * _square(action)}


def _reward_run(body: Body, before: State, after: State, action: Action, **scales: Any) -> tuple[Terms, Terminated]:
    return _run(body, before, after, action, **scales), False


def _reward_walk(
    body: Body, before: State, after: State, action: Action, healthy: Callable[[State], Alive], **scales: Any
) -> tuple[Terms, Terminated]:
    """Add 1 to the terms of `_run` while healthy. Falling terminates."""
    alive = healthy(after)
    terms = _run(body, before, after, action, **scales) | {"reward_survive": alive.astype(after.qpos.dtype)}
    return terms, ~alive


def _hopper_is_healthy(state: State) -> Alive:
    others, angle = jnp.concatenate([state.qpos, state.qvel])[2:], state.qpos[2]
    return (jnp.abs(others) < 100).all() & (state.qpos[1] > 0.7) & (jnp.abs(angle) < 0.2)


def _walker_is_healthy(state: State) -> Alive:
    height, angle = state.qpos[1], state.qpos[2]
    return (height > 0.8) & (height < 2.0) & (jnp.abs(angle) < 1.0)


def _reward_pendulum(body: Body, before: State, after: State, action: Action) -> tuple[Terms, Terminated]:
    state = jnp.concatenate([after.qpos, after.qvel])
    alive = jnp.isfinite(state).all() & (jnp.abs(state[1]) <= 0.2)
    return {"reward_survive": alive.astype(state.dtype)}, ~alive


def _reward_double_pendulum(body: Body, before: State, after: State, action: Action) -> tuple[Terms, Terminated]:
    x, _, y = after.derived["tip"]
    _, v1, v2 = after.qvel
    alive = y > 1
    terms = {"reward_survive": 10.0 * alive, "distance_penalty": -(0.01 * x**2 + (y - 2) ** 2)}
    return terms | {"velocity_penalty": -(1e-3 * v1**2 + 5e-3 * v2**2)}, ~alive


def _reward_reacher(body: Body, before: State, after: State, action: Action) -> tuple[Terms, Terminated]:
    return {"reward_dist": -jnp.linalg.norm(after.derived["to_goal"]), "reward_ctrl": -_square(action)}, False


def _reward_pusher(body: Body, before: State, after: State, action: Action) -> tuple[Terms, Terminated]:
    tip, thing, goal = after.derived["places"]
    terms = {"reward_dist": -jnp.linalg.norm(thing - goal), "reward_ctrl": -0.1 * _square(action)}
    return terms | {"reward_near": -0.5 * jnp.linalg.norm(thing - tip)}, False


def _reward_ant_v4(body: Body, before: State, after: State, action: Action) -> tuple[Terms, Terminated]:
    state, height = jnp.concatenate([after.qpos, after.qvel]), after.qpos[2]
    alive = jnp.isfinite(state).all() & (height >= 0.2) & (height <= 1.0)
    forward = (after.derived["torso"][0] - before.derived["torso"][0]) / (5 * dynamics.timestep(body))
    terms = {"reward_forward": forward, "reward_ctrl": -0.5 * _square(action)}
    return terms | {"reward_survive": alive.astype(state.dtype)}, ~alive


def _reward_ant(body: Body, before: State, after: State, action: Action) -> tuple[Terms, Terminated]:
    terms, terminated = _reward_ant_v4(body, before, after, action)
    return terms | {"reward_contact": -5e-4 * _square(after.derived["contact"])}, terminated


def _reward_humanoid_v4(body: Body, before: State, after: State, action: Action) -> tuple[Terms, Terminated]:
    alive = (after.qpos[2] > 1.0) & (after.qpos[2] < 2.0)
    forward = (after.derived["centre"][0] - before.derived["centre"][0]) / (5 * dynamics.timestep(body))
    terms = {"reward_survive": 5.0 * alive, "reward_forward": 1.25 * forward, "reward_ctrl": -0.1 * _square(action)}
    return terms, ~alive


def _reward_humanoid(body: Body, before: State, after: State, action: Action) -> tuple[Terms, Terminated]:
    terms, terminated = _reward_humanoid_v4(body, before, after, action)
    return terms | {"reward_contact": _impact(after)}, terminated


def _reward_standup(body: Body, before: State, after: State, action: Action) -> tuple[Terms, Terminated]:
    terms = {"reward_linup": after.qpos[2] / dynamics.timestep(body), "reward_quadctrl": -0.1 * _square(action)}
    return terms | {"reward_impact": _impact(after), "reward_alive": jnp.ones_like(after.qpos[2])}, False


def _impact(state: State) -> Float[Array, ""]:
    return -jnp.minimum(5e-7 * _square(state.derived["contact"]), 10.0)


# Differences of `-v4`


def _falling_pays(reward: Reward, alive: float = 1.0) -> Reward:
    """Return `reward` with the survival term also paid in the step that terminates."""

    def rewarded(*step: Any) -> tuple[Terms, Terminated]:
        terms, terminated = reward(*step)
        return terms | {"reward_survive": jnp.full_like(terms["reward_survive"], alive)}, terminated

    return rewarded


def _reward_reacher_v4(body: Body, before: State, after: State, action: Action) -> tuple[Terms, Terminated]:
    """Use the position of the arm before the step."""
    return _reward_reacher(body, before, before, action)


_small = partial(start, positions=5e-3, velocities=5e-3)
_wide = partial(start, positions=0.1, velocities=0.1)
_fast = partial(start, positions=0.1, velocities=0.1, normal=True)
_hundredth = partial(start, positions=0.01, velocities=0.01)

V5 = {
    "InvertedPendulum": Task("inverted_pendulum.xml", 2, _hundredth, _observe, _reward_pendulum),
    "InvertedDoublePendulum": Task(
        "inverted_double_pendulum.xml",
        5,
        _fast,
        _observe_double_pendulum,
        _reward_double_pendulum,
        _derive_double_pendulum,
    ),
    "Reacher": Task("reacher.xml", 2, _start_reacher, _observe_reacher, _reward_reacher, _derive_reacher, 50),
    "Pusher": Task("pusher_v5.xml", 5, _start_pusher, _observe_pusher, _reward_pusher, _derive_pusher, 100),
    "Swimmer": Task("swimmer.xml", 4, _wide, partial(_observe, skip=2), partial(_reward_run, substeps=4, effort=1e-4)),
    "Hopper": Task(
        "hopper.xml",
        4,
        _small,
        partial(_observe, skip=1, clip=10),
        partial(_reward_walk, healthy=_hopper_is_healthy, substeps=4, effort=1e-3),
    ),
    "HalfCheetah": Task(
        "half_cheetah.xml", 5, _fast, partial(_observe, skip=1), partial(_reward_run, substeps=5, effort=0.1)
    ),
    "Walker2d": Task(
        "walker2d_v5.xml",
        4,
        _small,
        partial(_observe, skip=1, clip=10),
        partial(_reward_walk, healthy=_walker_is_healthy, substeps=4, effort=1e-3),
    ),
    "Ant": Task("ant.xml", 5, _fast, _observe_ant, _reward_ant, _derive_ant),
    "Humanoid": Task("humanoid.xml", 5, _hundredth, _observe_humanoid, _reward_humanoid, _derive_humanoid),
    "HumanoidStandup": Task("humanoidstandup.xml", 5, _hundredth, _observe_humanoid, _reward_standup, _derive_humanoid),
}
_observe_humanoid_v4 = partial(_observe_humanoid, first_body=0, first_force=0)
V4 = {
    "InvertedPendulum": {"reward": _falling_pays(_reward_pendulum)},
    "InvertedDoublePendulum": {
        "reward": _falling_pays(_reward_double_pendulum, alive=10.0),
        "observe": partial(_observe_double_pendulum, forces=3),
    },
    "Reacher": {"reward": _reward_reacher_v4, "observe": partial(_observe_reacher, axes=3)},
    "Swimmer": {},
    "Hopper": {"reward": _falling_pays(V5["Hopper"].reward)},
    "HalfCheetah": {},
    "Walker2d": {"xml": "walker2d.xml", "reward": _falling_pays(V5["Walker2d"].reward)},
    "Ant": {
        "observe": partial(_observe, skip=2),
        "reward": _falling_pays(_reward_ant_v4),
        "derive": _derive_torso,
    },
    "Humanoid": {
        "observe": _observe_humanoid_v4,
        "reward": _falling_pays(_reward_humanoid_v4, alive=5.0),
    },
    "HumanoidStandup": {"observe": _observe_humanoid_v4},
}
TASKS = {f"{name}-v5": task for name, task in V5.items()}
TASKS |= {f"{name}-v4": V5[name]._replace(**changes) for name, changes in V4.items()}
