"""A model of one's own: purerl's step and MJX's own, with and without domain randomization.

`python -m benchmarks.own_model [--batch N] [--steps N] [--rounds N]` steps an acrobot, two links with a motor between
them, with random actions. It prints a table and adds to results/own_model.csv.
"""

import argparse
import time

import jax
import jax.numpy as jnp

from benchmarks import table
from benchmarks.environments import Batch, compared
from purerl.environments import mujoco

COLUMNS = ("variant", "batch", "steps_per_s", "of_the_first", "of_the_first_cpu", "compile_s")
ACROBOT = """
<mujoco model="acrobot">
  <option timestep="0.01" integrator="RK4"/>
  <default>
    <joint type="hinge" axis="0 1 0" damping="0.05"/>
    <geom type="capsule" size="0.05" fromto="0 0 0 0 0 -1" mass="1" contype="0" conaffinity="0"/>
  </default>
  <worldbody>
    <body pos="0 0 2">
      <joint name="shoulder"/>
      <geom/>
      <body pos="0 0 -1">
        <joint name="elbow"/>
        <geom/>
      </body>
    </body>
  </worldbody>
  <actuator>
    <motor joint="elbow" ctrlrange="-10 10"/>
  </actuator>
</mujoco>
"""


def reward(before, action, after):
    """Return the height of the tip."""
    return -jnp.cos(after.qpos[0]) - jnp.cos(after.qpos.sum())


def randomize(key, model):
    """Change the masses, and the inertias with them."""
    scale = jax.random.uniform(key, (model.nbody,), minval=0.5, maxval=1.5)
    return {"body_mass": model.body_mass * scale, "body_inertia": model.body_inertia * scale[:, None]}


VARIANTS = {
    "purerl": {},
    "purerl, randomized": {"randomize": randomize},
    "mjx": {"physics": "mjx"},
    "mjx, randomized": {"physics": "mjx", "randomize": randomize},
}


def started(variant, size, steps):
    """Return `(Batch, seconds to trace and compile)`."""
    before = time.perf_counter()
    env = mujoco.from_xml(ACROBOT, reward=reward, substeps=5, episode_length=200, **VARIANTS[variant])
    return Batch(env, size, steps), time.perf_counter() - before


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--variant", nargs="+", choices=VARIANTS, default=list(VARIANTS), metavar="NAME")
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--steps", type=int, default=100, help="steps per copy in a round")
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args(arguments)
    batches = {variant: started(variant, options.batch, options.steps) for variant in options.variant}
    speeds, rows = compared({variant: batch for variant, (batch, _) in batches.items()}, options.rounds), []
    for variant, speed in speeds.items():
        compiled = batches[variant][1]
        print(f"{variant:>20}: {speed}, compiled in {compiled:.1f} s", flush=True)
        rows.append((variant, options.batch, *speed.cells, f"{compiled:.1f}"))
    table.add("own_model", COLUMNS, rows)


if __name__ == "__main__":
    main()
