"""Time of a training step against the capacity and the kind of the ring.

`python -m benchmarks.ring [--seeds N] [--rounds N]` prints a table and adds to results/ring.csv. A ring that is written
in place costs the same at any size; the compact one should cost what the plain one does.
"""

import argparse
import time
from statistics import median

import jax
import jax.numpy as jnp

from benchmarks import table
from purerl import batch, td3
from purerl.environments.base import Environment, Outcome
from purerl.settings import Plan

VARIANTS = [(ring, "float32", capacity) for ring in ("plain", "compact") for capacity in (10_000, 100_000, 1_000_000)]
VARIANTS += [("compact", "bfloat16", 1_000_000)]
STEPS = 200


def walk(obs_size=17, action_size=6):
    """A random-free environment of HalfCheetah's sizes that costs next to nothing."""

    def step(state, action):
        state = 0.9 * state + 0.1 * jnp.resize(action, state.shape)
        return state, Outcome(state.sum(), jnp.bool_(False), jnp.bool_(False))

    def reset(key):
        return jax.random.normal(key, (obs_size,))

    return Environment(reset, step, lambda state: state, obs_size, action_size, 1000, "walk", truncates=False)


def trained_by(ring, dtype, capacity, num_seeds):
    """A function that trains `STEPS` steps and returns the seconds it took, for TD3 with a ring of `capacity` rows."""
    plan = Plan(
        num_envs=1,
        updates_per_step=1,
        warmup_steps=256,
        total_steps=256 + STEPS,
        num_evals=2,
        buffer_size=capacity,
        ring=ring,
        ring_dtype=dtype,
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
    trainings = {variant: trained_by(*variant, options.seeds) for variant in VARIANTS}
    for train in trainings.values():
        train()  # compiles
    seconds = {variant: [] for variant in VARIANTS}
    for _ in range(options.rounds):
        for variant, train in trainings.items():
            seconds[variant].append(train())
    rows = []
    for variant in VARIANTS:
        ring, dtype, capacity = variant
        per_step = median(seconds[variant]) / STEPS * 1e3
        ratio = median(b / a for a, b in zip(seconds[VARIANTS[0]], seconds[variant], strict=True))
        print(f"{ring:>7} {dtype:>8} {capacity:>9,}  {per_step:8.3f} ms per step  {ratio:5.2f} of the first")
        rows.append((ring, dtype, capacity, options.seeds, f"{per_step:.4f}", f"{ratio:.4f}"))
    table.add("ring", ("ring", "dtype", "capacity", "num_seeds", "ms_per_step", "ratio"), rows)


if __name__ == "__main__":
    main()
