"""Domain randomization: changes of a `mjx.Model` that are drawn once per episode.

The changes are part of the environment's state. Every copy has its own draw, and a resumed run continues with it.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, PyTree
from mujoco import mjx

from purerl.environments.base import shown
from purerl.errors import attempt, closest
from purerl.types import Array, Key

Changes = dict[str, Float[Array, "..."]]  # {field of mjx.Model: its new value}
Randomize = Callable[[Key, mjx.Model], Changes]
Draw = Callable[[Key], Changes]

TRIES = 64  # draws that are checked when an environment is made
NOT_NEGATIVE = ("body_mass", "body_inertia", "dof_armature", "dof_damping", "geom_friction", "geom_size", "geom_margin")


def changed(model: mjx.Model, changes: Changes) -> mjx.Model:
    """Return `model` with other values in some of its float fields. Fields of its options are called `opt.gravity` …

    If the masses change, `body_subtreemass` follows. Other fields that MuJoCo computes from them, such as
    `dof_invweight0`, keep the values of the XML file, as in MuJoCo without `mj_setConst`.
    """
    if "body_mass" in changes and "body_subtreemass" not in changes:
        heavier = jnp.asarray(_subtrees(model), model.body_mass.dtype) @ changes["body_mass"]
        changes = changes | {"body_subtreemass": heavier}
    return model.tree_replace(changes)


def _subtrees(model: mjx.Model) -> Float[np.ndarray, "nbody nbody"]:
    """Return a matrix that is 1 where the body of the column is in the subtree of the body of the row."""
    within = np.eye(model.nbody)
    for child in range(model.nbody - 1, 0, -1):  # Parents have smaller numbers than their children.
        within[model.body_parentid[child]] += within[child]
    return within


def checked(randomize: Any, model: mjx.Model, name: str) -> Draw:
    """Return `(key) -> changes` for a function `(key, model) -> changes`, in the order and dtypes of `model`.

    Raises ValueError, in one line that begins with the environment's `name`, if it is no such function. Fields must be
    float fields of `model`, with their shapes. 64 draws must be finite, and where needed not negative.
    """
    if not callable(randomize):
        raise ValueError(f"{name}: randomize is {shown(randomize)}; it must be a function (key, model) -> changes")
    what, fields = f"{name}: randomize(key, model)", float_fields(model)
    draws: Any = attempt(what, lambda: jax.eval_shape(lambda key: randomize(key, model), jax.random.key(0)))
    if not isinstance(draws, dict) or not draws:
        raise ValueError(f"{what} returns {shown(draws)}; it must return a dict {{field of the model: array}}")
    for field, value in draws.items():
        _check_field(what, model, fields, field, value)

    def draw(key: Key) -> Changes:
        drawn: Any = randomize(key, model)
        return {field: jnp.asarray(drawn[field], fields[field].dtype) for field in sorted(drawn)}

    _check_draws(what, jax.jit(jax.vmap(draw))(jax.random.split(jax.random.key(0), TRIES)))
    return draw


def float_fields(model: mjx.Model) -> Changes:
    """Return `{name: value}` of the fields of `model` and of its options that can be changed."""
    fields = {name: x for name, x in vars(model).items() if name != "stat"}
    fields |= {f"opt.{name}": x for name, x in vars(model.opt).items()}
    return {name: x for name, x in fields.items() if isinstance(x, jax.Array) and jnp.issubdtype(x.dtype, jnp.floating)}


def _check_field(what: str, model: mjx.Model, fields: Changes, field: Any, value: Any) -> None:
    fixed = {*vars(model), *(f"opt.{name}" for name in vars(model.opt))}
    if field == "opt.timestep":
        raise ValueError(f"{what} changes opt.timestep, but all copies take steps of the same duration; leave it out")
    if field in fixed and field not in fields:
        raise ValueError(f"{what} changes {field}, which is fixed when the model is compiled; change a field of floats")
    if field not in fields:
        near = closest(field, tuple(fields)).partition(" known:")[0].rstrip(";")
        raise ValueError(f"{what} changes {field!r}, which is no field of a mjx.Model{near}")
    if not hasattr(value, "dtype") or not jnp.issubdtype(value.dtype, jnp.number):
        raise ValueError(f"{what}: {field} is {shown(value)}; it must be an array of numbers")
    if value.shape != fields[field].shape:
        raise ValueError(f"{what}: {field} is of shape {value.shape}; it must be of shape {fields[field].shape}")


def _check_draws(what: str, drawn: Changes) -> None:
    for field, values in drawn.items():
        values = np.asarray(values)
        if not np.isfinite(values).all():
            raise ValueError(f"{what} draws {field} that is not finite; it must be finite for every key")
        if field in NOT_NEGATIVE and values.min() < 0:
            raise ValueError(f"{what} draws {field} of {values.min():.4g}; it must not be negative for any key")


def refuse_unread(name: str, step: Callable[..., PyTree], drawn: PyTree, *arguments: PyTree) -> None:
    """Raise ValueError if a step does not depend on a changed field. Nothing is computed.

    `step` is `(changes, *arguments) -> results`. Without the check, changing such a field would have no effect.
    """
    jaxpr = jax.make_jaxpr(step)(drawn, *arguments).jaxpr
    read = {id(x) for equation in jaxpr.eqns for x in equation.invars} | {id(x) for x in jaxpr.outvars}
    for field, variable in zip(sorted(drawn), jaxpr.invars, strict=False):
        if id(variable) not in read:
            raise ValueError(f"{name}: randomize changes {field}, but no step of this model reads it; leave it out")
