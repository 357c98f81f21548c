"""Gymnasium's `Pendulum-v1` in pure JAX: swing a pole up and balance it. It is learned in seconds."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Float, Float32

from purerl.environments import Length
from purerl.environments.base import Environment, Outcome, Scene, declared
from purerl.types import Array, Key

GRAVITY, MASS, LENGTH = 10.0, 1.0, 1.0
TIMESTEP, MAX_SPEED, MAX_TORQUE = 0.05, 8.0, 2.0
PICTURE = """
<mujoco>
  <worldbody>
    <light pos="0 -3 3" dir="0 1 -1"/>
    <camera name="track" pos="0 -4 1.2" xyaxes="1 0 0 0 0 1"/>
    <geom type="plane" size="2 2 0.1" rgba="0.9 0.9 0.9 1"/>
    <body pos="0 0 1.2">
      <joint type="hinge" axis="0 -1 0"/>
      <geom type="capsule" fromto="0 0 0 0 0 1" size="0.08" rgba="0.8 0.3 0.3 1"/>
      <geom size="0.06" pos="0 -0.09 0" rgba="0.1 0.1 0.1 1"/>
    </body>
  </worldbody>
</mujoco>
"""


class State(NamedTuple):
    """The state of one pendulum.

    Attributes:
        angle: 0 is upright, unbounded [rad], `[]`.
        speed: angular velocity [rad/s], `[]`.
    """

    angle: Float[Array, ""]
    speed: Float[Array, ""]


def make(name: str = "Pendulum-v1", backend: str | None = None, episode_length: Length = None) -> Environment:
    """Return Pendulum-v1 as an `Environment`. If `episode_length` is None, the time limit is Gymnasium's 200 steps."""
    if backend is not None:
        raise ValueError(f"{name} has no backend {backend!r}; it has no physics, so leave the backend out")
    action_range = (-MAX_TORQUE, MAX_TORQUE)
    limit = 200 if episode_length is None else episode_length
    return declared(Environment(reset, step, observe, 3, 1, limit, name, False, action_range, scene()))


def scene() -> Scene:
    """Return the `Scene`: a rod that rotates about its end. It is used for drawing only."""
    import mujoco

    model = mujoco.MjModel.from_xml_string(PICTURE)
    return Scene(model, lambda state: {"qpos": state.angle[None]}, TIMESTEP)


def reset(key: Key) -> State:
    """Return a random state: any angle, and a speed within ± 1."""
    angle, speed = jax.random.uniform(key, (2,), minval=-1.0, maxval=1.0)
    return State(jnp.pi * angle, speed)


def step(state: State, action: Float[Array, "1"]) -> tuple[State, Outcome]:
    """Return the state after one TIMESTEP, and the `Outcome`. The `action` `[1]` is the torque.

    The cost is that of the state before the step.
    """
    torque = jnp.clip(action[0], -MAX_TORQUE, MAX_TORQUE)
    off = (state.angle + jnp.pi) % (2 * jnp.pi) - jnp.pi
    cost = off**2 + 0.1 * state.speed**2 + 0.001 * torque**2
    fall = 3 * GRAVITY / (2 * LENGTH) * jnp.sin(state.angle) + 3 / (MASS * LENGTH**2) * torque
    speed = jnp.clip(state.speed + TIMESTEP * fall, -MAX_SPEED, MAX_SPEED)
    after = State(state.angle + TIMESTEP * speed, speed)
    return after, Outcome(-cost.astype(jnp.float32), jnp.asarray(False), jnp.asarray(False))


def observe(state: State) -> Float32[Array, "3"]:
    """Return the observation `[3]`: cosine and sine of the angle, and the speed."""
    return jnp.stack([jnp.cos(state.angle), jnp.sin(state.angle), state.speed]).astype(jnp.float32)
