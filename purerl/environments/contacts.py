"""Contacts as MuJoCo's C code finds them, where MJX's differ by more than rounding.

`as_in_c()` exchanges three of MJX's collision functions while a program is traced, and puts them back.
"""

import contextlib

import jax
import jax.numpy as jnp
from mujoco import mjx
from mujoco.mjx._src import collision_driver, collision_primitive, math


@collision_primitive.collider(ncon=2)
def plane_capsule(plane, capsule):
    """Two contacts, at the capsule's ends, with friction along and across the capsule.

    MJX takes an axis of the world instead where the capsule is steep, which turns the pyramid that friction is
    limited by (mujoco issue 2774).
    """
    normal, axis = plane.mat[:, 2], capsule.mat[:, 2]
    along, length = math.normalize_with_norm(axis - normal * jnp.dot(normal, axis))
    along = jnp.where(length == 0.0, jnp.array([1.0, 0.0, 0.0], along.dtype), along)
    frame = jnp.stack([normal, along, jnp.cross(normal, along)])

    def end(side):
        position = capsule.pos + side * axis * capsule.size[1]
        distance = jnp.dot(position - plane.pos, normal) - capsule.size[0]
        return distance, position - normal * (capsule.size[0] + 0.5 * distance), frame

    return jax.tree.map(lambda *x: jnp.stack(x), end(1.0), end(-1.0))


@collision_primitive.collider(ncon=1)
def capsule_capsule(one, two):
    """One contact, between the closest points of two segments. MJX adds 1e-6 to what it divides by."""
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
def sphere_capsule(sphere, capsule):
    """One contact, at the point of the capsule's segment next to the sphere. MJX adds 1e-6 to what it divides by."""
    axis, length = capsule.mat[:, 2], capsule.size[1]
    nearest = capsule.pos + axis * jnp.clip(axis @ (sphere.pos - capsule.pos), -length, length)
    return _between(sphere.pos, sphere.size[0], nearest, capsule.size[0])


def _between(one, one_radius, two, two_radius):
    """The contact of two spheres."""
    normal, distance = math.normalize_with_norm(two - one)
    normal = jnp.where(distance == 0.0, jnp.array([1.0, 0.0, 0.0], normal.dtype), normal)
    distance = distance - (one_radius + two_radius)
    return distance, one + normal * (one_radius + 0.5 * distance), math.make_frame(normal)


AS_IN_C = {
    (mjx.GeomType.PLANE, mjx.GeomType.CAPSULE): plane_capsule,
    (mjx.GeomType.CAPSULE, mjx.GeomType.CAPSULE): capsule_capsule,
    (mjx.GeomType.SPHERE, mjx.GeomType.CAPSULE): sphere_capsule,
}


@contextlib.contextmanager
def as_in_c():
    table = collision_driver._COLLISION_FUNC
    before = {kinds: table[kinds] for kinds in AS_IN_C}
    try:
        table.update(AS_IN_C)
        yield
    finally:
        table.update(before)
