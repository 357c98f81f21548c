"""Every equation against numbers by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import reference

from purerl.algorithms import equations

pytestmark = pytest.mark.smoke
NO, YES = False, True

Q = jnp.array([[1.0, 5.0], [3.0, 2.0]])  # of two critics, for a batch of two
LOG_PROB = jnp.array([-1.0, 2.0])


def assert_close(actual, expected):
    np.testing.assert_allclose(actual, expected, rtol=1e-6)


def test_target_is_reward_plus_discounted_value():
    reward, discount, value = jnp.array([1.0, 2.0]), jnp.array([0.9, 0.0]), jnp.array([10.0, 10.0])
    assert_close(equations.td_target(reward, discount, value), [10.0, 2.0])


def test_no_gradient_flows_through_the_target():
    gradients = jax.grad(lambda *x: equations.td_target(*x).sum(), argnums=(0, 1, 2))(*jnp.ones((3, 2)))
    assert not jnp.any(jnp.array(gradients))


def test_critic_loss_is_the_sum_over_critics_of_the_mean_over_the_batch():
    target = jnp.array([2.0, 2.0])
    assert_close(equations.critic_loss(Q, target), (1 + 9) / 2 + (1 + 0) / 2)
    assert_close(jax.grad(equations.critic_loss)(Q, target), [[-1.0, 3.0], [1.0, 0.0]])


def test_deterministic_policy_loss_is_minus_the_mean_value():
    assert_close(equations.deterministic_policy_loss(Q[0]), -3.0)


def test_clipped_double_q_is_the_lower_value_of_each_transition():
    assert_close(equations.clipped_double_q(Q), [1.0, 2.0])


def test_smoothing_clips_the_noise_then_the_action():
    action = jnp.array([[0.0, 0.0, 0.8, -0.8, 0.1]])
    epsilon = jnp.array([[0.3, 2.0, 2.0, -2.0, -0.2]])
    assert_close(equations.smoothed(action, epsilon, 0.5), [[0.3, 0.5, 1.0, -1.0, -0.1]])


def test_perturbation_clips_the_action_only():
    action, noise = jnp.array([[0.0, 0.0, -0.8]]), jnp.array([[0.7, 2.0, -0.7]])
    assert_close(equations.perturbed(action, noise), [[0.7, 1.0, -1.0]])


def test_soft_value_adds_alpha_times_the_surprise_to_the_lower_value():
    assert_close(equations.soft_value(Q, LOG_PROB, 0.5), [1.5, 1.0])


def test_entropy_policy_loss_is_minus_the_mean_soft_value():
    assert_close(equations.entropy_policy_loss(Q, LOG_PROB, 0.5), -1.25)


def test_temperature_loss_is_alpha_times_the_excess_of_entropy():
    log_alpha = jnp.log(2.0)  # entropies 1 and −2, mean −0.5, over a target of −3
    assert_close(equations.temperature_loss(log_alpha, LOG_PROB, -3.0), 2.0 * 2.5)
    assert_close(jax.grad(equations.temperature_loss)(log_alpha, LOG_PROB, -3.0), 2.0 * 2.5)


def test_alpha_falls_when_entropy_is_above_the_target_and_rises_when_below():
    slope = jax.grad(equations.temperature_loss)
    entropy = -LOG_PROB.mean()
    assert slope(0.0, LOG_PROB, entropy - 0.1) > 0 > slope(0.0, LOG_PROB, entropy + 0.1)


def test_temperature_sends_no_gradient_to_the_policy():
    assert not jnp.any(jax.grad(equations.temperature_loss, argnums=1)(0.0, LOG_PROB, -3.0))


def test_log_temperature_loss_has_no_factor_alpha_in_its_gradient():
    log_alpha = jnp.log(2.0)  # entropies 1 and −2, mean −0.5, over a target of −3
    assert_close(equations.log_temperature_loss(log_alpha, LOG_PROB, -3.0), np.log(2.0) * 2.5)
    assert_close(jax.grad(equations.log_temperature_loss)(log_alpha, LOG_PROB, -3.0), 2.5)
    assert not jnp.any(jax.grad(equations.log_temperature_loss, argnums=1)(log_alpha, LOG_PROB, -3.0))


def test_mean_policy_loss_takes_the_mean_of_all_critics():
    slopes = jax.grad(equations.mean_policy_loss, argnums=(0, 1))(Q, LOG_PROB, 0.5)
    assert_close(equations.mean_policy_loss(Q, LOG_PROB, 0.5), 0.25 - 2.75)
    assert_close(slopes[0], np.full((2, 2), -1 / 4))
    assert_close(slopes[1], np.full(2, 0.5 / 2))


def test_mean_policy_loss_takes_the_mean_of_all_quantiles():
    """Of the greatest, too."""
    quantiles = jnp.array([[[0.0, 1.0, 8.0]], [[-3.0, 2.0, 10.0]]])  # of two critics, for a batch of one
    assert_close(equations.mean_policy_loss(quantiles, jnp.array([-2.0]), 0.5), -1.0 - 3.0)
    assert_close(jax.grad(equations.mean_policy_loss)(quantiles, LOG_PROB[:1], 0.5), np.full((2, 1, 3), -1 / 6))


QUANTILES = jnp.array([[[3.0, 1.0, 2.0], [0.0, -5.0, 4.0]], [[8.0, 9.0, 7.0], [4.5, 10.0, -1.0]]])


@pytest.mark.parametrize(
    ("dropped", "expected"),
    [
        pytest.param(0, [[1, 2, 3, 7, 8, 9], [-5, -1, 0, 4, 4.5, 10]], id="none"),
        pytest.param(1, [[1, 2, 3, 7], [-5, -1, 0, 4]], id="one-per-critic"),
        pytest.param(2, [[1, 2], [-5, -1]], id="two-per-critic"),
    ],
)
def test_the_greatest_quantiles_of_all_critics_together_are_dropped(dropped, expected):
    """The first transition loses both from its second critic, and then all three of it."""
    assert_close(equations.truncated(QUANTILES, dropped), expected)


def test_quantile_huber_loss_pairs_every_quantile_with_every_target():
    """Quantiles 0 and 3 at levels 1/4 and 3/4, targets 0.5, −2 and 3: rows of quantiles, columns of targets."""
    quantiles, target = jnp.array([[[0.0, 3.0]]]), jnp.array([[0.5, -2.0, 3.0]])
    pairs = [[0.25 * 0.125, 0.75 * 1.5, 0.25 * 2.5], [0.25 * 2.0, 0.25 * 4.5, 0.0]]
    slopes = [-0.25 * 0.5 + 0.75 * 1.0 - 0.25 * 1.0, 0.25 * 1.0 + 0.25 * 1.0]
    assert_close(equations.quantile_huber_loss(quantiles, target), np.sum(pairs) / 6)
    assert_close(jax.grad(equations.quantile_huber_loss)(quantiles, target), [[np.array(slopes) / 6]])


def test_quantile_huber_loss_is_a_mean_over_critics_and_transitions():
    rng = np.random.default_rng(0)
    quantiles, target = rng.normal(size=(3, 4, 5)), rng.normal(size=(4, 7))
    loss = jax.jit(equations.quantile_huber_loss)
    one = np.mean([loss(quantiles[i : i + 1, b : b + 1], target[b : b + 1]) for i in range(3) for b in range(4)])
    assert_close(loss(quantiles, target), one)
    plain = np.mean([reference.quantile_loss(each, target)[0] for each in quantiles])
    assert_close(loss(quantiles, target), plain)


@pytest.mark.parametrize(("size", "quantiles"), [(25, 25), (100, 4)])
def test_quantile_huber_loss_is_least_at_the_quantiles_of_the_targets(size, quantiles):
    """Of 0 … K − 1, in any order, the quantile at level τ is τ K − 1/2. The Huber loss moves it by less than one.

    The loss is convex. So it falls until the quantile and rises after it.
    """
    target = jnp.asarray(np.random.default_rng(0).permutation(size)[None], jnp.float32)
    exact = (2 * np.arange(quantiles) + 1) / (2 * quantiles) * size - 0.5
    slope = jax.jit(jax.grad(equations.quantile_huber_loss))
    below, above = (slope(jnp.asarray(exact + way, jnp.float32)[None, None], target) for way in (-1.0, 1.0))
    assert (below < 0).all() and (above > 0).all()


def test_tau_weighs_the_new_parameters():
    online, target = (
        {"w": jnp.array([1.0, 2.0]), "b": jnp.array(4.0)},
        {"w": jnp.array([0.0, 1.0]), "b": jnp.array(0.0)},
    )
    moved = equations.polyak(online, target, 0.25)
    jax.tree.map(assert_close, moved, {"w": np.array([0.25, 1.25]), "b": np.array(1.0)})
    jax.tree.map(assert_close, moved, optax.incremental_update(online, target, 0.25))


def column(*values):
    return jnp.array(values)[:, None]


@pytest.mark.parametrize(
    ("rewards", "terminated", "truncated", "expected"),
    [
        pytest.param([3], [NO], [NO], (3, 0.5, 0), id="one-step"),
        pytest.param([3], [YES], [NO], (3, 0, 0), id="one-step-terminated"),
        pytest.param([3], [NO], [YES], (3, 0.5, 0), id="one-step-truncated"),
        pytest.param([1, 2, 4], [NO] * 3, [NO] * 3, (1 + 1 + 1, 0.125, 2), id="three-steps"),
        pytest.param([1, 2, 4], [NO, YES, NO], [NO] * 3, (1 + 1, 0, 1), id="terminated-in-the-middle"),
        pytest.param([1, 2, 4], [NO] * 3, [NO, YES, NO], (1 + 1, 0.25, 1), id="truncated-in-the-middle"),
        pytest.param([1, 2, 4], [NO, NO, YES], [YES, NO, NO], (1, 0.5, 0), id="the-next-episode-does-not-count"),
        pytest.param([1, 2, 4], [NO, NO, YES], [NO] * 3, (3, 0, 2), id="terminated-at-last"),
        pytest.param([1, 2, 4], [NO, NO, NO], [NO, NO, YES], (3, 0.125, 2), id="truncated-at-last"),
    ],
)
def test_n_step_return_stops_at_the_first_end_and_bootstraps_unless_terminated(
    rewards, terminated, truncated, expected
):
    """γ = 1/2. Expected: the return, γᵏ (1 − d), and the index of the last step."""
    actual = equations.n_step_return(column(*map(float, rewards)), column(*terminated), column(*truncated), 0.5)
    assert_close(actual, np.array(expected)[:, None])


@pytest.mark.parametrize("n", [1, 2, 5])
def test_n_step_return_equals_a_plain_loop(n):
    rng = np.random.default_rng(n)
    reward, (terminated, truncated) = rng.normal(size=(n, 500)), rng.random((2, n, 500)) < 0.2
    actual = equations.n_step_return(*map(jnp.asarray, (reward, terminated, truncated)), 0.9)
    for x, y in zip(actual, reference.n_step(reward, terminated, truncated, 0.9), strict=True):
        np.testing.assert_allclose(x, y, rtol=1e-5, atol=1e-5)
