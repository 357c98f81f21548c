"""Measure how many steps per second an environment makes, on each of its backends, and in Gymnasium on one core.

`python -m benchmarks.environments [--env NAME ...] [--backend NAME ...] [--batch N ...]` prints a table and adds to
results/environments.csv. By default it measures all environments of Brax and Gymnasium. Compiling them takes most of an
hour on two cores. Actions are random, and finished episodes restart.
"""

import argparse
from typing import NamedTuple

import gymnasium
import jax
import jax.numpy as jnp

from benchmarks import table, timing
from purerl import environments
from purerl.environments import brax, episodes
from purerl.environments.mujoco import tasks

COLUMNS = ("env", "backend", "batch", "steps_per_s", "of_the_first", "of_the_first_by_cpu")


def backends(name, wanted=brax.BACKENDS):
    """Return the backends of an environment that are in `wanted`, or (None,) if it has no choice of backends."""
    choice = brax.RESTRICTED.get(name, brax.BACKENDS) if name in brax.names() else ()
    return [backend for backend in choice if backend in wanted] if choice else (None,)


def never_ends(name, backend, size):
    """Return whether a step would never end.

    Before JAX 0.11, a CPU deadlocks in a large batched Cholesky factorization of LAPACK. This was seen with 1024 copies
    on two cores and JAX 0.10.2, but not with 64 copies and not with JAX 0.11.2.
    """
    waits = name in ("pusher", "humanoidstandup") and backend == "mjx" and size > 64
    return waits and jax.default_backend() == "cpu" and jax.__version_info__ < (0, 11)


class Batch:
    """A call takes `steps` steps in each of `size` copies of an environment and continues from the last call.

    If `fresh` is false, no new start is drawn after the first ones, and episodes repeatedly begin from these.
    """

    def __init__(self, env, size, steps, fresh=True):
        self.done, self.steps, self.key = size * steps, steps, jax.random.key(0)
        self.now = jax.jit(lambda key: episodes.begin(env, size, key))(self.key)

        def step(turn, now):
            action = jax.random.uniform(jax.random.fold_in(self.key, turn), (size, env.action_size), minval=-1.0)
            return turn + 1, episodes.step(env, now, action)[0]

        def roll(turn, now):
            """Step as `loop` does: up to the last step, or until the pool of starts runs low."""

            def goes_on(state):
                return (state[0] < steps) & (episodes.holds(state[1], size) | (not fresh))

            return jax.lax.while_loop(goes_on, lambda state: step(*state), (turn, now))

        self.roll = jax.jit(roll, donate_argnums=1)
        self.draw = jax.jit(lambda now, key: episodes.draw(env, now, key), donate_argnums=0)
        self()

    def __call__(self):
        turn, self.now = self.roll(jnp.int32(0), self.now)
        while turn < self.steps:
            self.now = self.draw(self.now, self.key)
            turn, self.now = self.roll(turn, self.now)
        jax.block_until_ready(self.now)


class InGymnasium:
    """A call takes `done` steps in Gymnasium's own environment."""

    def __init__(self, name, done):
        self.env, self.done = gymnasium.make(name), done
        self.env.reset(seed=0)

    def __call__(self):
        for _ in range(self.done):
            *_, terminated, truncated, _ = self.env.step(self.env.action_space.sample())
            if terminated or truncated:
                self.env.reset()


class Speed(NamedTuple):
    """`steps_per_s`, and its ratio to the first of the comparison, as `timing.Taken`."""

    steps_per_s: float
    of_the_first: timing.Taken

    def __str__(self):
        wall, cpu = self.of_the_first
        return f"{self.steps_per_s:12,.0f} steps/s, {wall:.2f} of the first ({cpu:.2f} by CPU time)"

    @property
    def cells(self):
        return f"{self.steps_per_s:.0f}", *(f"{ratio:.3f}" for ratio in self.of_the_first)


def compared(batches, rounds):
    """Return the `Speed` of each of `batches`, `{key: Batch}`. They are measured in turns."""
    times = timing.interleaved(batches, rounds)
    costs = {key: timing.per(batches[key].done, taken) for key, taken in times.items()}
    first = next(iter(costs.values()), None)
    return {key: Speed(1.0 / timing.medians(cost).wall, timing.ratio(first, cost)) for key, cost in costs.items()}


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    known = [*brax.names(), *(name for name in tasks.TASKS if name.endswith("-v5")), "Pendulum-v1"]
    parser.add_argument("--env", nargs="+", choices=known, metavar="NAME", help="default: all with one of the backends")
    parser.add_argument("--backend", nargs="+", choices=brax.BACKENDS, default=brax.BACKENDS, help="Brax's backends")
    parser.add_argument("--batch", type=int, nargs="+", default=[64, 1024])
    parser.add_argument("--steps", type=int, default=100, help="steps per copy in a round")
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args(arguments)
    for name in options.env or ():
        if not backends(name, options.backend):
            parser.error(f"{name} has none of the backends {', '.join(options.backend)}; it has {backends(name)[0]}")
    for name in options.env or [name for name in known if backends(name, options.backend)]:
        there = environments.VERSIONED.fullmatch(name)
        rolled = {("gymnasium", 1): InGymnasium(name, 10 * options.steps)} if there else {}
        for backend in backends(name, options.backend):
            env = environments.make(name, backend)
            kind = backend or ("jax" if name not in tasks.TASKS else "mjx")
            for size in options.batch:
                if never_ends(name, kind, size):
                    print(f"{name:>24} {kind:>11} {size:>5}: left out, it never ends with this JAX", flush=True)
                else:
                    rolled[kind, size] = Batch(env, size, options.steps)
        speeds = compared(rolled, options.rounds)
        for (backend, size), speed in speeds.items():
            print(f"{name:>24} {backend:>11} {size:>5}: {speed}", flush=True)
        rows = [(name, backend, size, *speed.cells) for (backend, size), speed in speeds.items()]
        table.add("environments", COLUMNS, rows)


if __name__ == "__main__":
    main()
