"""Steps of MJX itself, for models with features that `dynamics` does not support. They are slower."""

import jax
from jaxtyping import Float
from mujoco import mjx

from purerl.environments.mujoco import levels
from purerl.environments.mujoco.dynamics import Body, Derive, State
from purerl.types import Array


def advance(body: Body, state: State, control: Float[Array, " nu"], substeps: int, derive: Derive) -> State:
    """Return the `State` after `substeps` steps of `mjx.step` under `control` `[nu]`, in the actuators' range."""
    act = body.blank.act if state.act is None else state.act
    first = state._replace(act=act, drawn=None)

    def substep(state: State, _: None) -> tuple[State, None]:
        data = body.blank.replace(qpos=state.qpos, qvel=state.qvel, act=state.act, ctrl=control)
        with levels.apart():
            data = mjx.step(body.on_device, data.replace(qacc_warmstart=state.qacc))
        return State(data.qpos, data.qvel, data.qacc_warmstart, derive(body, data), data.act), None

    after = jax.lax.scan(substep, first, None, length=substeps)[0]
    return after._replace(act=None if state.act is None else after.act, drawn=state.drawn)
