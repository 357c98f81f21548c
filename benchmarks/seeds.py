"""Measure the cost of a seed that trains beside others, compared with one that trains alone.

`python -m benchmarks.seeds [--algo NAME ...] [--seeds N ...]` prints a table and adds to results/seeds.csv.
"""

import argparse

from benchmarks import table, timing
from benchmarks.command import refusing
from benchmarks.training import Training, plan_of
from purerl.settings.registry import ALGORITHMS

COLUMNS = ("algo", "num_seeds", "widths", "batch_size", "buffer_size", "us_per_update", "ratio", "cpu_ratio")


@refusing
def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--algo", choices=ALGORITHMS, nargs="+", default=["td3"])
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 4, 16, 64, 256])
    parser.add_argument("--widths", type=int, nargs="+", default=[256, 256])
    parser.add_argument("--batch-size", type=int, default=256)
    parser.add_argument("--buffer-size", type=int, default=10_000)
    parser.add_argument("--updates", type=int, default=1024, help="updates in a round, summed over seeds")
    parser.add_argument("--rounds", type=int, default=7)
    options = parser.parse_args(arguments)
    sizes = {"batch_size": options.batch_size, "buffer_size": options.buffer_size}
    rows, widths = [], "x".join(map(str, options.widths))
    for algo in options.algo:
        trainings = {}
        for seeds in options.seeds:
            plan = plan_of(max(4, options.updates // seeds // 4 * 4), widths=tuple(options.widths), **sizes)
            trainings[seeds] = Training(algo, plan, seeds)
        times = timing.interleaved(trainings, options.rounds)
        costs = {seeds: timing.per(trainings[seeds].updates * 1e-6, taken) for seeds, taken in times.items()}
        for seeds, cost in costs.items():
            ratio, wall = timing.ratio(cost, costs[options.seeds[0]]), timing.medians(cost).wall
            print(f"{algo:>5} {seeds:>4} seeds: {wall:9,.1f} us per update, {ratio.wall:.3f} of the first", end=" ")
            print(f"(CPU time {ratio.cpu:.3f})")
            figures = (f"{wall:.2f}", f"{ratio.wall:.4f}", f"{ratio.cpu:.4f}")
            rows.append((algo, seeds, widths, *sizes.values(), *figures))
    table.add("seeds", COLUMNS, rows)


if __name__ == "__main__":
    main()
