"""Measure the cost of fresh episode starts: random steps with a new start for every episode, and without.

`python -m benchmarks.starts [--rounds N]` prints a table and adds to results/starts.csv. Without fresh starts, the
first ones are used repeatedly. Episodes of a random policy are as short as possible: 1000 steps of HalfCheetah, about
seven of the inverted pendulum. Only the physics is timed. Updates take additional time that does not depend on starts.
"""

import argparse

from benchmarks import table, timing
from benchmarks.environments import Batch
from purerl import environments
from purerl.cli.startup import tune_cpu

TASKS = (("halfcheetah", "spring"), ("HalfCheetah-v5", None), ("inverted_pendulum", "generalized"))
COLUMNS = ("env", "backend", "num_envs", "steps", "ms_per_step", "ratio", "cpu_ratio")


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--steps", type=int, default=1000, help="steps per copy in a round")
    parser.add_argument("--num-envs", type=int, nargs="+", default=[16, 64])
    options = parser.parse_args(arguments)
    tune_cpu()
    for name, backend in TASKS:
        env, rows = environments.make(name, backend), []
        for size in options.num_envs:
            kinds = {fresh: Batch(env, size, options.steps, fresh) for fresh in (True, False)}
            times = timing.interleaved(kinds, options.rounds)
            ratio = timing.ratio(times[True], times[False])
            wall = timing.medians(times[True]).wall / options.steps * 1e3
            print(
                f"{name:>18} {size:>3}: {wall:8.3f} ms per step, {ratio.wall:.3f} of the time without fresh starts "
                f"(CPU time {ratio.cpu:.3f})",
                flush=True,
            )
            rows.append((name, backend or "mjx", size, options.steps, f"{wall:.4f}", *(f"{x:.4f}" for x in ratio)))
        table.add("starts", COLUMNS, rows)


if __name__ == "__main__":
    main()
