"""`Task`, the definition of a task with a MuJoCo model, and the `Environment` that follows from it.

Gymnasium's tasks (`tasks`) and the models of users (`xml`) are made by the same function, `environment`.
"""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Bool, Float, Float32

from purerl.environments.base import Environment, Outcome, Scene, physics, strong
from purerl.environments.mujoco import dynamics, randomization
from purerl.environments.mujoco.dynamics import Advance, Body, State
from purerl.environments.mujoco.randomization import Changes, Draw
from purerl.types import Array, Key

Action = Float[Array, " nu"]
Observation = Float[Array, " obs"]
Pose = tuple[Float[Array, " nq"], Float[Array, " nv"]]  # positions and velocities
Terminated = bool | Bool[Array, ""]
Terms = dict[str, Float[Array, ""]]  # the reward is their sum
Reward = Callable[[Body, State, State, Action], tuple[Terms, Terminated]]


class Task(NamedTuple):
    """The definition of a task. `state`, `before` and `after` are `dynamics.State`s.

    Attributes:
        xml: name of the model file, or what to call the model.
        substeps: timesteps of the model per environment step.
        start: `(body, key) -> (qpos [nq], qvel [nv])`, the random start of an episode.
        observe: `(body, state) -> [obs_size]`.
        reward: `(body, before, after, action) -> ({name: term []}, terminated)`. The reward is the sum of the terms.
            The action is in the actuators' range.
        derive: `(body, data) -> {name: array}`, what observation and reward need besides positions and velocities.
        episode_length: the time limit [steps].
        advance: the physics.
    """

    xml: str
    substeps: int
    start: Callable[[Body, Key], Pose]
    observe: Callable[[Body, State], Observation]
    reward: Reward
    derive: dynamics.Derive = lambda body, data: {}
    episode_length: int = 1000
    advance: Advance = dynamics.advance


def environment(task: Task, body: Body, name: str, draw: Draw | None = None) -> Environment:
    """Return the `Environment` called `name` of a task with the model `body`.

    `draw` is `(key) -> {field of the model: array}`, the changes of the model in one episode (`randomization.checked`).
    """

    @physics
    def reset(key: Key) -> State:
        if draw is None:
            return strong(initial_state(task, body, *task.start(body, key)))
        draw_key, start_key = jax.random.split(key)
        drawn = draw(draw_key)
        own = changed(body, drawn)
        return strong(initial_state(task, own, *task.start(own, start_key))._replace(drawn=drawn))

    @physics
    def act(state: State, action: Float[Array, " A"]) -> tuple[State, Outcome]:
        after, terms, terminated = step(task, changed(body, state.drawn), state, action)
        reward = jnp.asarray(sum(terms.values()), jnp.float32)
        return strong(after), Outcome(reward, jnp.asarray(terminated, bool), jnp.asarray(False))

    def observe(state: State) -> Float32[Array, " obs"]:
        return task.observe(changed(body, state.drawn), state).astype(jnp.float32)

    state = jax.eval_shape(reset, jax.random.key(0))
    obs_size = jax.eval_shape(observe, state).shape[0]
    if draw is not None:
        randomization.refuse_unread(name, partial(_read, task, body), state.drawn, state)
    action_range = tuple(bound.astype(np.float32) for bound in body.model.actuator_ctrlrange.T)
    scene = Scene(body.model, lambda state: {"qpos": state.qpos}, task.substeps * float(body.model.opt.timestep))
    sizes = obs_size, int(body.model.nu), task.episode_length
    return Environment(reset, act, observe, *sizes, name, False, action_range, scene)


def _read(task: Task, body: Body, drawn: Changes, state: State) -> object:
    """Return everything that a step computes from the changes of the model."""
    own, action = changed(body, drawn), jnp.zeros(body.model.nu)
    after, terms, terminated = step(task, own, state, action)
    started = initial_state(task, own, state.qpos, state.qvel)
    return after._replace(drawn=None), terms, terminated, task.observe(own, after), started.derived


def initial_state(task: Task, body: Body, qpos: ArrayLike, qvel: ArrayLike) -> State:
    """Return the `dynamics.State` at given positions and velocities."""
    return dynamics.initial_state(body, qpos, qvel, task.derive)


def step(task: Task, body: Body, state: State, action: Action) -> tuple[State, Terms, Terminated]:
    """Return `(state, {name: reward term}, terminated)` after an action `[nu]` in the actuators' range."""
    after = task.advance(body, state, action, task.substeps, task.derive)
    terms, terminated = task.reward(body, state, after, action)
    return after, terms, terminated


def changed(body: Body, drawn: Changes | None) -> Body:
    """Return `body` with the changes of the model that an episode has drawn."""
    return body if drawn is None else body._replace(on_device=randomization.changed(body.on_device, drawn))


def start(body: Body, key: Key, positions: float, velocities: float, normal: bool = False) -> Pose:
    """Draw a start around the model's default pose, uniformly within ± the scales.

    If `normal` is True, velocities are drawn from a normal distribution.
    """
    position_key, velocity_key = jax.random.split(key)
    draw = jax.random.normal if normal else partial(jax.random.uniform, minval=-1.0, maxval=1.0)
    qpos = positions * jax.random.uniform(position_key, (body.model.nq,), minval=-1.0, maxval=1.0)
    return body.model.qpos0 + qpos, velocities * draw(velocity_key, (body.model.nv,))
