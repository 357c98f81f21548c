"""Many runs as one program: the only place that maps over seeds and hyperparameters.

R is the number of runs. Time has no run axis, so that all runs write their rings at one index.
"""

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from purerl import loop


class Programs(NamedTuple):
    """The parts of `loop.train`, jitted over runs. `numbers` are the hyperparameters that flow (`flowing`).

    Attributes:
        begin: `(numbers, keys [R]) -> carry [R, ...]`.
        epoch: `(numbers, carry, index) -> (carry, metrics [R])`; the carry is donated.
        evaluate: `(numbers, carry, index) -> metrics [R]`.
        refill: `(numbers, carry without a ring, index) -> carry`; `index` is a Python int.
    """

    begin: Callable
    epoch: Callable
    evaluate: Callable
    refill: Callable


class Compiled(NamedTuple):
    """`begin`, `epoch` and `evaluate` of `Programs`, compiled for a number of runs, and their abstract carry."""

    carry: Any
    begin: Callable
    epoch: Callable
    evaluate: Callable


def abstract(programs, numbers, num_runs):
    """The carry of `num_runs` runs as `jax.ShapeDtypeStruct`s."""
    return jax.eval_shape(programs.begin, numbers, keys(0, num_runs))


def compiled(programs, numbers, num_runs):
    """Compile for `num_runs` runs."""
    carry = abstract(programs, numbers, num_runs)
    return Compiled(
        carry,
        programs.begin.lower(numbers, keys(0, num_runs)).compile(),
        programs.epoch.lower(numbers, carry, 0).compile(),
        programs.evaluate.lower(numbers, carry, 0).compile(),
    )


def flowing(hyper):
    """The numbers of `hyper` that flow through the program, `{name: []}`: changing one compiles nothing anew."""
    values = {field.name: getattr(hyper, field.name) for field in dataclasses.fields(hyper)}
    return {name: jnp.float32(value) for name, value in values.items() if isinstance(value, float)}


def programs(plan, build, env, hyper):
    """`build(hyper, plan, env)` makes the algorithm, inside the mapped function, so its numbers may be traced."""

    def setup(numbers):
        return loop.setup(plan, build(dataclasses.replace(hyper, **numbers), plan, env), env)

    def begin(numbers, key):
        return loop.begin(setup(numbers), key)

    def epoch(numbers, carry, index):
        return loop.epoch(setup(numbers), carry, index)

    def evaluate(numbers, carry, index):
        return loop.evaluate(setup(numbers), carry, index)

    def refill(numbers, carry, index):
        return jax.vmap(lambda carry: loop.refill(setup(numbers), carry, index))(carry)

    return Programs(
        jax.jit(jax.vmap(begin, in_axes=(None, 0))),
        jax.jit(jax.vmap(epoch, in_axes=(None, 0, None)), donate_argnums=1),
        jax.jit(jax.vmap(evaluate, in_axes=(None, 0, None))),
        jax.jit(refill, static_argnums=2),
    )


def keys(seed, num_seeds):
    """One key per run, `[R]`. Run i is the run of the integer seed + i, whatever its neighbours."""
    return jax.vmap(jax.random.key)(seed + jnp.arange(num_seeds))
