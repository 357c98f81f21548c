"""MuJoCo's physics in JAX: MJX's kinematics, contacts and forces, with a small state and a solver of fixed length.

The results equal those of MuJoCo's C code up to rounding, for the tasks of tests/environments/mujoco/test_parity.py.
The differences from MJX are:

- `State` holds only what the next step needs. MJX carries all that it has computed.
- `newton` solves the constraints, and `contacts` finds the contacts. Their docstrings explain why.
- The four Runge-Kutta stages are a loop around one compiled `forward`. MJX compiles four.
- Rotations are integrated as in MuJoCo since version 4 (`_rotation`).
- The kinematics are computed level by level (`levels`). MJX lets XLA fuse the levels.
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

with contextlib.redirect_stdout(io.StringIO()):  # MuJoCo prints that warp is missing. It is not needed.
    from mujoco import mjx as mjx
    from mujoco.mjx._src import scan
    from mujoco.mjx._src.forward import _integrate_pos

    from purerl.environments.mujoco import contacts, levels

from purerl.environments.mujoco import newton
from purerl.errors import attempt
from purerl.types import Array

Derived = dict[str, Float[Array, "..."]]

INTEGRATORS = (mujoco.mjtIntegrator.mjINT_EULER, mujoco.mjtIntegrator.mjINT_RK4)
OR_MJX = "or physics='mjx' in mujoco.from_xml"
STAGES = ((0.0, 1 / 6), (0.5, 1 / 3), (0.5, 1 / 3), (1.0, 1 / 6))  # start, as a fraction of the step, and weight


class Body(NamedTuple):
    """A compiled model.

    Attributes:
        model: MuJoCo's model.
        on_device: MJX's model.
        blank: MJX's data before any computation.
    """

    model: mujoco.MjModel
    on_device: mjx.Model
    blank: mjx.Data


class State(NamedTuple):
    """The state of one copy.

    Attributes:
        qpos: positions, `[nq]`.
        qvel: velocities, `[nv]`.
        qacc: accelerations of the last forward pass, `[nv]`. The solver starts from them.
        derived: `{name: array}` that a task reads, from the last forward pass. They are one substep old: MuJoCo updates
            the positions, but not the quantities that it derived from them.
        act: activations of the actuators, `[na]`, or None if the physics has none.
        drawn: `{field: array}`, the changes of the model in this episode, or None if the model is not randomized.
    """

    qpos: Float[Array, " nq"]
    qvel: Float[Array, " nv"]
    qacc: Float[Array, " nv"]
    derived: Derived
    act: Float[Array, " na"] | None = None
    drawn: Derived | None = None


Derive = Callable[[Body, mjx.Data], Derived]
Advance = Callable[[Body, State, Float[Array, " nu"], int, Derive], State]


def load_body(path: Path) -> Body:
    """Return the `Body` of an XML file. Raises ValueError if the solver does not support a feature of the model."""
    with without_warnings():  # about deprecated attributes: users cannot change the file
        model = mujoco.MjModel.from_xml_path(str(path))
    check_model(model, path)
    return compiled(model, path)


def compiled(model: mujoco.MjModel, path: Path | str) -> Body:
    """Return the `Body` of a model, whose solver is changed. Raises ValueError if MJX does not support the model."""
    if model.nhistory:
        raise ValueError(f"{path}: delays of actuators and sensors are not supported; use purerl.environments.delays")
    solver, newton = model.opt.solver, mujoco.mjtSolver.mjSOL_NEWTON
    model.opt.solver = newton if solver == mujoco.mjtSolver.mjSOL_PGS else solver  # MJX has no PGS. Same minimum.
    on_device = attempt(f"{path}: mjx.put_model", lambda: mjx.put_model(model))
    return Body(model, on_device, mjx.make_data(on_device))


def check_model(model: mujoco.MjModel, path: Path | str) -> None:
    """Raise ValueError, with what to use instead, if the solver does not support a feature of the model of `path`."""
    if model.na:
        raise ValueError(
            f"{path}: actuators with activation states are not supported; use motors, or position or velocity servos "
            f"without timeconst, {OR_MJX}"
        )
    if model.opt.integrator not in INTEGRATORS:
        name = mujoco.mjtIntegrator(model.opt.integrator).name.removeprefix("mjINT_").lower()
        raise ValueError(f"{path}: integrator {name!r} is not supported; known: Euler, RK4; {OR_MJX}")
    if model.opt.cone != mujoco.mjtCone.mjCONE_PYRAMIDAL:
        raise ValueError(f"{path}: elliptic friction cones are not supported; use cone 'pyramidal', {OR_MJX}")
    if model.neq:
        remedy = f"remove the {model.neq} under <equality>, {OR_MJX}"
        raise ValueError(f"{path}: equality constraints are not supported; {remedy}")
    if model.dof_frictionloss.any() or model.tendon_frictionloss.any():
        raise ValueError(f"{path}: friction losses are not supported; use damping in place of frictionloss, {OR_MJX}")
    if model.opt.disableflags & mujoco.mjtDisableBit.mjDSBL_EULERDAMP:
        raise ValueError(f"{path}: the flag eulerdamp='disable' is not supported; remove it, {OR_MJX}")
    check_actions(model, path)


def check_actions(model: mujoco.MjModel, path: Path | str) -> None:
    """Raise ValueError if a model has no actuator, or one without a range."""
    if not model.nu:
        raise ValueError(f"{path}: the model has no actuator, so there is no action; add one under <actuator>")
    for number in range(model.nu):
        if not model.actuator_ctrllimited[number]:
            name = model.actuator(number).name or number
            raise ValueError(f"{path}: actuator {name!r} has no ctrlrange, which is the range of its action; add one")


@contextlib.contextmanager
def without_warnings() -> Iterator[None]:
    """Let MuJoCo print no warnings."""
    before = mujoco.get_mju_user_warning()
    mujoco.set_mju_user_warning(lambda message: None)
    try:
        yield
    finally:
        mujoco.set_mju_user_warning(before)


def timestep(body: Body) -> float:
    """Return the duration of a substep [s]."""
    return body.model.opt.timestep


def initial_state(body: Body, qpos: ArrayLike, qvel: ArrayLike, derive: Derive) -> State:
    """Return the `State` at given positions and velocities, without forces. `derive(body, data)` returns `derived`."""
    dtype = body.blank.qpos.dtype
    qpos, qvel = jnp.asarray(qpos, dtype), jnp.asarray(qvel, dtype)
    model, data = body.on_device, body.blank.replace(qpos=qpos, qvel=qvel)
    data = mjx.com_vel(model, mjx.com_pos(model, levels.kinematics(model, data)))
    act = body.blank.act if body.model.na else None
    return State(qpos, qvel, jnp.zeros_like(qvel), derive(body, data), act)


def advance(body: Body, state: State, control: Float[Array, " nu"], substeps: int, derive: Derive) -> State:
    """Return the `State` after `substeps` timesteps under `control` `[nu]`, in the actuators' range."""
    integrate = _runge_kutta if body.model.opt.integrator == mujoco.mjtIntegrator.mjINT_RK4 else _euler

    def substep(state: State, _: None) -> tuple[State, None]:
        return integrate(body, state, control, derive), None

    after = jax.lax.scan(substep, state._replace(drawn=None), None, length=substeps)[0]
    return after._replace(drawn=state.drawn)


def forward(body: Body, data: mjx.Data) -> mjx.Data:
    """Return `data` with all that follows from positions, velocities and controls, as MuJoCo's `mj_forward` does."""
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
    """Return `data` with all that follows from positions.

    This is MJX's `fwd_position` without the factorization of M, which `newton` does not need.
    """
    data = mjx.com_pos(model, levels.kinematics(model, data))
    data = mjx.tendon_armature(model, mjx.crb(model, mjx.tendon(model, data)))
    with contacts.as_in_c():
        data = mjx.collision(model, data)
    return mjx.transmission(model, mjx.make_constraint(model, data))


def _euler(body: Body, state: State, control: Float[Array, " nu"], derive: Derive) -> State:
    """Return the `State` after a semi-implicit Euler step with implicit damping: (M + h·damping) a = all forces."""
    step, model = timestep(body), body.on_device
    data = forward(body, _data(body, state, control))
    implicit = mjx.full_m(model, data) + jnp.diag(step * model.dof_damping)
    qacc = newton.solve(implicit, data.qfrc_smooth + data.qfrc_constraint)
    qvel = state.qvel + step * qacc
    return State(_move(body, state.qpos, qvel), qvel, data.qacc, derive(body, data))


Stage = tuple[Float[Array, " nv"], State, Float[Array, " nv"], Float[Array, " nv"]]  # carried by `_runge_kutta`


def _runge_kutta(body: Body, state: State, control: Float[Array, " nu"], derive: Derive) -> State:
    """Return the `State` after a Runge-Kutta step of fourth order."""
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
    # The first stage starts at the start of the step. `begins` is 0 there, so the values it multiplies do not matter.
    shares = jnp.asarray(STAGES, state.qpos.dtype)
    (_, latest, velocity, acceleration), _ = jax.lax.scan(stage, (zero, state, zero, zero), shares)
    return State(_move(body, state.qpos, velocity), state.qvel + step * acceleration, latest.qacc, latest.derived)


def _data(body: Body, state: State, control: Float[Array, " nu"]) -> mjx.Data:
    return body.blank.replace(qpos=state.qpos, qvel=state.qvel, qacc_warmstart=state.qacc, ctrl=control)


def _move(body: Body, qpos: Float[Array, " nq"], qvel: Float[Array, " nv"]) -> Float[Array, " nq"]:
    """Return the positions after a timestep with constant velocity. Quaternions keep unit length."""

    def integrate(*joints: Any) -> Array:
        return _integrate_pos(*joints, dt=timestep(body))

    return scan.flat(body.on_device, integrate, "jqv", "q", body.on_device.jnt_type, qpos, qvel)


def _rotation(body: Body, turned: Float[Array, " nv"], velocity: Float[Array, " nv"]) -> Float[Array, " nv"]:
    """Return a stage's `velocity` in the orientation at the start of the step.

    `turned` is the rotation of the free joints since the start of the step. Angular velocities at different
    orientations must not be added. The Munthe-Kaas correction transforms them to the orientation at the start of the
    step, as in MuJoCo since version 4. It is the inverse of the derivative of the exponential map.
    """
    if int(mujoco.__version__.split(".")[0]) < 4:
        return velocity
    for start, kind in zip(body.model.jnt_dofadr, body.model.jnt_type, strict=True):
        if kind == mujoco.mjtJoint.mjJNT_FREE:
            spin = slice(start + 3, start + 6)
            velocity = velocity.at[spin].set(_at_start(turned[spin], velocity[spin]))
    return velocity


def _at_start(turned: Float[Array, "3"], spin: Float[Array, "3"]) -> Float[Array, "3"]:
    """Return ω + ½ u×ω + c u×(u×ω), with c = (1 − ½|u| cot ½|u|) / |u|², and the series of c near 0."""
    square = turned @ turned
    small = square < 1e-6
    angle = jnp.sqrt(jnp.where(small, 1.0, square))
    exact = (1.0 - 0.5 * angle / jnp.tan(0.5 * angle)) / angle**2
    cross = jnp.cross(turned, spin)
    return spin + 0.5 * cross + jnp.where(small, 1 / 12 + square / 720, exact) * jnp.cross(turned, cross)


def contact_forces(model: mjx.Model, data: mjx.Data) -> Float[Array, "nbody 6"]:
    """Return torque and force of the contacts on each body, in this order, `[nbody, 6]` (MuJoCo's `cfrc_ext`)."""
    return mjx.rne_postconstraint(model, data)._impl.cfrc_ext
