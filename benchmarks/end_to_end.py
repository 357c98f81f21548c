"""Measure which share of the bare update loop's speed training reaches, in an environment that costs almost nothing.

`python -m benchmarks.end_to_end [--algo NAME ...] [--seeds N ...] [--envs N ...]` prints a table and adds to
results/end_to_end.csv. The rest, up to a share of 1, is the cost of acting, the replay buffer, sampling and the
divergence guard.
"""

import argparse

from benchmarks import table, timing
from benchmarks.command import refusing
from benchmarks.training import Training, Updates, plan_of
from purerl.settings.registry import ALGORITHMS

COLUMNS = ("algo", "num_seeds", "num_envs", "widths", "batch_size", "us_per_update", "bare_us_per_update", "share")
COLUMNS += ("cpu_share",)


@refusing
def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--algo", choices=ALGORITHMS, nargs="+", default=["td3"])
    parser.add_argument("--seeds", type=int, nargs="+", default=[8])
    parser.add_argument("--envs", type=int, nargs="+", default=[1])
    parser.add_argument("--widths", type=int, nargs="+", default=[256, 256])
    parser.add_argument("--batch-size", type=int, default=256)
    parser.add_argument("--buffer-size", type=int, default=100_000)
    parser.add_argument("--steps", type=int, default=128, help="environment steps and updates per seed in a round")
    parser.add_argument("--rounds", type=int, default=9)
    options = parser.parse_args(arguments)
    rows, widths = [], "x".join(map(str, options.widths))
    for algo in options.algo:
        for seeds in options.seeds:
            for envs in options.envs:
                sizes = {"widths": tuple(options.widths), "batch_size": options.batch_size}
                plan = plan_of(options.steps, envs, buffer_size=options.buffer_size, **sizes)
                loops = {"real": Training(algo, plan, seeds), "bare": Updates(algo, plan, seeds)}
                times = timing.interleaved(loops, options.rounds)
                share = timing.ratio(times["bare"], times["real"])
                real, bare = (timing.medians(timing.per(plan.num_updates * seeds * 1e-6, times[x])) for x in loops)
                print(
                    f"{algo:>5} {seeds:>4} seeds x {envs:>3} envs: {real.wall:8,.1f} us per update, "
                    f"bare {bare.wall:8,.1f} us, share {share.wall:.3f} (CPU time {share.cpu:.3f})"
                )
                figures = (f"{real.wall:.2f}", f"{bare.wall:.2f}", f"{share.wall:.4f}", f"{share.cpu:.4f}")
                rows.append((algo, seeds, envs, widths, options.batch_size, *figures))
    table.add("end_to_end", COLUMNS, rows)


if __name__ == "__main__":
    main()
