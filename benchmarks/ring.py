"""Time of a training step against the capacity of the ring: a ring that is written in place costs the same at any size.

`python -m benchmarks.ring [--seeds N] [--rounds N]` prints a table and adds to results/ring.csv.
"""

import argparse
import csv
import time
from pathlib import Path
from statistics import median

import jax
import jax.numpy as jnp

from purerl import batch, td3
from purerl.environments.base import Environment, Outcome
from purerl.record import record
from purerl.settings import Plan

CAPACITIES = (10_000, 100_000, 1_000_000)
STEPS = 200


def walk(obs_size=17, action_size=6):
    """A random-free environment of HalfCheetah's sizes that costs next to nothing."""

    def step(state, action):
        state = 0.9 * state + 0.1 * jnp.resize(action, state.shape)
        return state, Outcome(state.sum(), jnp.bool_(False), jnp.bool_(False))

    def reset(key):
        return jax.random.normal(key, (obs_size,))

    return Environment(reset, step, lambda state: state, obs_size, action_size, 1000, "walk")


def trained_by(capacity, num_seeds):
    """A function that trains `STEPS` steps and returns the seconds it took, for TD3 with a ring of `capacity` rows."""
    plan = Plan(
        num_envs=1, updates_per_step=1, warmup_steps=256, total_steps=256 + STEPS, num_evals=2, buffer_size=capacity
    )
    hyper = td3.Hyper()
    programs, numbers = batch.programs(plan, td3.td3, walk(), hyper), batch.flowing(hyper)
    kept = [programs.begin(numbers, batch.keys(0, num_seeds))]

    def train():
        begun = time.perf_counter()
        kept[0], _ = jax.block_until_ready(programs.epoch(numbers, kept[0], 0))
        return time.perf_counter() - begun

    return train


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=9)
    options = parser.parse_args()
    trainings = {capacity: trained_by(capacity, options.seeds) for capacity in CAPACITIES}
    for train in trainings.values():
        train()  # compiles
    seconds = {capacity: [] for capacity in CAPACITIES}
    for _ in range(options.rounds):
        for capacity, train in trainings.items():
            seconds[capacity].append(train())
    facts = record()
    path = Path(__file__).parent / "results" / "ring.csv"
    path.parent.mkdir(exist_ok=True)
    new = not path.exists()
    with open(path, "a", newline="") as file:
        writer = csv.writer(file)
        if new:
            writer.writerow(("capacity", "num_seeds", "ms_per_step", "ratio", "device", "num_cores", "jax", "date"))
        for capacity in CAPACITIES:
            per_step = median(seconds[capacity]) / STEPS * 1e3
            ratio = median(b / a for a, b in zip(seconds[CAPACITIES[0]], seconds[capacity], strict=True))
            print(f"{capacity:>9,} rows  {per_step:8.3f} ms per step  {ratio:5.2f} of {CAPACITIES[0]:,} rows")
            where = (facts["device"], facts["num_cores"], facts["versions"]["jax"], facts["date"])
            writer.writerow((capacity, options.seeds, f"{per_step:.4f}", f"{ratio:.4f}", *where))


if __name__ == "__main__":
    main()
