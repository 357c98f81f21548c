"""Exploration noise, by its statistics over many environments."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from purerl.algorithms import exploration
from purerl.settings.hyperparameters import DDPG

SHAPE = (5000, 2)
KEYS = jax.random.split(jax.random.key(0), 60)


def constant(scale):
    return exploration.constant(scale, scale)


def drawn(process, keys=KEYS, progress=0.0):
    """`[len(keys), E, A]`, one draw after the other."""
    return jax.lax.scan(lambda state, key: process.draw(state, progress, key), process.init(), keys)[1]


def assert_standard_deviation(x, expected):
    """To 4% of it: four standard errors of the mean of the 10000 numbers of a draw."""
    np.testing.assert_allclose([x.mean() / expected, x.std() / expected], [0.0, 1.0], atol=0.04)


def test_gaussian_noise_has_the_scheduled_deviation_and_no_memory():
    first, second = drawn(exploration.gaussian(constant(0.3), SHAPE), KEYS[:2])
    assert_standard_deviation(first, 0.3)
    assert_standard_deviation(second, 0.3)
    assert abs(np.corrcoef(first.ravel(), second.ravel())[0, 1]) < 0.04


def test_ornstein_uhlenbeck_noise_forgets_theta_of_itself_at_each_step():
    x = drawn(exploration.ornstein_uhlenbeck(constant(0.2), 0.15, SHAPE))
    before = jnp.concatenate([jnp.zeros((1, *SHAPE)), x[:-1]])
    xi = (x - 0.85 * before) / 0.2
    assert_standard_deviation(xi[0], 1.0)
    assert_standard_deviation(xi[-1], 1.0)
    assert abs(np.corrcoef(xi[-1].ravel(), before[-1].ravel())[0, 1]) < 0.04


def test_ornstein_uhlenbeck_noise_settles_at_its_stationary_deviation():
    x = drawn(exploration.ornstein_uhlenbeck(constant(0.2), 0.15, SHAPE))
    assert_standard_deviation(x[-1], 0.2 / np.sqrt(1 - 0.85**2))


def test_ornstein_uhlenbeck_noise_begins_anew_exactly_where_an_episode_ended():
    process = exploration.ornstein_uhlenbeck(constant(0.2), 0.15, (4, 2))
    state, _ = process.draw(process.init(), 0.0, KEYS[0])
    after = process.restart(state, jnp.array([False, True, False, True]))
    np.testing.assert_array_equal(after[jnp.array([1, 3])], np.zeros((2, 2)))
    np.testing.assert_array_equal(after[jnp.array([0, 2])], state[jnp.array([0, 2])])
    assert state.all()


@pytest.mark.parametrize(
    ("name", "expected"),
    [("constant", (0.4, 0.4, 0.4)), ("linear", (0.4, 0.25, 0.1)), ("exponential", (0.4, 0.2, 0.1))],
)
def test_schedules_go_from_the_first_to_the_final_scale(name, expected):
    schedule = exploration.SCHEDULES[name](0.4, 0.1)
    np.testing.assert_allclose([schedule(progress) for progress in (0.0, 0.5, 1.0)], expected, rtol=1e-6)


def test_a_linear_schedule_ends_without_noise_where_that_is_asked_for():
    hyper = DDPG(exploration_noise=0.4, noise_schedule="linear", final_noise=0.0)
    process = exploration.exploration(hyper, SHAPE)
    assert_standard_deviation(drawn(process, KEYS[:1], progress=0.5), 0.2)
    np.testing.assert_array_equal(drawn(process, KEYS[:1], progress=1.0), 0.0)


@pytest.mark.parametrize("kind", ["gaussian", "ou"])
def test_exploration_follows_its_hyperparameters(kind):
    theta = {"ou_theta": 0.3} if kind == "ou" else {}
    hyper = DDPG(noise=kind, **theta, exploration_noise=0.4, noise_schedule="linear", final_noise=0.1)
    process = exploration.exploration(hyper, SHAPE)
    for progress, scale in ((0.0, 0.4), (0.5, 0.25), (1.0, 0.1)):
        last = drawn(process, progress=progress)[-1]
        assert_standard_deviation(last, scale / np.sqrt(1 - 0.7**2) if kind == "ou" else scale)


def test_silence_is_zero():
    np.testing.assert_array_equal(drawn(exploration.silent((4, 2))), np.zeros((len(KEYS), 4, 2)))
