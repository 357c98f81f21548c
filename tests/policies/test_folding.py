"""Batch renormalization with running statistics, folded into dense layers, computes the same actions."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import reference_crossq as reference

from purerl.algorithms.batch_renorm import BatchRenorm
from purerl.algorithms.networks import MLP, GaussianActor
from purerl.policies import layers
from purerl.policies.folding import EPSILON, folded

RANGE = np.asarray(-1.0, np.float32), np.asarray(1.0, np.float32)
OBSERVATION = np.random.default_rng(0).normal(size=(16, 3)).astype(np.float32)


def actor(*torso):
    """An actor of 2 numbers that reads 3, and random variables of it."""
    made, rng = GaussianActor(2, MLP(*torso, "float32", renorm_warmup=5)), np.random.default_rng(1)

    def drawn(path, x):
        spread = rng.lognormal(size=x.shape) if path[-1].key == "var" else rng.normal(size=x.shape)
        return spread.astype(x.dtype)

    like = jax.eval_shape(made.init, jax.random.key(0), jnp.zeros(3))
    return made, jax.tree_util.tree_map_with_path(drawn, like)


def described(variables, statistics=None, activation="relu", sizes=(3, 2)):
    return layers.describe(variables, statistics or {}, activation, *sizes, RANGE)


@pytest.mark.parametrize("widths", [(8,), (8, 4)])
def test_folded_layers_equal_numpy(widths):
    _, variables = actor(widths, "relu", False)
    found = described(variables)
    kinds = ["normalize", *["dense", "relu"] * len(widths), "dense", "tanh", "scale"]
    assert [layer["kind"] for layer in found] == kinds
    mean = reference.forward(variables, OBSERVATION.astype(np.float64))[0][:, :2]
    np.testing.assert_allclose(layers.apply(found, OBSERVATION), np.tanh(mean), atol=2e-6)


def test_folded_layers_equal_the_network_with_layer_norm_another_activation_and_normalized_observations():
    network, variables = actor((8, 4), "gelu", True)
    statistics = {"mean": np.float32([1, 2, 3]), "variance": np.float32([4, 5, 6])}
    found = described(variables, statistics, "gelu")
    assert [layer["kind"] for layer in found][:4] == ["normalize", "normalize", "dense", "layer_norm"]
    seen = (OBSERVATION - statistics["mean"]) / np.sqrt(statistics["variance"] + 1e-8)
    mean, _ = jax.jit(network.apply)(variables, jnp.asarray(seen))
    np.testing.assert_allclose(layers.apply(found, OBSERVATION), jnp.tanh(mean), atol=5e-6)


def test_observations_whose_mean_is_large_beside_their_deviation_keep_their_digits():
    """Of a constant observation of 9, for example, the variance is 0: its gain is 1 / √0.001."""
    _, variables = actor((8,), "relu", False)
    norm = variables["batch_stats"]["torso"]["BatchRenorm_0"]
    norm |= {"mean": np.float32([9000.0, -400.0, 9.0]), "var": np.float32([1.0, 1e-4, 0.0])}
    x = (norm["mean"] + np.sqrt(norm["var"]) * OBSERVATION).astype(np.float32)
    mean = reference.forward(variables, x.astype(np.float64))[0][:, :2]
    np.testing.assert_allclose(layers.apply(described(variables), x), np.tanh(mean), atol=1e-5)


def test_epsilon_is_that_of_training():
    assert BatchRenorm().epsilon == EPSILON


def without(tree, *path):
    """`tree` without the entry at `path`."""
    (name, *rest), copy = path, dict(tree)
    if rest:
        return copy | {name: without(copy[name], *rest)}
    del copy[name]
    return copy


def test_an_actor_with_another_arrangement_of_layers_is_left_as_it_is():
    _, variables = actor((8,), "relu", False)
    others = [
        without(variables, "batch_stats"),
        without(variables, "batch_stats", "torso", "BatchRenorm_1"),
        without(variables, "batch_stats", "torso", "BatchRenorm_1", "mean"),
        without(variables, "params", "torso", "BatchRenorm_0"),
        without(variables, "params", "torso", "Dense_0"),
        without(variables, "params", "Dense_0", "bias"),
        {"params": {"torso": 1.0}, "batch_stats": 2.0},
    ]
    _, wide = actor((9,), "relu", False)
    others.append({"params": variables["params"], "batch_stats": wide["batch_stats"]})
    for other in others:
        assert folded(other) == (other, []) and described(other) is None
    assert described(variables, sizes=(4, 2)) is None and described(variables, sizes=(3, 3)) is None
