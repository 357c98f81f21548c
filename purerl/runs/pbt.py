"""Population-based training (Jaderberg et al. 2017, arXiv:1711.09846) over the settings of one program.

It is set in a file of sweeps/, next to lists under [hyper]. These lists are the population's first settings:

    [pbt]
    every = 1          # evaluations between two exploits
    fraction = 0.25    # this fraction of the settings, the worst, take over from as many of the best
    factor = 1.2       # after that, every swept number is multiplied or divided by this, at random

Every seed has its own population, so that there are as many trials of the method as seeds. A run that takes over from
another gets its networks, optimizers, observation statistics and swept hyperparameters. It keeps its own environments,
replay buffer and random key. A run that has diverged takes no part. pbt.csv records every exploit. A resumed run reads
its hyperparameters from it. Letters: S settings, N seeds.
"""

import csv
from collections.abc import Mapping
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Int

from purerl.results import run_folder
from purerl.settings.hyperparameters import Hyperparameters
from purerl.settings.kinds import fields
from purerl.settings.schema import Config
from purerl.training import loop
from purerl.training.loop import Carry
from purerl.types import Array, Key, Scalar

FILE = "pbt.csv"

Grid = Float[Array | np.ndarray, "S N"]  # one number per run
Sources = Int[Array | np.ndarray, "S N"]


@partial(jax.jit, static_argnames="count")
def sources(returns: Grid, key: Key, count: int) -> Int[Array, "S N"]:
    """Return the setting from which every run continues, `[S, N]`.

    In each seed, each of the `count` worst settings continues from one of the `count` best, chosen at random. `returns`
    `[S, N]` is NaN for a run that has diverged. The key is consumed.
    """
    settings, seeds = returns.shape
    sound = ~jnp.isnan(returns)
    order = jnp.argsort(jnp.where(sound, returns, jnp.inf), axis=0)  # diverged runs come last
    number = sound.sum(axis=0)
    enough = jnp.minimum(count, number // 2)  # pairs of a worst and a best run in each seed
    rank = jnp.argsort(order, axis=0)
    keys = jax.random.split(key, seeds)
    draw = jax.vmap(lambda key, most: jax.random.randint(key, (settings,), 0, jnp.maximum(most, 1)), out_axes=1)
    best = number - 1 - draw(keys, enough)
    chosen = jnp.take_along_axis(order, jnp.clip(best, 0, settings - 1), axis=0)
    return jnp.where(sound & (rank < enough), chosen, jnp.arange(settings)[:, None])


@jax.jit
def explored(values: Grid, source: Sources, key: Key, factor: Scalar, low: Scalar, high: Scalar) -> Float[Array, "S N"]:
    """Return the numbers `[S, N]` after the exploit.

    A run that takes over from its `source` gets the number of that run, multiplied or divided by `factor` at random.
    """
    taken = jnp.take_along_axis(values, source, axis=0)
    steps = jnp.where(jax.random.bernoulli(key, shape=values.shape), factor, 1 / factor)
    moved = source != jnp.arange(len(values))[:, None]
    return jnp.where(moved, jnp.clip(taken * steps, low, high), taken)


@jax.jit
def taken_over(carry: Carry, rows: Int[Array | np.ndarray, " R"]) -> Carry:
    """Return the carry `[R, ...]` in which run i has the agent and the observation statistics of run `rows[i]`."""
    agent, statistics = jax.tree.map(lambda x: x[rows], (carry.agent, carry.statistics))
    return carry._replace(agent=agent, statistics=statistics)


def exploit(
    path: Path,
    settings: Config,
    index: int,
    numbers: Mapping[str, Float[Array | np.ndarray, " R"]],
    returns: Float[Array | np.ndarray, " R"],
) -> Int[np.ndarray, " R"]:
    """Exploit and explore at evaluation `index`, and write the new numbers to pbt.csv.

    `numbers` is `{name: [R]}` and `returns` is `[R]`. Returns the run from which each run continues, `[R]`.
    """
    shape, population = (settings.num_settings, settings.job.num_seeds), settings.pbt
    if population is None:
        raise ValueError("the settings are not a population")
    key = loop.key_for(jax.random.key(settings.job.seed), loop.EXPLOIT, index)
    source_key, *keys = jax.random.split(key, 1 + len(settings.swept))
    count = max(1, int(population.fraction * shape[0]))
    source = sources(jnp.reshape(returns, shape), source_key, count)
    found = {}
    for name, key in zip(settings.swept, keys, strict=True):
        values = jnp.reshape(numbers[name], shape)
        found[name] = explored(values, source, key, population.factor, *_limits(type(settings.hyper), name)).ravel()
    _append(path, settings, index, np.ravel(source), jax.device_get(found))
    return np.ravel(source * shape[1] + np.arange(shape[1]))


def _limits(kind: type[Hyperparameters], name: str) -> tuple[float, float]:
    """Return the smallest and the largest value of a hyperparameter, as float32.

    Where pydantic checks a number by a function, too, its schema has `ge`, `le` and `lt` for the usual names.
    """
    schema = fields(kind)[name][2].json_schema()
    schema = next(kind for kind in schema.get("anyOf", [schema]) if kind["type"] == "number")
    low = schema.get("ge", schema.get("minimum", -np.inf))
    high = schema.get("le", schema.get("maximum", np.inf))
    beyond = schema.get("lt", schema.get("exclusiveMaximum", np.inf))
    return float(low), min(float(high), float(np.nextafter(np.float32(beyond), np.float32(-np.inf))))


def _append(
    path: Path,
    settings: Config,
    index: int,
    source: Int[np.ndarray, " R"],
    found: Mapping[str, Float[np.ndarray, " R"]],
) -> None:
    rows = [
        [index, setting, seed, source[i], *(f"{values[i]:.9g}" for values in found.values())]
        for i, (setting, seed) in enumerate(settings.runs)
    ]
    header = [] if (path / FILE).exists() else [["evaluation", "setting", "seed", "source", *found]]
    run_folder.append(path, FILE, run_folder.lines([*header, *rows]))


def numbers_at(path: Path, settings: Config, index: int) -> dict[str, Float[np.ndarray, " R"]]:
    """Return `{name: [R]}` after the last exploit up to evaluation `index`, or an empty dict if there was none."""
    rows = _rows(path)
    last = max((int(row["evaluation"]) for row in rows if int(row["evaluation"]) <= index), default=None)
    if last is None:
        return {}
    rows = [row for row in rows if int(row["evaluation"]) == last]
    return {name: np.array([row[name] for row in rows], np.float32) for name in settings.swept}


def exploits(path: Path) -> set[int]:
    """Return the evaluations that were followed by an exploit."""
    return {int(row["evaluation"]) for row in _rows(path)}


def truncate(path: Path, index: int) -> None:
    """Delete the exploits after evaluation `index` from pbt.csv."""
    rows = [row for row in _rows(path) if int(row["evaluation"]) <= index]
    (path / FILE).unlink(missing_ok=True)
    if rows:
        run_folder.write(path, FILE, run_folder.lines([list(rows[0]), *(row.values() for row in rows)]))


def _rows(path: Path) -> list[dict[str, str]]:
    if not (path / FILE).is_file():
        return []
    with open(path / FILE, newline="") as file:
        return list(csv.DictReader(file))
