"""Measure the time of a training step against the capacity and the kind of the replay buffer (ring).

`python -m benchmarks.ring [--seeds N] [--rounds N]` prints a table and adds to results/ring.csv. A ring that is updated
in place takes the same time at any size, except for slower memory access in a large one. The compact ring should take
as long as the plain one. Every ring is full.
"""

import argparse

from benchmarks import table, timing
from benchmarks.command import refusing
from benchmarks.training import Training, plan_of

CAPACITIES = (1_000, 10_000, 100_000, 1_000_000)
VARIANTS = [(ring, "float32", capacity) for ring in ("plain", "compact") for capacity in CAPACITIES]
VARIANTS += [("compact", "bfloat16", 1_000_000)]
STEPS = 200


def trained_by(ring, dtype, capacity, num_seeds):
    plan = plan_of(STEPS, buffer_size=capacity, warmup_steps=capacity, ring=ring, ring_dtype=dtype)
    return Training("td3", plan, num_seeds)


@refusing
def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=9)
    options = parser.parse_args(arguments)
    trainings = {variant: trained_by(*variant, options.seeds) for variant in VARIANTS}
    times = timing.interleaved(trainings, options.rounds)
    rows = []
    for variant in VARIANTS:
        ring, dtype, capacity = variant
        wall, ratio = (
            timing.medians(times[variant]).wall / STEPS * 1e3,
            timing.ratio(times[variant], times[VARIANTS[0]]),
        )
        print(f"{ring:>7} {dtype:>8} {capacity:>9,}  {wall:8.3f} ms per step  {ratio.wall:5.2f} of the first", end=" ")
        print(f"(CPU time {ratio.cpu:.2f})")
        rows.append((ring, dtype, capacity, options.seeds, f"{wall:.4f}", f"{ratio.wall:.4f}", f"{ratio.cpu:.4f}"))
    table.add("ring", ("ring", "dtype", "capacity", "num_seeds", "ms_per_step", "ratio", "cpu_ratio"), rows)


if __name__ == "__main__":
    main()
