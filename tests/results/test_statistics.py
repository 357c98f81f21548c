"""Statistics over runs, against rliable, scipy, and sums by hand."""

import itertools

import numpy as np
import pytest
from scipy import stats

from purerl.results import statistics

metrics = pytest.importorskip("rliable.metrics")

RUNS = np.random.default_rng(0).gamma(2.0, 0.3, (10, 4))  # [runs, tasks]
OTHERS = np.random.default_rng(1).gamma(2.0, 0.4, (12, 4))


@pytest.mark.parametrize("name", statistics.STATISTICS)
def test_aggregates_are_rliables(name):
    theirs = getattr(metrics, f"aggregate_{name}")
    assert statistics.STATISTICS[name](*RUNS.T) == pytest.approx(theirs(RUNS), abs=1e-12)


def test_the_median_of_one_task_is_that_of_its_runs():
    assert statistics.median(np.array([1.0, 2.0, 9.0])) == 2.0


def test_iqm_leaves_out_diverged_runs():
    assert statistics.iqm([1.0, 2.0, 3.0, 4.0, np.nan]) == 2.5
    assert np.isnan(statistics.iqm([[np.nan, np.nan]])).all()


def test_the_interval_is_that_of_every_resample():
    """Three runs of one task and two of another have 27 · 4 resamples, which can be counted out."""
    tasks = np.array([1.0, 2.0, 6.0]), np.array([0.0, 5.0])
    every = [
        statistics.mean(np.array(x), np.array(y))
        for x in itertools.product(tasks[0], repeat=3)
        for y in itertools.product(tasks[1], repeat=2)
    ]
    counted = np.quantile(every, [0.1, 0.9], method="inverted_cdf")
    np.testing.assert_allclose(statistics.interval(statistics.mean, *tasks, confidence=0.8, resamples=50_000), counted)


def test_intervals_agree_with_rliables():
    """What rliable 1.2.0 said of the same runs beside pandas 2.3.3, after 20,000 resamples; 5,000 for the others."""
    rng = np.random.default_rng(0)
    ours, theirs = rng.gamma(2.0, 0.3, (10, 4)), rng.gamma(2.0, 0.4, (12, 4))
    rliable = {
        "mean": (0.4822576177347483, 0.7191227493205603),
        "median": (0.46088719674687584, 0.7594333522750376),
        "iqm": (0.3975751147516321, 0.646098985937012),
        "optimality_gap": (0.3690567587823465, 0.5465019280406577),
    }
    for name, expected in rliable.items():
        found = statistics.interval(statistics.STATISTICS[name], *ours.T, resamples=20_000)
        np.testing.assert_allclose(found, expected, atol=3e-3)
    found = statistics.improvement_interval(list(ours.T), list(theirs.T), resamples=5_000)
    np.testing.assert_allclose(found, (0.29791667, 0.54583333), atol=0.01)
    fraction, low, high = statistics.profile_band(*ours.T, thresholds=np.linspace(0, 2, 5), resamples=5_000)
    np.testing.assert_allclose(fraction, [1.0, 0.525, 0.15, 0.05, 0.0], atol=1e-12)
    np.testing.assert_allclose(low, [1.0, 0.375, 0.05, 0.0, 0.0], atol=0.03)
    np.testing.assert_allclose(high, [1.0, 0.675, 0.25, 0.125, 0.0], atol=0.03)


@pytest.mark.parametrize(("runs", "least", "most"), [(5, 0.79, 0.87), (64, 0.915, 0.965)])
def test_intervals_hold_the_truth_as_often_as_documented(runs, least, most):
    """Of the mean of normal runs: too seldom where there are few."""
    rng = np.random.default_rng(0)
    limits = [statistics.interval(statistics.mean, rng.normal(size=runs), seed=i, resamples=1000) for i in range(800)]
    assert least < np.mean([low <= 0 <= high for low, high in limits]) < most


def test_an_interval_is_the_same_twice_and_one_run_has_none():
    first, second = (statistics.interval(statistics.mean, RUNS[:, 0]) for _ in range(2))
    assert first == second and first[0] < first[1]
    assert np.isnan(statistics.interval(statistics.mean, RUNS[:1, 0])).all()


def test_a_band_leaves_out_what_diverged():
    values = np.array([[1.0, 3.0, 5.0], [2.0, np.nan, 4.0], [7.0, np.nan, np.nan], [np.nan] * 3])
    centre, low, high = statistics.band(statistics.mean, values)
    np.testing.assert_array_equal(centre, [3.0, 3.0, 7.0, np.nan])
    np.testing.assert_array_equal(low, [1.0, 2.0, np.nan, np.nan])
    np.testing.assert_array_equal(high, [5.0, 4.0, np.nan, np.nan])


def test_the_performance_profile_counts_runs_above():
    fractions = statistics.performance_profile(*RUNS.T, thresholds=[0.2, 0.5, 1.0])
    np.testing.assert_allclose(fractions, [np.sum(tau < RUNS) / 40 for tau in (0.2, 0.5, 1.0)], atol=1e-12)


def test_probability_of_improvement_is_rliables_and_ties_count_half():
    ours = statistics.probability_of_improvement(list(RUNS.T), list(OTHERS.T))
    assert ours == pytest.approx(metrics.probability_of_improvement(RUNS, OTHERS), abs=1e-12)
    assert statistics.probability_of_improvement([np.array([1.0, 2.0])], [np.array([2.0, 2.0])]) == 0.25


def test_two_sets_of_seeds_are_compared_by_scipys_tests():
    ours, theirs = np.append(RUNS[:, 0], np.nan), OTHERS[:, 0]
    found = statistics.difference(ours, theirs)
    assert found["difference"] == pytest.approx(np.mean(RUNS[:, 0]) - np.mean(theirs), abs=1e-12)
    assert found["low"] < found["difference"] < found["high"]
    # Welch's t by hand: the difference over the root of the summed variances of the means.
    variances = [np.var(x, ddof=1) / len(x) for x in (RUNS[:, 0], theirs)]
    t = found["difference"] / np.sqrt(sum(variances))
    freedom = sum(variances) ** 2 / sum(v**2 / (len(x) - 1) for v, x in zip(variances, (RUNS, OTHERS), strict=True))
    assert found["welch_p"] == pytest.approx(2 * stats.t.sf(abs(t), freedom), abs=1e-12)
    assert found["mann_whitney_p"] == stats.mannwhitneyu(RUNS[:, 0], theirs).pvalue
    assert found["kolmogorov_smirnov_p"] == stats.ks_2samp(RUNS[:, 0], theirs).pvalue
    with pytest.raises(ValueError, match="1 and 12 runs cannot be compared"):
        statistics.difference(ours[:1], theirs)
