"""Measure how the precision of the networks' matrix products affects learning curves and training time.

`python -m benchmarks.precision [--algo NAME] [--env NAME ...] [--seeds N]` trains each environment with its own
settings in every precision. It prints how the areas under the curves differ from those in float32, with a 95% interval
and the p-value of Welch's test. It adds to results/precision.csv. The seeds are the same in all precisions.
"""

import argparse
from functools import partial

import jax
import numpy as np

from benchmarks import table, timing
from benchmarks.command import refusing
from purerl.algorithms.networks import PRECISIONS
from purerl.results import curves, statistics
from purerl.runs import runner
from purerl.settings import config
from purerl.settings.registry import ALGORITHMS
from purerl.training import loop, mapping

COLUMNS = ("algo", "env", "precision", "num_seeds", "final_iqm", "area", "difference", "low", "high", "welch_p")
COLUMNS += ("seconds", "of_float32")


def trained(algo, env, precision, num_seeds, more):
    """Return `(steps [num_evals], returns [num_evals, num_seeds], Taken of training)`. Compiling is not included."""
    settings = config.resolve({"algo": algo, "env": env, "precision": precision} | more)
    made, build = runner.prepare(settings)
    train = partial(loop.train, settings.plan, build(settings.hyper, settings.plan, made), made)
    keys, found = mapping.keys(0, num_seeds), {}
    compiled = jax.jit(jax.vmap(lambda key: train(key)[1])).lower(keys).compile()
    taken = timing.taken(lambda: found.update(jax.device_get(compiled(keys))))
    steps = [loop.env_steps(settings.plan, index) for index in range(settings.plan.num_evals)]
    return steps, np.asarray(found["return_mean"]).T, taken


@refusing
def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--algo", choices=ALGORITHMS, default="td3")
    parser.add_argument("--env", nargs="+", default=["Pendulum-v1", "inverted_pendulum"])
    parser.add_argument("--seeds", type=int, default=16)
    parser.add_argument("--total-steps", type=int, help="environment steps per seed (default: that of the environment)")
    options = parser.parse_args(arguments)
    more = {"total_steps": str(options.total_steps)} if options.total_steps else {}
    for env in options.env:
        rows, full = [], None
        for precision in PRECISIONS:
            steps, returns, taken = trained(options.algo, env, precision, options.seeds, more)
            areas = curves.area_under_curve(steps, returns)
            full = full or (areas, taken)
            test, ratio = statistics.difference(areas, full[0]), taken.wall / full[1].wall
            final = statistics.iqm(returns[-1])
            print(f"{env:>18} {precision:>8}: final IQM {final:8.1f}, area {areas.mean():8.1f},", end=" ")
            print("{difference:+.1f} [{low:+.1f}, {high:+.1f}], p = {welch_p:.3f};".format(**test), end=" ")
            print(f"{taken.wall:.1f} s, {ratio:.2f} of float32", flush=True)
            tested = [f"{test[name]:.4g}" for name in ("difference", "low", "high", "welch_p")]
            cells = (options.algo, env, precision, options.seeds, f"{final:.2f}", f"{areas.mean():.2f}", *tested)
            rows.append((*cells, f"{taken.wall:.2f}", f"{ratio:.3f}"))
        table.add("precision", COLUMNS, rows)


if __name__ == "__main__":
    main()
