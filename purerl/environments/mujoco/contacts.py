"""Contacts as in MuJoCo's C code, for the cases in which MJX differs by more than rounding.

`as_in_c()` replaces four collision functions of MJX while a program is traced, and restores them afterwards.
"""

import contextlib
from collections.abc import Iterator

import jax
import jax.numpy as jnp
from jaxtyping import Float
from mujoco import mjx
from mujoco.mjx._src import collision_driver, collision_primitive, math
from mujoco.mjx._src.collision_types import GeomInfo

from purerl.types import Array

Distance = Float[Array, ""]
Vector = Float[Array, "3"]
Contacts = tuple[Float[Array, "*batch"], Float[Array, "*batch 3"], Float[Array, "*batch 3 3"]]  # distance, place, frame


@collision_primitive.collider(ncon=2)
def plane_capsule(plane: GeomInfo, capsule: GeomInfo) -> Contacts:
    """Return two contacts, at the ends of the capsule, with friction along and across the capsule.

    If the capsule is steep, MJX uses an axis of the world instead, which rotates the friction pyramid (mujoco issue
    2774).
    """
    normal, axis = plane.mat[:, 2], capsule.mat[:, 2]
    along, length = math.normalize_with_norm(axis - normal * jnp.dot(normal, axis))
    along = jnp.where(length == 0.0, jnp.array([1.0, 0.0, 0.0], along.dtype), along)
    frame = jnp.stack([normal, along, jnp.cross(normal, along)])

    def end(side: float) -> Contacts:
        position = capsule.pos + side * axis * capsule.size[1]
        distance = jnp.dot(position - plane.pos, normal) - capsule.size[0]
        return distance, position - normal * (capsule.size[0] + 0.5 * distance), frame

    return jax.tree.map(lambda *x: jnp.stack(x), end(1.0), end(-1.0))


@collision_primitive.collider(ncon=1)
def capsule_capsule(one: GeomInfo, two: GeomInfo) -> Contacts:
    """Return one contact, between the closest points of two segments. MJX adds 1e-6 to the divisors."""
    a, b = one.mat[:, 2] * one.size[1], two.mat[:, 2] * two.size[1]
    apart = one.pos - two.pos
    aa, ab, bb, a_apart, b_apart = a @ a, a @ b, b @ b, a @ apart, b @ apart
    determinant = aa * bb - ab * ab
    parallel = jnp.abs(determinant) < 1e-15
    s = jnp.where(parallel, 0.0, (ab * b_apart - bb * a_apart) / jnp.where(parallel, 1.0, determinant))
    s = jnp.clip(s, -1, 1)
    t = (b_apart + ab * s) / bb
    s = jnp.where(jnp.abs(t) > 1, jnp.clip((ab * jnp.clip(t, -1, 1) - a_apart) / aa, -1, 1), s)
    return _between(one.pos + s * a, one.size[0], two.pos + jnp.clip(t, -1, 1) * b, two.size[0])


@collision_primitive.collider(ncon=1)
def sphere_capsule(sphere: GeomInfo, capsule: GeomInfo) -> Contacts:
    """Return one contact, at the point of the capsule's segment nearest to the sphere. MJX adds 1e-6 to the divisor."""
    axis, length = capsule.mat[:, 2], capsule.size[1]
    nearest = capsule.pos + axis * jnp.clip(axis @ (sphere.pos - capsule.pos), -length, length)
    return _between(sphere.pos, sphere.size[0], nearest, capsule.size[0])


@collision_primitive.collider(ncon=1)
def capsule_cylinder(capsule: GeomInfo, cylinder: GeomInfo) -> Contacts:
    """Return one contact, along the direction in which capsule and cylinder are farthest apart or overlap least.

    MJX descends two distance fields, which finds other contacts. Let p and q be the ends of the segment, R the radius
    of the solid cylinder and h its half height. The gap along a direction n is min(n·p, n·q) − R |n_xy| − h |n_z|. The
    best n is either the best direction for one end alone, or at a right angle to the segment. (If a capsule lies nearly
    flat on an end face of the cylinder, the C code adds a second contact.)
    """
    radius, height = cylinder.size[0], cylinder.size[1]
    middle = cylinder.mat.T @ (capsule.pos - cylinder.pos)
    half = cylinder.mat.T @ capsule.mat[:, 2] * capsule.size[1]
    ends = jnp.stack([middle + half, middle - half])

    def gap(normal: Vector) -> Distance:
        return jnp.min(ends @ normal) - radius * jnp.linalg.norm(normal[:2]) - height * jnp.abs(normal[2])

    alone = jax.vmap(lambda end: _outwards(end, radius, height))(ends)
    normals = jnp.concatenate([alone.reshape(-1, 3), _across(middle, half, radius, height)[None]])
    gaps = jax.vmap(gap)(normals)
    best = jnp.argmax(gaps)
    normal, distance = normals[best], gaps[best] - capsule.size[0]
    nearest = middle + half * _place(normal, middle, half, radius, gaps[best])
    position = nearest - normal * (capsule.size[0] + 0.5 * distance)
    return distance, cylinder.pos + cylinder.mat @ position, math.make_frame(-(cylinder.mat @ normal))


def _outwards(point: Vector, radius: Distance, height: Distance) -> Float[Array, "3 3"]:
    """Return three unit vectors `[3, 3]` that point out of a cylinder.

    They point to `point` if it is outside, out of the side, and out of the nearer end face.
    """
    lid = jnp.array([0.0, 0.0, 1.0]) * jnp.where(point[2] < 0, -1.0, 1.0)
    side = jnp.append(_unit(point[:2], jnp.array([1.0, 0.0])), 0.0)
    beside = jnp.maximum(jnp.linalg.norm(point[:2]) - radius, 0.0)
    above = jnp.maximum(jnp.abs(point[2]) - height, 0.0)
    return jnp.stack([_unit(beside * side + above * lid, side), side, lid])


def _across(middle: Vector, half: Vector, radius: Distance, height: Distance) -> Vector:
    """Return the direction at a right angle to the segment that has the greatest gap: the best of 32, refined."""
    sideways = jnp.append(_unit(jnp.stack([-half[1], half[0]]), _unit(middle[:2], jnp.array([1.0, 0.0]))), 0.0)
    rising = jnp.cross(_unit(half, jnp.array([0.0, 0.0, 1.0])), sideways)
    sideways, rising = (axis * jnp.where(axis @ middle < 0, -1.0, 1.0) for axis in (sideways, rising))
    a, b, c = sideways @ middle, rising @ middle, jnp.abs(rising[2])

    def gap(angle: Float[Array, "*batch"]) -> Float[Array, "*batch"]:
        flat = jnp.sqrt(jnp.maximum(1.0 - (c * jnp.sin(angle)) ** 2, 1e-12))
        return a * jnp.cos(angle) + (b - height * c) * jnp.sin(angle) - radius * flat

    slope = jax.grad(gap)
    angles = jnp.linspace(0.0, jnp.pi / 2, 33, dtype=middle.dtype)[:-1]
    coarse = angle = angles[jnp.argmax(gap(angles))]
    for _ in range(5):
        bend = jax.grad(slope)(angle)
        angle = angle - jnp.where(bend < 0, slope(angle) / jnp.where(bend < 0, bend, 1.0), 0.0)
        angle = jnp.clip(angle, jnp.maximum(coarse - angles[1], 0.0), jnp.minimum(coarse + angles[1], jnp.pi / 2))
    return jnp.cos(angle) * sideways + jnp.sin(angle) * rising


def _place(normal: Vector, middle: Vector, half: Vector, radius: Distance, gap: Distance) -> Distance:
    """Return the position of the contact on the segment, from -1 to 1.

    It is an end of the segment. If the segment is at a right angle to `normal`, it is the point above the cylinder.
    """
    leaning, flat = normal @ half, half[:2] @ half[:2]
    over = (radius * _unit(normal[:2], normal[:2]) + gap * normal[:2] - middle[:2]) @ half[:2]
    beside = jnp.where(flat > 0, over / jnp.where(flat > 0, flat, 1.0), 0.0)
    at_right_angle = jnp.abs(leaning) < 1e-5 * jnp.sqrt(half @ half)
    return jnp.where(at_right_angle, jnp.clip(beside, -1, 1), -jnp.sign(leaning))


def _unit(vector: Float[Array, " axes"], otherwise: Float[Array, " axes"]) -> Float[Array, " axes"]:
    length = jnp.sqrt(vector @ vector)
    return jnp.where(length > 0, vector / jnp.where(length > 0, length, 1.0), otherwise)


def _between(one: Vector, one_radius: Distance, two: Vector, two_radius: Distance) -> Contacts:
    """Return the contact of two spheres."""
    normal, distance = math.normalize_with_norm(two - one)
    normal = jnp.where(distance == 0.0, jnp.array([1.0, 0.0, 0.0], normal.dtype), normal)
    distance = distance - (one_radius + two_radius)
    return distance, one + normal * (one_radius + 0.5 * distance), math.make_frame(normal)


AS_IN_C = {
    (mjx.GeomType.PLANE, mjx.GeomType.CAPSULE): plane_capsule,
    (mjx.GeomType.CAPSULE, mjx.GeomType.CAPSULE): capsule_capsule,
    (mjx.GeomType.SPHERE, mjx.GeomType.CAPSULE): sphere_capsule,
    (mjx.GeomType.CAPSULE, mjx.GeomType.CYLINDER): capsule_cylinder,
}


@contextlib.contextmanager
def as_in_c() -> Iterator[None]:
    """Make MJX use the functions of `AS_IN_C` while a program is traced."""
    table = collision_driver._COLLISION_FUNC
    before = {kinds: table[kinds] for kinds in AS_IN_C}
    try:
        table.update(AS_IN_C)
        yield
    finally:
        table.update(before)
