"""REDQ against the NumPy of `reference.py`, its random subsets and its settings."""

from dataclasses import replace
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import reference
from learners import BATCH_SIZE, ENV, PLAN, RATES, a_batch, check_loop, check_updates, policy_noise

from purerl.algorithms import redq, sac
from purerl.algorithms.networks import critics_of
from purerl.settings.hyperparameters import REDQ

HYPER = REDQ(**RATES, alpha_lr=1e-2, policy_delay=5)


def critic_update(state, batch, key):
    action_key, subset_key = jax.random.split(key)
    subset = jax.random.choice(subset_key, HYPER.num_critics, (HYPER.subset_size,), replace=False)
    return reference.redq_update(state, batch, policy_noise(action_key, jnp.float64), np.asarray(subset), HYPER)


def actor_update(state, batch, key):
    return reference.mean_actor_update(state, batch, policy_noise(key, jnp.float64), HYPER)


def test_a_hundred_updates_equal_numpy():
    """With a subset of each update, targets that move with each, and an actor update after every fifth."""
    algorithm = redq.redq(HYPER, PLAN, ENV)
    with jax.enable_x64(True):
        check_updates(HYPER, algorithm, critic_update, actor_update, rounds=20, rtol=1e-6, atol=1e-9)


@pytest.mark.slow
def test_updates_of_the_loop_equal_numpy():
    """Each of twenty has a batch, an action and a subset of its own, and the targets of its moment."""
    check_loop(HYPER, redq.redq, critic_update, actor_update)


def constant(params, values):
    """Critics `[N, ...]` whose values are `values` `[N]`, whatever they are given."""
    zeros = jax.tree.map(lambda x: jnp.zeros(x.shape), params)
    zeros["params"]["Dense_0"]["bias"] = jnp.asarray(values, jnp.float32)[:, None]
    return zeros


@pytest.fixture(scope="module")
def numbered():
    """`(hyper, model, state, batch)`: target critic i has the value i, the others 0, and the entropy has no weight."""
    hyper = replace(HYPER, alpha=1e-9)
    model = sac.make_model(hyper, PLAN, ENV, critics_of(PLAN, 10))
    algorithm = sac.make_algorithm(model)
    state = jax.jit(algorithm.init)(jax.random.key(0))
    critic = state.critic._replace(params=constant(state.critic.params, np.zeros(10)))
    state = state._replace(critic=critic, target_critic=constant(state.target_critic, np.arange(10)))
    return hyper, model, state, a_batch(algorithm)


def test_an_update_draws_one_subset_for_its_whole_batch_without_replacement(numbered):
    """Of the 45 pairs, the lower number is i in 9 − i, and never 9. Four standard deviations are less than 0.036."""
    hyper, model, state, batch = numbered
    value = jax.jit(jax.vmap(partial(redq.next_value, hyper, model, state, batch)))
    lower = np.asarray(value(jax.random.split(jax.random.key(0), 2000)))
    assert lower.shape == (2000, BATCH_SIZE)
    np.testing.assert_allclose(lower, np.round(lower[:, :1]).repeat(BATCH_SIZE, axis=1), atol=1e-6)
    shares = np.bincount(np.round(lower[:, 0]).astype(int), minlength=10) / 2000
    np.testing.assert_allclose(shares, (9 - np.arange(10)) / 45, atol=0.036)
    assert shares[9] == 0


def test_all_critics_move_toward_the_same_target(numbered):
    """Equal critics stay equal: so the subset is not drawn for each of them."""
    hyper, model, state, batch = numbered
    state, _ = jax.jit(partial(redq.update_critic, hyper, model))(state, batch, (), jax.random.key(0))
    bias = np.asarray(state.critic.params["params"]["Dense_0"]["bias"])
    assert (bias == bias[0]).all() and (bias != 0).all()


def test_defaults_are_those_of_the_authors():
    hyper = REDQ()
    assert (hyper.num_critics, hyper.subset_size, hyper.policy_delay) == (10, 2, 20)
    assert redq.redq(hyper, PLAN, ENV).policy_delay == 20


def test_critics_begin_with_different_parameters():
    state = jax.jit(redq.redq(HYPER, PLAN, ENV).init)(jax.random.key(0))
    for kernel in (x for x in jax.tree.leaves(state.critic.params) if x.ndim == 3):
        assert len(np.unique(kernel, axis=0)) == 10
    jax.tree.map(np.testing.assert_array_equal, state.target_critic, state.critic.params)


def test_a_subset_of_more_than_all_critics_is_refused_in_one_line():
    message = "subset_size 4 is more than num_critics 3; the largest that works is 3"
    with pytest.raises(ValueError, match=f"^{message}$"):
        REDQ(num_critics=3, subset_size=4)
    REDQ(num_critics=3, subset_size=3)
