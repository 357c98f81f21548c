"""DroQ against the NumPy of `reference.py`, its masks of dropout, its layers and its settings."""

from functools import cache

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import reference
from learners import BATCH_SIZE, ENV, PLAN, RATES, a_batch, assert_close, check_loop, check_updates, policy_noise

from purerl.algorithms import droq, redq
from purerl.algorithms.networks import Critics
from purerl.settings.hyperparameters import REDQ, DroQ
from purerl.settings.schema import Plan

HYPER = DroQ(**RATES, alpha_lr=1e-2, policy_delay=5, dropout_rate=0.3)


@cache
def dropout_outputs():
    """A compiled function from a key to what dropout makes of ones in a pass of the critics, `[layer][N, B, width]`."""
    critics = droq.dropout_critics(PLAN, HYPER.dropout_rate)

    def run(key):
        inputs = jnp.ones((BATCH_SIZE, ENV.obs_size)), jnp.ones((BATCH_SIZE, ENV.action_size))
        params = critics.init(jax.random.key(0), *inputs)
        _, found = critics.apply(
            jax.tree.map(lambda x: jnp.zeros_like(x) if x.ndim == 3 else jnp.ones_like(x), params),
            *inputs,
            rngs={"dropout": key},
            capture_intermediates=lambda module, _: isinstance(module, nn.Dropout),
            mutable=["intermediates"],
        )
        torso = found["intermediates"]["torso"]
        return [torso[f"Dropout_{layer}"]["__call__"][0] for layer in range(len(PLAN.widths))]

    return jax.jit(run)


def factors(key):
    """The factors of dropout of a pass, `[N][layer]`, as `reference.py` has them."""
    return list(zip(*(np.asarray(layer, np.float64) for layer in dropout_outputs()(key)), strict=True))


def critic_update(state, batch, key):
    target_key, dropout_key = jax.random.split(key)
    action_key, target_dropout_key = jax.random.split(target_key)
    xi = policy_noise(action_key, jnp.float64)
    return reference.droq_update(state, batch, xi, factors(target_dropout_key), factors(dropout_key), HYPER)


def actor_update(state, batch, key):
    action_key, dropout_key = jax.random.split(key)
    xi = policy_noise(action_key, jnp.float64)
    return reference.mean_actor_update(state, batch, xi, HYPER, factors(dropout_key))


def test_a_hundred_updates_equal_numpy():
    """With masks of each pass, targets that move with each update, and an actor update after every fifth."""
    algorithm = droq.droq(HYPER, PLAN, ENV)
    with jax.enable_x64(True):
        check_updates(HYPER, algorithm, critic_update, actor_update, rounds=20, rtol=1e-6, atol=1e-9)


@pytest.mark.slow
def test_updates_of_the_loop_equal_numpy():
    """Each of twenty has a batch, an action and masks of its own, and the targets of its moment."""
    check_loop(HYPER, droq.droq, critic_update, actor_update)


def keys_of_passes(monkeypatch, updates, keys):
    """The keys of dropout of every pass of the critics, a list for each of `updates`: functions of a key."""
    found, plain = [], Critics.apply

    def recording(self, *inputs, **passing):
        found[-1].append(passing["rngs"]["dropout"])
        return plain(self, *inputs, **passing)

    def run(keys):
        for update, key in zip(updates, keys, strict=True):
            found.append([])
            update(key)
        return found

    with monkeypatch.context() as patched:
        patched.setattr(Critics, "apply", recording)
        return jax.jit(run)(keys)


def test_every_pass_of_the_critics_has_masks_of_its_own(monkeypatch):
    """Two updates of the critics, with a pass of the targets and one of their own each, and one of the actor."""
    algorithm = droq.droq(HYPER, PLAN, ENV)

    def critic_update(key):
        algorithm.update_critic(algorithm.init(key), a_batch(algorithm), (), key)

    def actor_update(key):
        algorithm.update_actor(algorithm.init(key), a_batch(algorithm), key)

    updates, keys = [critic_update, critic_update, actor_update], jax.random.split(jax.random.key(0), 3)
    used = keys_of_passes(monkeypatch, updates, keys)
    assert [len(passes) for passes in used] == [2, 2, 1]
    masks = [np.asarray(layer) for passes in used for key in passes for layer in dropout_outputs()(key)]
    assert len(np.unique(np.stack(masks), axis=0)) == 5 * 2  # passes and layers


def test_every_critic_and_every_transition_has_a_mask_of_its_own():
    """Of 512 units, 0.3 are dropped; four standard deviations are 0.081. The others grow by 1 / 0.7."""
    masks = np.stack(dropout_outputs()(jax.random.key(0)))  # [layer, N, B, width]
    np.testing.assert_allclose(np.unique(masks), [0.0, 1 / 0.7], rtol=1e-6)
    assert abs((masks == 0).mean() - 0.3) < 0.081
    for layer in masks:
        assert (layer[0] != layer[1]).any()
        assert all(len(np.unique(critic, axis=0)) > BATCH_SIZE / 2 for critic in layer)


def layers_of(network):
    return {name.rpartition("_")[0] for name in network.params["params"]["torso"]}


@pytest.mark.parametrize(
    ("settings", "normalized"),
    [
        ({}, True),
        ({"layer_norm": False}, True),
        ({"critic_layer_norm": True}, True),
        ({"critic_layer_norm": False}, False),
    ],
)
def test_the_critics_have_layer_normalization_unless_it_is_off_for_them(settings, normalized):
    """The actor has none of its own."""
    plan = Plan(num_envs=4, widths=(8, 8), **settings)
    state = jax.eval_shape(droq.droq(HYPER, plan, ENV).init, jax.random.key(0))
    assert layers_of(state.actor) == {"Dense"}
    assert layers_of(state.critic) == ({"Dense", "LayerNorm"} if normalized else {"Dense"})


def test_without_dropout_and_layer_normalization_it_is_redq_with_two_critics():
    plan = Plan(num_envs=4, widths=(8, 8), critic_layer_norm=False)
    one = droq.droq(DroQ(**RATES, dropout_rate=0.0), plan, ENV)
    other = redq.redq(REDQ(**RATES, num_critics=2, subset_size=2), plan, ENV)
    key, batch = jax.random.key(0), a_batch(one)
    state = jax.jit(one.init)(key)
    target_key, _ = jax.random.split(key)
    after, metrics = jax.jit(one.update_critic)(state, batch, (), key)
    expected, same_metrics = jax.jit(other.update_critic)(state, batch, (), target_key)
    assert_close((after, metrics), (expected, same_metrics), rtol=1e-5, atol=1e-6)


def test_defaults_are_those_of_the_authors():
    algorithm = droq.droq(DroQ(), PLAN, ENV)
    assert (DroQ().dropout_rate, algorithm.policy_delay) == (0.01, 20)


def test_critics_begin_with_different_parameters():
    state = jax.jit(droq.droq(HYPER, PLAN, ENV).init)(jax.random.key(0))
    for kernel in (x for x in jax.tree.leaves(state.critic.params) if x.ndim == 3):
        assert len(np.unique(kernel, axis=0)) == 2
    jax.tree.map(np.testing.assert_array_equal, state.target_critic, state.critic.params)


@pytest.mark.parametrize("rate", [-0.1, 1.0])
def test_a_rate_outside_its_range_is_refused_in_one_line(rate):
    with pytest.raises(ValueError, match=r"^.*dropout_rate.*$") as caught:
        DroQ(dropout_rate=rate)
    assert "\n" not in str(caught.value)
