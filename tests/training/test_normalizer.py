"""Running statistics of observations."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from purerl.settings.schema import Plan
from purerl.training import normalizer

MEANS, SCALES = np.array([0.0, 1e-3, 100.0, -5e4]), np.array([1.0, 1e-4, 0.5, 1e5])


@pytest.fixture(scope="module")
def rows():
    """`[rows, E, obs_size]`, of very different scales, and drifting by one of them."""
    rng = np.random.default_rng(0)
    drift = np.linspace(0.0, 1.0, 5000)[:, None, None]
    return (MEANS + SCALES * (rng.normal(size=(5000, 8, 4)) + drift)).astype(np.float32)


@pytest.fixture(scope="module")
def statistics(rows):
    def take(statistics, row):
        return normalizer.running.update(statistics, row), None

    return jax.lax.scan(take, normalizer.running.init(4), rows)[0]


def test_running_statistics_are_those_of_all_rows_together(rows, statistics):
    everything = rows.reshape(-1, 4).astype(np.float64)
    assert statistics.count == len(everything)
    np.testing.assert_allclose((statistics.mean - everything.mean(axis=0)) / SCALES, 0.0, atol=1e-3)
    np.testing.assert_allclose(statistics.variance, everything.var(axis=0), rtol=1e-3)


def test_statistics_of_one_row_are_its_own():
    row = jnp.array([[1.0, 10.0], [3.0, 30.0]])
    statistics = normalizer.running.update(normalizer.running.init(2), row)
    np.testing.assert_allclose(statistics.mean, [2.0, 20.0])
    np.testing.assert_allclose(statistics.variance, [1.0, 100.0])


def test_normalised_observations_have_mean_0_and_deviation_1(rows, statistics):
    """But for the 1e-8 that is added to every variance: what varies by 1e-4 comes out smaller."""
    scaled = np.float64(normalizer.running.apply(statistics, jnp.asarray(rows))).reshape(-1, 4)
    variance = rows.reshape(-1, 4).astype(np.float64).var(axis=0)
    np.testing.assert_allclose(scaled.mean(axis=0), 0.0, atol=2e-3)
    np.testing.assert_allclose(scaled.std(axis=0), np.sqrt(variance / (variance + 1e-8)), rtol=1e-3)


def test_normalised_observations_are_clipped_at_10():
    statistics = normalizer.Statistics(jnp.array(9.0), jnp.array([5.0, 5.0, 5.0, 5.0]), jnp.full(4, 4.0))
    scaled = normalizer.running.apply(statistics, jnp.array([25.2, 24.0, -15.2, 5.0]))
    np.testing.assert_allclose(scaled, [10.0, 9.5, -10.0, 0.0], rtol=1e-6)


def test_normalisation_is_the_identity_before_the_first_row():
    observation = jnp.array([[0.5, -2.0]])
    np.testing.assert_allclose(normalizer.running.apply(normalizer.running.init(2), observation), observation)


def test_the_count_does_not_stop_growing_where_float32_would():
    """Of two to the 24th observations of 0 and variance 1, another 0 lowers the variance."""
    many = normalizer.Statistics(jnp.array(2.0**24), jnp.zeros(1), jnp.ones(1))
    after = normalizer.running.update(many, jnp.zeros((1, 1)))
    assert after.variance < 1.0 and after.count == normalizer.MOST + 1


def test_identity_does_nothing(rows):
    identity = normalizer.identity
    statistics = identity.update(identity.init(4), rows[0])
    assert statistics == ()
    assert identity.apply(statistics, rows) is rows


def test_plan_chooses_the_normalizer():
    assert normalizer.normalizer(Plan(normalize_observations=True)) is normalizer.running
    assert normalizer.normalizer(Plan()) is normalizer.identity
