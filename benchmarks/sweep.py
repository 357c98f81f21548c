"""Compare a grid of 3 settings and 4 seeds in one program with its 12 runs one after another.

`python -m benchmarks.sweep [--rounds N]` prints the ratio and adds to results/sweep.csv. Both are compiled once, before
timing. They train in turns.
"""

import argparse
import time
from statistics import median

import jax

from benchmarks import table
from purerl.cli.startup import tune_cpu
from purerl.runs import fitting, runner
from purerl.settings import config
from purerl.training import mapping

tune_cpu()  # as the command line does

SWEPT = {"actor_lr": [1e-4, 3e-4, 1e-3]}
SEEDS = 4
ENVS = ("fast", "inverted_pendulum")


def trained_by(env, swept):
    """Return a function that trains the settings in one program for one epoch, a number of times.

    The function returns the seconds that this took.
    """
    table = {"env": env, "num_seeds": SEEDS if swept else 1, "sweep": swept}
    settings = config.resolve_table({}, table)
    made, build = runner.prepare(settings)
    programs, runs = fitting.programs_of(settings, made, build, settings.num_runs), settings.runs
    numbers = mapping.laid_out(programs.mesh, fitting.numbers_of(settings, runs))
    carry = programs.run_warm_up(numbers, mapping.laid_out(programs.mesh, mapping.keys_of([seed for _, seed in runs])))

    def train(times):
        nonlocal carry
        begun = time.perf_counter()
        for _ in range(times):
            carry, _ = jax.block_until_ready(programs.run_epoch(numbers, carry, 0))
        return time.perf_counter() - begun

    train(1)  # compiles
    return train


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    rows = []
    for env in ENVS:
        grid, single = trained_by(env, SWEPT), trained_by(env, {})
        pairs = [(grid(1), single(12)) for _ in range(options.rounds)]
        ratio = median(together / alone for together, alone in pairs)
        seconds = [median(column) for column in zip(*pairs, strict=True)]
        print(f"{env}: grid {seconds[0]:.2f} s, twelve runs {seconds[1]:.2f} s, ratio {ratio:.3f}")
        rows.append((env, *(f"{x:.4f}" for x in seconds), f"{ratio:.4f}"))
    table.add("sweep", ("env", "grid_s", "twelve_runs_s", "ratio"), rows)


if __name__ == "__main__":
    main()
