"""The acceleration of a body under contacts and limits, with a fixed number of operations.

MuJoCo's accelerations a minimize a convex function:

    ½ (a − a₀)ᵀ M (a − a₀) + ½ Σ D min(J a − r, 0)²

M is the inertia, and a₀ is the acceleration without constraints. Every constraint has a row of the Jacobian J, a
reference r and a stiffness D. It pushes only if J a − r < 0.

MJX iterates until the minimum, and each line search, has converged. Its loops have unknown length, so a GPU waits for
the host. They also call a library to solve systems of only 9 equations. Here Newton's method takes `ITERATIONS` steps,
each to the minimum along its direction. All of it is plain arithmetic that XLA fuses.

Sizes: nv degrees of freedom, nefc constraints.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Float, Int

from purerl.types import Array, Scalar

Value = Float[Array, ""]
Point = tuple[Float[Array, " nv"], Float[Array, " nefc"], Float[Array, " nv"]]  # a, J a − r, M (a − a₀)
SEARCHES = 3  # iterations of each line search
ITERATIONS = 7  # With 5, Ant and the humanoids still differ from MuJoCo's C code by more than rounding.


class Constraints(NamedTuple):
    """The constraints of one state.

    Attributes:
        jacobian: `[nefc, nv]`, zero in the rows of inactive contacts.
        reference: the accelerations that the constraints demand, `[nefc]`.
        stiffness: `[nefc]`, positive.
    """

    jacobian: Float[Array, "nefc nv"]
    reference: Float[Array, " nefc"]
    stiffness: Float[Array, " nefc"]


def solve(matrix: Float[Array, "nv nv"], vector: Float[Array, " nv"]) -> Float[Array, " nv"]:
    """Return x with A x = b for a symmetric positive definite A, by unrolled Gauss-Jordan elimination."""
    rows = jnp.concatenate([matrix, vector[:, None]], axis=1)
    for i in range(len(vector)):
        pivot = rows[i] / rows[i, i]
        rows = (rows - rows[:, i : i + 1] * pivot).at[i].set(pivot)
    return rows[:, -1]


def acceleration(
    inertia: Float[Array, "nv nv"],
    unconstrained: Float[Array, " nv"],
    constraints: Constraints,
    start: Float[Array, " nv"],
) -> tuple[Float[Array, " nv"], Float[Array, " nefc"]]:
    """Return `(a, force of each constraint)` at the minimum. The search starts from the better of a₀ and `start`."""
    jacobian, reference, stiffness = constraints

    def at(qacc: Float[Array, " nv"]) -> tuple[Point, Value]:
        residual, momentum = jacobian @ qacc - reference, inertia @ (qacc - unconstrained)
        cost = momentum @ (qacc - unconstrained) + jnp.sum(stiffness * jnp.minimum(residual, 0.0) ** 2)
        return (qacc, residual, momentum), cost

    def descend(_: Int[Array, ""], point: Point) -> Point:
        qacc, residual, momentum = point
        pushing = jnp.where(residual < 0, stiffness, 0.0)
        gradient = momentum + jacobian.T @ (pushing * residual)
        hessian = inertia + jnp.sum(jacobian[:, :, None] * (pushing[:, None] * jacobian)[:, None, :], axis=0)
        direction = -solve(hessian, gradient)
        slope, bend = jacobian @ direction, inertia @ direction
        step = along(residual, slope, stiffness, direction @ momentum, direction @ bend)
        return qacc + step * direction, residual + step * slope, momentum + step * bend

    (warm, warm_cost), (cold, cold_cost) = at(start), at(unconstrained)
    point = jax.tree.map(lambda a, b: jnp.where(warm_cost < cold_cost, a, b), warm, cold)
    qacc, residual, _ = jax.lax.fori_loop(0, ITERATIONS, descend, point)
    return qacc, -stiffness * jnp.minimum(residual, 0.0)


def along(
    residual: Float[Array, " nefc"],
    slope: Float[Array, " nefc"],
    stiffness: Float[Array, " nefc"],
    linear: Value,
    quadratic: Value,
) -> Scalar:
    """Return the t that minimizes  t·linear + ½ t²·quadratic + ½ Σ D min(x + t s, 0)²  along one Newton direction.

    The derivative increases. It is linear between the values of t at which a constraint starts or stops pushing. From
    t = 1, Newton steps therefore reach its zero exactly once no constraint starts or stops in between. If a step leaves
    the bracket, the bracket is bisected.
    """
    lower, upper, t = 0.0, jnp.inf, 1.0
    for _ in range(SEARCHES):
        pushing = jnp.where(residual + t * slope < 0, stiffness, 0.0) * slope
        derivative = linear + t * quadratic + pushing @ (residual + t * slope)
        curvature = quadratic + pushing @ slope
        lower, upper = jnp.where(derivative <= 0, t, lower), jnp.where(derivative > 0, t, upper)
        step = t - derivative / jnp.where(curvature > 0, curvature, 1.0)
        t = jnp.where((step >= lower) & (step <= upper), step, 0.5 * (lower + upper))
    return t
