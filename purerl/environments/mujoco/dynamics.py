"""MuJoCo's physics in JAX: MJX's kinematics, contacts and forces, with a small state and a solver of known length.

The numbers are those of MuJoCo's C code, to rounding, for the tasks of tests/environments/mujoco/test_parity.py.
What differs from MJX:

* `State` is the little that one step needs of the one before. MJX carries all it has computed.
* The constraints are solved by `newton`, contacts are found by `contacts`; each says why.
* Runge and Kutta's four stages are a loop around one compiled `forward`; MJX compiles four.
* Rotations are integrated as MuJoCo does since version 4 (`_rotation`).
* The tree of bodies is walked level by level (`levels`). MJX lets XLA fuse the levels.
"""

import contextlib
import io
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import mujoco
from jax.typing import ArrayLike
from jaxtyping import Float

with contextlib.redirect_stdout(io.StringIO()):  # MuJoCo prints that warp, which is not used, is missing.
    from mujoco import mjx
    from mujoco.mjx._src import scan
    from mujoco.mjx._src.forward import _integrate_pos

    from purerl.environments.mujoco import contacts, levels

from purerl.environments.mujoco import newton
from purerl.types import Array

Derived = dict[str, Float[Array, "..."]]

STAGES = ((0.0, 1 / 6), (0.5, 1 / 3), (0.5, 1 / 3), (1.0, 1 / 6))  # how far each begins, how much it counts


class Body(NamedTuple):
    """A compiled model. Attributes:
    model: MuJoCo's own.
    on_device: MJX's.
    blank: MJX's data, before anything was computed.
    """

    model: mujoco.MjModel
    on_device: mjx.Model
    blank: mjx.Data


class State(NamedTuple):
    """Attributes:
    qpos: positions, `[nq]`.
    qvel: velocities, `[nv]`.
    qacc: accelerations of the last forward pass, `[nv]`: where the solver begins.
    derived: `{name: numbers}` that a task reads, as the last forward pass had them. That is a substep ago:
        MuJoCo moves the positions and leaves what it derived from them.
    """

    qpos: Float[Array, " nq"]
    qvel: Float[Array, " nv"]
    qacc: Float[Array, " nv"]
    derived: Derived


Derive = Callable[[Body, mjx.Data], Derived]


def load_body(path: Path) -> Body:
    """The `Body` in an XML file. Raises ValueError for what the solver does not know."""
    with _without_warnings():  # of deprecated attributes: nobody here can mend the file
        model = mujoco.MjModel.from_xml_path(str(path))
    model.opt.solver = mujoco.mjtSolver.mjSOL_NEWTON  # PGS (Humanoid) is not in MJX; the minimum is the same.
    on_device = mjx.put_model(model)
    body = Body(model, on_device, mjx.make_data(on_device))
    rows = body.blank._impl
    if model.opt.cone != mujoco.mjtCone.mjCONE_PYRAMIDAL or rows.ne or rows.nf:
        raise ValueError(f"{path}: elliptic cones, equalities and friction losses are not supported")
    return body


@contextlib.contextmanager
def _without_warnings() -> Iterator[None]:
    before = mujoco.get_mju_user_warning()
    mujoco.set_mju_user_warning(lambda message: None)
    try:
        yield
    finally:
        mujoco.set_mju_user_warning(before)


def timestep(body: Body) -> float:
    """Of a substep [s]."""
    return body.model.opt.timestep


def initial_state(body: Body, qpos: ArrayLike, qvel: ArrayLike, derive: Derive) -> State:
    """The `State` at positions and velocities, where nothing pushes yet. `derive(body, data)` makes `derived`."""
    dtype = body.blank.qpos.dtype
    qpos, qvel = jnp.asarray(qpos, dtype), jnp.asarray(qvel, dtype)
    model, data = body.on_device, body.blank.replace(qpos=qpos, qvel=qvel)
    data = mjx.com_vel(model, mjx.com_pos(model, levels.kinematics(model, data)))
    return State(qpos, qvel, jnp.zeros_like(qvel), derive(body, data))


def advance(body: Body, state: State, control: Float[Array, " nu"], substeps: int, derive: Derive) -> State:
    """The `State` after `substeps` of the timestep under `control` `[nu]`, in the actuators' own range."""
    integrate = _runge_kutta if body.model.opt.integrator == mujoco.mjtIntegrator.mjINT_RK4 else _euler

    def substep(state: State, _: None) -> tuple[State, None]:
        return integrate(body, state, control, derive), None

    return jax.lax.scan(substep, state, None, length=substeps)[0]


def forward(body: Body, data: mjx.Data) -> mjx.Data:
    """MuJoCo's `mj_forward`: everything that follows from positions, velocities and controls."""
    model = body.on_device
    data = mjx.fwd_actuation(model, mjx.fwd_velocity(model, _positions(model, data)))
    force = data.qfrc_passive - data.qfrc_bias + data.qfrc_actuator
    inertia = mjx.full_m(model, data)
    smooth = newton.solve(inertia, force)
    data = data.replace(qfrc_smooth=force, qacc_smooth=smooth, qacc=smooth)
    rows = newton.Constraints(data._impl.efc_J, data._impl.efc_aref, data._impl.efc_D)
    if not len(rows.reference):
        return data
    qacc, pushes = newton.acceleration(inertia, smooth, rows, data.qacc_warmstart)
    data = data.replace(qacc=qacc, qfrc_constraint=rows.jacobian.T @ pushes)
    return data.tree_replace({"_impl.efc_force": pushes})


def _positions(model: mjx.Model, data: mjx.Data) -> mjx.Data:
    """What follows from positions: MJX's `fwd_position` without a factor of M, which `newton` does not need."""
    data = mjx.com_pos(model, levels.kinematics(model, data))
    data = mjx.tendon_armature(model, mjx.crb(model, mjx.tendon(model, data)))
    with contacts.as_in_c():
        data = mjx.collision(model, data)
    return mjx.transmission(model, mjx.make_constraint(model, data))


def _euler(body: Body, state: State, control: Float[Array, " nu"], derive: Derive) -> State:
    """Semi-implicit, with implicit damping: (M + h·damping) a = all forces."""
    step, model = timestep(body), body.on_device
    data = forward(body, _data(body, state, control))
    implicit = mjx.full_m(model, data) + jnp.diag(step * model.dof_damping)
    qacc = newton.solve(implicit, data.qfrc_smooth + data.qfrc_constraint)
    qvel = state.qvel + step * qacc
    return State(_move(body, state.qpos, qvel), qvel, data.qacc, derive(body, data))


Stage = tuple[Float[Array, " nv"], State, Float[Array, " nv"], Float[Array, " nv"]]  # carried by `_runge_kutta`


def _runge_kutta(body: Body, state: State, control: Float[Array, " nu"], derive: Derive) -> State:
    """Of fourth order."""
    step = timestep(body)

    def stage(carry: Stage, share: Float[Array, "2"]) -> tuple[Stage, None]:
        velocity, latest, velocities, accelerations = carry
        begins, weight = share
        qpos = _move(body, state.qpos, begins * velocity)
        qvel = state.qvel + begins * step * latest.qacc
        data = forward(body, _data(body, State(qpos, qvel, latest.qacc, {}), control))
        velocity = _rotation(body, begins * step * velocity, qvel)
        latest = State(qpos, qvel, data.qacc, derive(body, data))
        return (velocity, latest, velocities + weight * velocity, accelerations + weight * data.qacc), None

    zero = jnp.zeros_like(state.qvel)
    # The first stage begins where the step does: `begins` is 0 there, so that nothing it multiplies matters.
    shares = jnp.asarray(STAGES, state.qpos.dtype)
    (_, latest, velocity, acceleration), _ = jax.lax.scan(stage, (zero, state, zero, zero), shares)
    return State(_move(body, state.qpos, velocity), state.qvel + step * acceleration, latest.qacc, latest.derived)


def _data(body: Body, state: State, control: Float[Array, " nu"]) -> mjx.Data:
    return body.blank.replace(qpos=state.qpos, qvel=state.qvel, qacc_warmstart=state.qacc, ctrl=control)


def _move(body: Body, qpos: Float[Array, " nq"], qvel: Float[Array, " nv"]) -> Float[Array, " nq"]:
    """Positions after a timestep with constant velocity; quaternions stay on the sphere."""

    def integrate(*joints: Any) -> Array:
        return _integrate_pos(*joints, dt=timestep(body))

    return scan.flat(body.on_device, integrate, "jqv", "q", body.on_device.jnt_type, qpos, qvel)


def _rotation(body: Body, turned: Float[Array, " nv"], velocity: Float[Array, " nv"]) -> Float[Array, " nv"]:
    """What a stage's `velocity` counts as, after the free joints have `turned` since the step began.

    Angular velocities at different orientations must not be added. Munthe-Kaas's correction (the inverse of the
    exponential map's derivative) brings them to the orientation at the start of the step, as MuJoCo does since
    version 4.
    """
    if int(mujoco.__version__.split(".")[0]) < 4:
        return velocity
    for start, kind in zip(body.model.jnt_dofadr, body.model.jnt_type, strict=True):
        if kind == mujoco.mjtJoint.mjJNT_FREE:
            spin = slice(start + 3, start + 6)
            velocity = velocity.at[spin].set(_at_start(turned[spin], velocity[spin]))
    return velocity


def _at_start(turned: Float[Array, "3"], spin: Float[Array, "3"]) -> Float[Array, "3"]:
    """ω + ½ u×ω + c u×(u×ω), with c = (1 − ½|u| cot ½|u|) / |u|², near 0 its series."""
    square = turned @ turned
    small = square < 1e-6
    angle = jnp.sqrt(jnp.where(small, 1.0, square))
    exact = (1.0 - 0.5 * angle / jnp.tan(0.5 * angle)) / angle**2
    cross = jnp.cross(turned, spin)
    return spin + 0.5 * cross + jnp.where(small, 1 / 12 + square / 720, exact) * jnp.cross(turned, cross)


def contact_forces(body: Body, data: mjx.Data) -> Float[Array, "nbody 6"]:
    """Force and torque of contacts on each body, `[nbody, 6]` (MuJoCo's `cfrc_ext`)."""
    return mjx.rne_postconstraint(body.on_device, data)._impl.cfrc_ext
