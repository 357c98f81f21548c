"""Measure the bare update loop, without environment, replay buffer or divergence guard. Training cannot be faster.

`python -m benchmarks.updates [--algo NAME ...] [--seeds N ...]` prints a table and adds to results/updates.csv.
"""

import argparse

from benchmarks import table, timing
from benchmarks.command import refusing
from benchmarks.training import Updates, plan_of
from purerl.settings.registry import ALGORITHMS

COLUMNS = ("algo", "num_seeds", "widths", "batch_size", "us_per_update", "cpu_us_per_update", "updates_per_s")


@refusing
def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--algo", choices=ALGORITHMS, nargs="+", default=list(ALGORITHMS))
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 8])
    parser.add_argument("--widths", type=int, nargs="+", default=[256, 256])
    parser.add_argument("--batch-size", type=int, default=256)
    parser.add_argument("--steps", type=int, default=240, help="updates per seed in a round")
    parser.add_argument("--rounds", type=int, default=7)
    options = parser.parse_args(arguments)
    plan = plan_of(options.steps, widths=tuple(options.widths), batch_size=options.batch_size)
    loops = {(algo, seeds): Updates(algo, plan, seeds) for algo in options.algo for seeds in options.seeds}
    rows = []
    for (algo, seeds), times in timing.interleaved(loops, options.rounds).items():
        wall, cpu = timing.medians(timing.per(loops[algo, seeds].updates * 1e-6, times))
        print(
            f"{algo:>5} {seeds:>4} seeds: {wall:9,.1f} us per update ({cpu:,.1f} of CPU time), "
            f"{1e6 / wall:9,.0f} updates/s"
        )
        figures = (f"{wall:.2f}", f"{cpu:.2f}", f"{1e6 / wall:.1f}")
        rows.append((algo, seeds, "x".join(map(str, options.widths)), options.batch_size, *figures))
    table.add("updates", COLUMNS, rows)


if __name__ == "__main__":
    main()
