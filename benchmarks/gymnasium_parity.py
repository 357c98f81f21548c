"""Test whether whole episodes here have the same distribution as in Gymnasium.

`python -m benchmarks.gymnasium_parity [--tasks NAME ...] [--episodes 100]` runs two-sample Kolmogorov-Smirnov tests.
They compare positions and velocities after a reset, with the smallest p of all components times their number. They also
compare the returns of a random and of a zero policy. The command prints a table and adds to
results/gymnasium_parity.csv.
"""

import argparse
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from scipy.stats import ks_2samp

from benchmarks import gymnasium_c, table
from purerl.environments import base, make
from purerl.environments.mujoco import tasks

POLICIES = ("random", "zero")
STARTS = 300


def starts_here(name, episodes, seed=0):
    """Return positions and velocities after `episodes` resets, `[episodes, nq + V]`."""
    task = tasks.find_task(name)
    body = tasks.load_body(task)
    start = jax.vmap(lambda key: jnp.concatenate(task.start(body, key)))
    return np.asarray(start(jax.random.split(jax.random.key(seed), episodes)))


def starts_there(name, episodes, seed=0):
    """Return the same for Gymnasium."""
    env, rows = gymnasium_c.make(name).unwrapped, []
    for episode in range(episodes):
        env.reset(seed=seed + episode)
        rows.append(np.concatenate([env.data.qpos, env.data.qvel]))
    return np.array(rows)


def p_of_starts(ours, theirs):
    """Return the p-value of the hypothesis that both have the same distribution.

    Raises AssertionError if a constant component differs.
    """
    varying = np.ptp(theirs, axis=0) > 0
    np.testing.assert_allclose(ours[:, ~varying], theirs[:1, ~varying].repeat(len(ours), 0), atol=1e-6)
    least = min(ks_2samp(a, b).pvalue for a, b in zip(ours[:, varying].T, theirs[:, varying].T, strict=True))
    return min(1.0, least * varying.sum())


def returns_here(name, policy, episodes, seed=0):
    """Return the returns of episodes with uniform random actions, or with zero actions: `[episodes]`."""
    env, zero = make(name), jnp.zeros(episodes)
    start = jax.vmap(env.reset)(jax.random.split(jax.random.key(seed), episodes))

    def act(key):
        shape = (episodes, env.action_size)
        return jax.random.uniform(key, shape, minval=-1, maxval=1) if policy == "random" else jnp.zeros(shape)

    def goes_on(carry):
        _, _, alive, step = carry
        return alive.any() & (step < env.episode_length)

    def go_on(carry):
        state, total, alive, step = carry
        state, outcome = jax.vmap(partial(base.act, env))(
            state, act(jax.random.fold_in(jax.random.key(seed + 1), step))
        )
        return state, total + jnp.where(alive, outcome.reward, 0), alive & ~outcome.terminated, step + 1

    return np.asarray(jax.jit(lambda start: jax.lax.while_loop(goes_on, go_on, start)[1])((start, zero, zero == 0, 0)))


def returns_there(name, policy, episodes, seed=0):
    """Return the same for Gymnasium."""
    env, returns = gymnasium_c.make(name), []
    env.action_space.seed(seed)
    for episode in range(episodes):
        env.reset(seed=seed + episode)
        over, total = False, 0.0
        while not over:
            action = env.action_space.sample()
            _, reward, terminated, truncated, _ = env.step(action if policy == "random" else 0 * action)
            over, total = terminated or truncated, total + reward
        returns.append(total)
    return np.array(returns)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    names = [name for name in tasks.TASKS if name.endswith("-v5")]
    parser.add_argument("--tasks", nargs="+", choices=names, default=names, metavar="NAME")
    parser.add_argument("--episodes", type=int, default=100)
    options = parser.parse_args()
    for name in options.tasks:
        p = p_of_starts(starts_here(name, STARTS), starts_there(name, STARTS))
        rows = [(name, "start", STARTS, "", "", f"{p:.3f}")]
        for policy in POLICIES:
            ours, theirs = (returns(name, policy, options.episodes) for returns in (returns_here, returns_there))
            p, means = ks_2samp(ours, theirs).pvalue, (f"{ours.mean():.4g}", f"{theirs.mean():.4g}")
            rows.append((name, policy, options.episodes, *means, f"{p:.3f}"))
        for row in rows:
            print("{:>24} {:>7} {:>4} times  here {:>9}  there {:>9}  p {}".format(*row), flush=True)
        table.add("gymnasium_parity", ("task", "of", "times", "mean_here", "mean_there", "p"), rows)


if __name__ == "__main__":
    main()
