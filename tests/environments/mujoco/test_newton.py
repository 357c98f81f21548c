"""The solver of constraints, on problems whose answer is known another way."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.optimize import minimize_scalar

from purerl.environments.mujoco import newton


def problem(seed, size=7, rows=30):
    random = np.random.default_rng(seed)
    root = random.normal(size=(size, size))
    inertia = root @ root.T + np.eye(size)
    constraints = random.normal(size=(rows, size)), random.normal(size=rows), random.uniform(1, 100, rows)
    return inertia, random.normal(size=size), newton.Constraints(*constraints), random.normal(size=size)


def floats(tree):
    return jax.tree.map(lambda x: jnp.asarray(x, jnp.float32), tree)


def test_solve_solves():
    inertia, vector, *_ = problem(0)
    np.testing.assert_allclose(newton.solve(*floats((inertia, vector))), np.linalg.solve(inertia, vector), rtol=1e-3)


@pytest.mark.parametrize("seed", range(5))
def test_forces_and_inertia_balance_at_the_acceleration(seed):
    inertia, unconstrained, (jacobian, reference, stiffness), _ = arguments = problem(seed)
    qacc, force = (np.asarray(x, np.float64) for x in jax.jit(newton.acceleration)(*floats(arguments)))
    np.testing.assert_allclose(inertia @ (qacc - unconstrained), jacobian.T @ force, rtol=1e-3, atol=0.02)
    pushing = np.maximum(stiffness * (reference - jacobian @ qacc), 0)
    np.testing.assert_allclose(force, pushing, rtol=1e-3, atol=0.02)
    assert 0 < np.sum(force > 0) < len(force)


def test_without_constraints_that_push_the_acceleration_is_the_unconstrained_one():
    inertia, unconstrained, constraints, start = problem(0)
    none = constraints._replace(reference=jnp.full(30, -1e6))
    qacc, force = newton.acceleration(*floats((inertia, unconstrained, none, start)))
    np.testing.assert_allclose(qacc, unconstrained, atol=1e-5)
    assert not force.any()


@pytest.mark.parametrize("seed", range(5))
def test_the_search_along_a_direction_ends_at_the_minimum(seed):
    inertia, unconstrained, (jacobian, reference, stiffness), start = problem(seed)
    residual, momentum = jacobian @ start - reference, inertia @ (start - unconstrained)
    pushing = np.where(residual < 0, stiffness, 0)
    hessian = inertia + jacobian.T @ (pushing[:, None] * jacobian)
    direction = -np.linalg.solve(hessian, momentum + jacobian.T @ (pushing * residual))
    slope, linear, quadratic = jacobian @ direction, direction @ momentum, direction @ inertia @ direction

    def cost(t):
        return t * linear + 0.5 * t**2 * quadratic + 0.5 * stiffness @ np.minimum(residual + t * slope, 0) ** 2

    found = newton.along(*floats((residual, slope, stiffness, linear, quadratic)))
    assert found == pytest.approx(minimize_scalar(cost, bounds=(0, 10), method="bounded").x, rel=1e-3)
