"""TQC against the NumPy of `reference.py`, and its settings."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import reference
from learners import ENV, PLAN, RATES, a_batch, begun, check_loop, check_updates, in_numpy, policy_noise

from purerl.algorithms import tqc
from purerl.settings.hyperparameters import TQC

HYPER = TQC(**RATES, alpha_lr=1e-2, num_critics=3, num_quantiles=5, dropped_quantiles=2)


def critic_update(state, batch, key):
    return reference.tqc_update(state, batch, policy_noise(key, jnp.float64), HYPER)


def actor_update(state, batch, key):
    return reference.mean_actor_update(state, batch, policy_noise(key, jnp.float64), HYPER)


def test_a_hundred_updates_equal_numpy():
    """With an actor update after each update of the critics and of their targets."""
    algorithm = tqc.tqc(HYPER, PLAN, ENV)
    with jax.enable_x64(True):
        check_updates(HYPER, algorithm, critic_update, actor_update, rounds=100, rtol=1e-6, atol=1e-9)


@pytest.mark.slow
def test_updates_of_the_loop_equal_numpy():
    check_loop(HYPER, tqc.tqc, critic_update, actor_update)


def test_the_comparison_begins_where_critics_lose_different_numbers_of_quantiles():
    """Else a cut of each critic by itself would agree with NumPy."""
    algorithm = tqc.tqc(HYPER, PLAN, ENV)
    with jax.enable_x64(True):
        state, batch = in_numpy(begun(algorithm, jnp.float64)), a_batch(algorithm)
    quantiles = reference.outputs(state.target_critic, batch.next_observation, batch.action)
    greatest_kept = reference.pooled(quantiles, HYPER.dropped_quantiles)[:, -1]
    lost = (quantiles > greatest_kept[:, None]).sum(axis=-1)  # [N, B]
    assert (lost.sum(axis=0) == 6).all()
    assert set(lost.ravel()) >= {0, 1, 2, 3, 4}


def test_defaults_are_those_of_the_authors():
    hyper = TQC()
    assert (hyper.num_critics, hyper.num_quantiles, hyper.dropped_quantiles, hyper.policy_delay) == (5, 25, 2, 1)
    critic = jax.eval_shape(tqc.tqc(hyper, PLAN, ENV).init, jax.random.key(0)).critic
    assert critic.params["params"]["Dense_0"]["kernel"].shape == (5, 8, 25)


def test_critics_begin_with_different_parameters():
    state = jax.jit(tqc.tqc(HYPER, PLAN, ENV).init)(jax.random.key(0))
    for kernel in (x for x in jax.tree.leaves(state.critic.params) if x.ndim == 3):
        assert len(np.unique(kernel, axis=0)) == 3
    jax.tree.map(np.testing.assert_array_equal, state.target_critic, state.critic.params)


@pytest.mark.parametrize("dropped", [5, 7])
def test_dropping_all_quantiles_is_refused_in_one_line(dropped):
    message = f"dropped_quantiles {dropped} leaves none of the num_quantiles 5; the largest that works is 4"
    with pytest.raises(ValueError, match=f"^{message}$"):
        TQC(num_quantiles=5, dropped_quantiles=dropped)
    TQC(num_quantiles=5, dropped_quantiles=4)
