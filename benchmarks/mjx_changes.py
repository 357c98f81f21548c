"""Measure the effect of each change that purerl makes to MJX.

`python -m benchmarks.mjx_changes [--env NAME ...] [--batch N]` steps Gymnasium's tasks in several variants: as purerl
does, without one of its changes at a time, and with MJX's own `step`. They are measured in turns. The command prints a
table and adds to results/mjx_changes.csv.
"""

import argparse
import contextlib
import time
from unittest import mock

import jax
import jax.numpy as jnp

from benchmarks import table
from benchmarks.environments import Batch, compared
from purerl.environments import base, make
from purerl.environments.mujoco import dynamics, levels, tasks

COLUMNS = ("env", "variant", "batch", "steps_per_s", "of_the_first", "of_the_first_by_cpu", "compile_s")


def whole_data_carried(name):
    """Make an environment in which a step passes everything that it computed to the next, as in MJX."""
    task = tasks.TASKS[name]

    def derive(body, data):
        return task.derive(body, data) | {"data": data}

    with mock.patch.dict(tasks.TASKS, {name: task._replace(derive=derive)}):
        return make(name)


def mjx_step(name):
    """Make an environment with MJX's own `step`.

    It uses MJX's solver, carries all of its data, and makes four forward passes for the Runge-Kutta stages.
    """
    env, task = make(name), tasks.TASKS[name]
    body = tasks.load_body(task)

    def data_of(state):
        return body.blank.replace(qpos=state.qpos, qvel=state.qvel)

    @base.physics
    def reset(key):
        state = env.reset(key)
        return base.strong((data_of(state), state))

    @base.physics
    def step(both, action):
        data, before = both
        data = data.replace(ctrl=action)
        data = jax.lax.fori_loop(0, task.substeps, lambda _, data: dynamics.mjx.step(body.on_device, data), data)
        after = dynamics.State(data.qpos, data.qvel, data.qacc, task.derive(body, data))
        terms, terminated = task.reward(body, before, after, action)
        outcome = base.Outcome(sum(terms.values()), jnp.asarray(terminated, bool), jnp.asarray(False))
        return base.strong((data, after)), outcome

    return env._replace(reset=reset, step=step, observe=lambda both: env.observe(both[1]))


# name: (function that makes the environment of a task, replacements in `levels` during tracing)
VARIANTS = {
    "purerl": (make, {}),
    "whole data carried": (whole_data_carried, {}),
    "levels of bodies fused": (make, {"kinematics": dynamics.mjx.kinematics}),
    "MJX's own step": (mjx_step, {}),
}


@contextlib.contextmanager
def varied(variant, name):
    """Yield the environment of a task as the variant steps it. Trace it before leaving the block."""
    environment, changes = VARIANTS[variant]
    with mock.patch.dict(vars(levels), changes):
        yield environment(name)


def started(variant, name, size, steps):
    """Return `(Batch, seconds to compile)`."""
    before = time.perf_counter()
    with varied(variant, name) as env:
        batch = Batch(env, size, steps)
    return batch, time.perf_counter() - before


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    walkers = ["HalfCheetah-v5", "Hopper-v5", "Ant-v5"]
    parser.add_argument("--env", nargs="+", choices=list(tasks.TASKS), default=walkers, metavar="NAME")
    parser.add_argument("--variant", nargs="+", choices=VARIANTS, default=list(VARIANTS))
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--steps", type=int, default=100, help="steps per copy in a round")
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args(arguments)
    for name in options.env:
        batches = {variant: started(variant, name, options.batch, options.steps) for variant in options.variant}
        speeds, rows = compared({variant: batch for variant, (batch, _) in batches.items()}, options.rounds), []
        for variant, speed in speeds.items():
            compiled = batches[variant][1]
            print(f"{name:>24} {variant:>24}: {speed}, compiled in {compiled:.1f} s", flush=True)
            rows.append((name, variant, options.batch, *speed.cells, f"{compiled:.1f}"))
        table.add("mjx_changes", COLUMNS, rows)


if __name__ == "__main__":
    main()
