"""Updates of an algorithm beside those of `reference.py`: states, batches, draws, and the comparison."""

from functools import partial
from types import SimpleNamespace
from typing import Any, NamedTuple

import distrax
import jax
import jax.numpy as jnp
import numpy as np
import optax
import reference

from benchmarks.training import walk
from purerl.algorithms.optimization import Trained
from purerl.settings.schema import Plan
from purerl.training import loop
from purerl.types import Batch, Transition

ENV = SimpleNamespace(obs_size=3, action_size=2)
PLAN = Plan(num_envs=4, widths=(8, 8))
BATCH_SIZE = 16
RATES = {"actor_lr": 1e-2, "critic_lr": 2e-2, "tau": 0.1}


def begun(algorithm, dtype=jnp.float32, seed=13):
    """A state with parameters far from their small beginnings, and targets far from what they follow."""
    rng = np.random.default_rng(seed)
    state = algorithm.init(jax.random.key(0))

    def spread(params):
        return jax.tree.map(lambda x: jnp.asarray(x + 0.5 * rng.normal(size=x.shape), dtype), params)

    def cast(x):
        return x.astype(dtype) if jnp.issubdtype(x.dtype, jnp.floating) else x

    return type(state)(
        *(
            Trained(spread(x.params), jax.tree.map(cast, x.opt_state)) if isinstance(x, Trained) else spread(x)
            for x in state
        )
    )


def windows(rng, n=1, dtype=np.float32):
    """`[n, B, ...]`, with ends of both kinds among them."""
    shape = (n, BATCH_SIZE)
    window = Transition(
        observation=rng.normal(size=(*shape, ENV.obs_size)).astype(dtype),
        action=rng.uniform(-1, 1, (*shape, ENV.action_size)).astype(dtype),
        reward=rng.normal(size=shape).astype(dtype),
        terminated=rng.random(shape) < 0.2,
        truncated=rng.random(shape) < 0.2,
        next_observation=rng.normal(size=(*shape, ENV.obs_size)).astype(dtype),
    )
    return jax.tree.map(jnp.asarray, window)


def a_batch(algorithm, seed=1):
    return algorithm.to_batch(windows(np.random.default_rng(seed)))


def in_numpy(state):
    """The state as `reference.py` has it."""

    def one(x):
        if isinstance(x, Trained):
            x = reference.Trained(x.params, *(optax.tree.get(x.opt_state, name) for name in ("mu", "nu", "count")))
        return jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), x)

    return reference.State(**{name: one(x) for name, x in state._asdict().items()})


def assert_close(actual, expected, **tolerance):
    def check(path, x, y):
        np.testing.assert_allclose(x, y, err_msg=jax.tree_util.keystr(path), **tolerance)

    jax.tree_util.tree_map_with_path(check, actual, expected)


@jax.jit
def _sample(mean, key):
    return distrax.MultivariateNormalDiag(mean).sample(seed=key)


def policy_noise(key, dtype=None, shape=(BATCH_SIZE, ENV.action_size)):
    """The draw `[B, A]` behind an action of a Gaussian policy, as distrax makes it."""
    return np.asarray(_sample(jnp.zeros(shape, dtype), key), np.float64)


def check_updates(hyper, algorithm, critic_update, actor_update, n=1, dtype=jnp.float64, rounds=3, **tolerance):
    """`rounds` actor updates, each after as many critic updates as the algorithm asks for, here and in NumPy.

    Those of NumPy are `update(state, batch, key) -> (state, metrics)`.
    """
    updates = jax.jit(algorithm.next_value), jax.jit(algorithm.update_critic), jax.jit(algorithm.update_actor)
    next_value, update_critic, update_actor = updates
    to_batch = jax.jit(algorithm.to_batch)
    state, rng = begun(algorithm, dtype), np.random.default_rng(1)
    expected = in_numpy(state)
    for actor_key in jax.random.split(jax.random.key(1), rounds):
        for critic_key in jax.random.split(jax.random.fold_in(actor_key, 0), algorithm.policy_delay):
            window = windows(rng, n, dtype)
            batch, same_batch = to_batch(window), reference.prepare(jax.tree.map(np.asarray, window), hyper)
            assert_close(batch, Batch(*same_batch), **tolerance)
            value = next_value(state, jax.tree.map(lambda x: x[None], batch), critic_key)
            state, metrics = update_critic(state, batch, jax.tree.map(lambda x: x[0], value), critic_key)
            expected, same_metrics = critic_update(expected, same_batch, critic_key)
            assert_close(metrics, same_metrics, **tolerance)
        state, metrics = update_actor(state, batch, actor_key)
        expected, same_metrics = actor_update(expected, same_batch, actor_key)
        assert_close(metrics, same_metrics, **tolerance)
        assert_close(in_numpy(state), expected, **tolerance)


class Round(NamedTuple):
    """What NumPy needs for one round of `loop.learn`: a batch and a key of each critic update, and the other keys."""

    batches: list[reference.Batch]
    critic_keys: Any
    value_key: Any
    actor_key: Any


def learned_by_the_loop(hyper, build, updates):
    """`[(state before, rounds, state after)]` of two runs at once, with `updates` critic updates each.

    The states are those of `reference.py`. As in training, batches come from packed rings.
    """
    sizes = {"warmup_steps": 128, "total_steps": 128 + 4, "num_evals": 2, "buffer_size": 128}
    plan = Plan(num_envs=4, updates_per_step=updates, widths=(8, 8), batch_size=BATCH_SIZE, **sizes)
    env = walk(ENV.obs_size, ENV.action_size)
    run = loop.setup(plan, build(hyper, plan, env), env)
    carry = jax.jit(jax.vmap(partial(loop.warmed_up, run)))(jax.vmap(jax.random.key)(jnp.arange(2)))
    row, delay = jnp.int32(plan.warmup_rows), run.cycle.critic_updates
    with jax.enable_x64(True):
        begins = [begun(run.algorithm, jnp.float64, seed) for seed in (13, 14)]
        agents = jax.tree.map(lambda *x: jnp.stack(x), *begins)
        after, _ = jax.jit(jax.vmap(lambda carry: loop.learn(run, carry, row)))(carry._replace(agent=agents))
        sample = jax.jit(lambda ring, key: run.replay.sample(ring, row, key, (delay, BATCH_SIZE)))

        def rounds(key, ring):
            shape = updates // delay, delay
            keys = jax.random.split(loop.key_for(key, loop.LEARN, row), (shape[0], 3))
            critic_keys = jax.random.split(loop.key_for(key, loop.CRITIC, row), shape)
            for (sample_key, value_key, actor_key), own in zip(keys, critic_keys, strict=True):
                window = jax.tree.map(np.asarray, sample(ring, sample_key))
                each = [reference.prepare(jax.tree.map(lambda x, j=j: x[:, j], window), hyper) for j in range(delay)]
                yield Round(each, own, value_key, actor_key)

        parts = [jax.tree.map(lambda x, i=i: x[i], (carry.key, carry.ring, after.agent)) for i in range(2)]
        assert (after.diverged == -1).all()
        return [
            (in_numpy(begin), list(rounds(key, ring)), in_numpy(learned))
            for begin, (key, ring, learned) in zip(begins, parts, strict=True)
        ]


def check_loop(hyper, build, critic_update, actor_update, updates=20):
    """Updates as the loop makes them equal those of NumPy, which are as in `check_updates`."""
    for expected, rounds, learned in learned_by_the_loop(hyper, build, updates):
        with jax.enable_x64(True):
            for batches, critic_keys, _, actor_key in rounds:
                for batch, key in zip(batches, critic_keys, strict=True):
                    expected, _ = critic_update(expected, batch, key)
                expected, _ = actor_update(expected, batches[-1], actor_key)
        assert_close(learned, expected, rtol=1e-6, atol=1e-9)
