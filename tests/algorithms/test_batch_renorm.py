"""Batch renormalization against numbers computed by hand, and its gradients against `reference_crossq.py`."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import reference_crossq as reference

from purerl.algorithms.batch_renorm import STATISTICS, BatchRenorm

FEATURE = np.array([1.0, 3.0, 5.0, 7.0])[:, None]  # mean 4, biased variance 5


def begun(size=1, **statistics):
    """The variables of a layer before its first pass, with other `statistics`."""
    found = BatchRenorm().init(jax.random.key(0), jnp.zeros((2, size)))
    return found | {STATISTICS: found[STATISTICS] | {name: jnp.asarray(x) for name, x in statistics.items()}}


def training_pass(variables, x, warmup=2):
    """The output of a training pass and the variables after it."""
    output, changed = BatchRenorm(warmup).apply(variables, jnp.asarray(x, jnp.float32), mutable=[STATISTICS])
    return np.asarray(output), variables | changed


def test_scale_is_1_and_bias_mean_and_counter_are_0_and_variance_is_1_at_the_start():
    found = jax.tree.map(float, jax.tree.map(np.squeeze, begun()))
    assert found == {"params": {"scale": 1.0, "bias": 0.0}, STATISTICS: {"mean": 0.0, "var": 1.0, "passes": 0}}


def test_before_its_warm_up_a_training_pass_is_batch_normalization():
    for passes in (0, 1):
        output, _ = training_pass(begun(mean=[9.0], var=[7.0], passes=passes), FEATURE)
        np.testing.assert_allclose(output[:, 0], np.array([-3, -1, 1, 3]) / np.sqrt(5.001), rtol=1e-6)


def test_after_its_warm_up_a_training_pass_is_close_to_one_with_running_statistics():
    """r = √5.001 / √4.001 = 1.118 and d = (4 − 2) / √4.001 = 0.9999: both are within their limits."""
    output, _ = training_pass(begun(mean=[2.0], var=[4.0], passes=2), FEATURE)
    r, d = np.sqrt(5.001 / 4.001), 2 / np.sqrt(4.001)
    center, std = 4 - d * np.sqrt(5) / r, np.sqrt(5 / r**2 + 0.001)
    np.testing.assert_allclose(output, (FEATURE - center) / std, rtol=1e-5)
    np.testing.assert_allclose(output, (FEATURE - 2) / np.sqrt(4.001), atol=1e-3)


@pytest.mark.parametrize(
    ("mean", "variance", "r", "d"), [(-100.0, 1e-4, 3.0, 5.0), (1e4, 1e4, 1 / 3, -5.0), (4.0, 1e4, 1 / 3, 0.0)]
)
def test_r_is_at_most_3_and_at_least_a_third_and_d_is_at_most_5(mean, variance, r, d):
    output, _ = training_pass(begun(mean=[mean], var=[variance], passes=2), FEATURE)
    expected = (FEATURE - 4 + d * np.sqrt(5) / r) / np.sqrt(5 / r**2 + 0.001)
    np.testing.assert_allclose(output, expected, rtol=1e-5, atol=1e-6)


def test_running_statistics_keep_99_hundredths_and_take_the_biased_variance():
    for passes in (0, 2):  # also those of renormalization are the statistics of the batch itself
        _, after = training_pass(begun(mean=[2.0], var=[3.0], passes=passes), FEATURE)
        np.testing.assert_allclose(after[STATISTICS]["mean"], [0.99 * 2 + 0.01 * 4], rtol=1e-6)
        np.testing.assert_allclose(after[STATISTICS]["var"], [0.99 * 3 + 0.01 * 5], rtol=1e-6)


def test_the_counter_counts_training_passes_only_and_stays_at_the_warm_up():
    variables, seen = begun(), []
    for _ in range(4):
        BatchRenorm(2).apply(variables, jnp.asarray(FEATURE))
        _, variables = training_pass(variables, FEATURE)
        seen.append(int(variables[STATISTICS]["passes"]))
    assert seen == [1, 2, 2, 2]


def test_the_pass_after_the_warm_up_is_the_first_that_is_corrected():
    variables, seen = begun(), []
    for _ in range(4):
        output, variables = training_pass(variables, FEATURE)
        seen.append(bool(np.isclose(output[0, 0], -3 / np.sqrt(5.001))))
    assert seen == [True, True, False, False]


def test_any_other_pass_uses_running_statistics_and_changes_nothing():
    variables = begun(mean=[2.0], var=[4.0], passes=1)
    whole = BatchRenorm(2).apply(variables, jnp.asarray(FEATURE))
    np.testing.assert_allclose(whole, (FEATURE - 2) / np.sqrt(4.001), rtol=1e-6)
    np.testing.assert_array_equal(BatchRenorm(2).apply(variables, jnp.asarray(FEATURE[1])), whole[1])
    _, changed = BatchRenorm(2).apply(variables, jnp.asarray(FEATURE), mutable=["intermediates"])
    assert STATISTICS not in changed


@pytest.mark.parametrize("passes", [0, 2])
def test_output_and_gradients_equal_numpy_also_where_a_unit_is_dead(passes):
    """r and d have no gradient. Mean and variance of the batch have one."""
    rng = np.random.default_rng(9)
    statistics = {
        "mean": np.array([0.1, 0.5, 20.0, -30.0, 0.2]),
        "var": np.array([0.001, 50.0, 1.5, 0.7, 0.3]),
        "passes": np.int32(passes),
    }
    layer = {"scale": rng.normal(size=5), "bias": rng.normal(size=5)}
    x, weights = rng.normal(size=(2, 12, 5))
    x[:, 4] = 0.0
    expected, norm, after = reference.normalize(layer, statistics, x, 2, True)
    if passes == 2:
        assert {1 / 3, 3.0} < {*norm.r} and {-5.0, 5.0} < {*norm.d}  # some are clipped, some are not

    @jax.jit
    def gradients(params, statistics, x):
        def loss(params, x):
            output, changed = BatchRenorm(2).apply({"params": params, STATISTICS: statistics}, x, mutable=[STATISTICS])
            return (output * weights).sum(), (output, changed)

        return jax.grad(loss, (0, 1), has_aux=True)(params, x)

    with jax.enable_x64(True):
        found, (output, changed) = gradients(layer, statistics, x)
    for ours, theirs in (
        (output, expected),
        (changed[STATISTICS], after),
        (found, reference.normalize_gradient(norm, weights)),
    ):
        jax.tree.map(partial(np.testing.assert_allclose, rtol=1e-9, atol=1e-12), ours, theirs)


@pytest.mark.parametrize("passes", [0, 2])
def test_gradients_of_a_dead_unit_are_finite_in_single_precision(passes):
    variables = begun(2, passes=passes)

    @jax.jit
    def gradients(params, x):
        def loss(params, x):
            return jnp.square(BatchRenorm(2).apply(variables | params, x, mutable=[STATISTICS])[0]).sum()

        return jax.grad(loss, (0, 1))(params, x)

    x = jnp.stack([jnp.zeros(8), jnp.arange(8.0)], axis=1)
    for gradient in jax.tree.leaves(gradients({"params": variables["params"]}, x)):
        assert np.isfinite(gradient).all()


def test_the_variance_of_a_feature_with_a_large_mean_is_exact():
    """E[x²] − E[x]² would be 0 here, or below."""
    x = 1e4 + np.array([-1.0, 1.0] * 8)[:, None]
    output, after = training_pass(begun(), x)
    np.testing.assert_allclose(output[:, 0], [-1, 1] * 8, rtol=1e-3)
    np.testing.assert_allclose(after[STATISTICS]["var"], [1.0], rtol=1e-6)


def test_statistics_of_bfloat16_are_float32():
    x = jnp.asarray(FEATURE, jnp.bfloat16)
    output, changed = BatchRenorm(2).apply(begun(), x, mutable=[STATISTICS])
    assert output.dtype == jnp.bfloat16
    assert {name: x.dtype.name for name, x in changed[STATISTICS].items()} == {
        "mean": "float32",
        "var": "float32",
        "passes": "int32",
    }
    np.testing.assert_allclose(changed[STATISTICS]["var"], [0.99 + 0.05], rtol=1e-6)
