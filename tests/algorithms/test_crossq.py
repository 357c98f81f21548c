"""CrossQ against the NumPy of `reference_crossq.py`, and what each of its passes may change."""

from dataclasses import replace
from functools import partial
from types import SimpleNamespace
from typing import NamedTuple

import distrax
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import reference
import reference_crossq
from learners import BATCH_SIZE, ENV, PLAN, assert_close, windows

from purerl.algorithms import crossq, sac
from purerl.algorithms.batch_renorm import STATISTICS
from purerl.settings.hyperparameters import CrossQ
from purerl.settings.kinds import fields
from purerl.settings.schema import Plan
from purerl.types import Algorithm, Batch

HYPER = CrossQ(actor_lr=1e-3, critic_lr=2e-3, alpha_lr=1e-2, renorm_warmup=20)
HEADS = {
    f".{part}.params['params']['Dense_0']['{name}']": scale
    for part in ("actor", "critic")
    for name, scale in (("kernel", 0.1), ("bias", 0.0))
}  # standard deviations in `begun`


class Learner(NamedTuple):
    algorithm: Algorithm
    update_critic: object
    update_actor: object


@pytest.fixture(scope="module")
def learner():
    """The small CrossQ with compiled updates, `(state, batch, key) -> (state, metrics)`."""
    algorithm = crossq.crossq(HYPER, PLAN, ENV)
    update_critic = jax.jit(lambda state, batch, key: algorithm.update_critic(state, batch, (), key))
    return Learner(algorithm, update_critic, jax.jit(algorithm.update_actor))


def begun(algorithm, seed=28):
    """A state in float64 with random parameters and running statistics, before the first update.

    Outputs are near 1. Gradients of biases whose units are always active are 0, up to rounding. Adam divides this
    rounding by 1e-8, so it must stay small.
    """
    rng = np.random.default_rng(seed)

    def drawn(path, x):
        name, shape = jax.tree_util.keystr(path), x.shape
        if "opt_state" in name or "passes" in name:
            return jnp.zeros(shape, jnp.float64 if x.dtype == jnp.float32 else x.dtype)
        if name.endswith("['var']"):
            return jnp.asarray(rng.lognormal(0.0, 1.5, shape))
        return jnp.asarray(rng.normal(0.0, HEADS.get(name, 0.5), shape))

    return jax.tree_util.tree_map_with_path(drawn, jax.eval_shape(algorithm.init, jax.random.key(0)))


def in_numpy(state):
    """The state as `reference_crossq.py` has it."""

    def one(x):
        moments = (optax.tree.get(x.opt_state, name) for name in ("mu", "nu", "count"))
        parts = (x.params, *moments, x.variables) if x.variables else (x.params, *moments)
        kind = reference_crossq.Trained if x.variables else reference.Trained
        return jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), kind(*parts))

    return reference_crossq.State(one(state.actor), one(state.critic), one(state.log_alpha))


@jax.jit
def policy_noise(key):
    """The draw `[B, A]` in float64 behind the actions of an update, as distrax makes it."""
    return distrax.Normal(jnp.zeros(BATCH_SIZE * ENV.action_size), 1.0).sample(seed=key).reshape(BATCH_SIZE, -1)


def batches(seed):
    """A batch in float64 as JAX arrays, and the same in NumPy."""
    window = jax.tree.map(np.asarray, windows(np.random.default_rng(seed), 1, np.float64))
    batch = reference.prepare(window, HYPER)
    return Batch(*map(jnp.asarray, batch)), batch


def passes(trained):
    """The counters of all layers, of all critics, as a set."""
    layers = trained.variables[STATISTICS]["torso"].values()
    return {int(x) for layer in layers for x in np.ravel(layer["passes"])}


def test_a_hundred_updates_equal_numpy_before_across_and_after_the_warm_up(learner):
    """Critics renormalize after 20 updates. The actor has its own counter, and renormalizes after 60."""
    with jax.enable_x64(True):
        state = begun(learner.algorithm)
        expected, counted = in_numpy(state), []
        for number in range(1, 101):
            key, (batch, same_batch) = jax.random.key(number), batches(number)
            state, metrics = learner.update_critic(state, batch, key)
            xi = policy_noise(key)
            expected, same_metrics = reference_crossq.critic_update(expected, same_batch, xi, HYPER)
            assert_close(metrics, same_metrics, rtol=1e-6, atol=1e-9)
            if number % learner.algorithm.policy_delay == 0:
                key = jax.random.fold_in(key, 0)
                state, metrics = learner.update_actor(state, batch, key)
                xi = policy_noise(key)
                expected, same_metrics = reference_crossq.actor_update(expected, same_batch, xi, HYPER)
                assert_close(metrics, same_metrics, rtol=1e-6, atol=1e-9)
            assert_close(in_numpy(state), expected, rtol=1e-6, atol=1e-9)
            counted.append((passes(state.critic), passes(state.actor)))
        assert counted[18] == ({19}, {6}) and counted[19] == ({20}, {6}) and counted[58] == ({20}, {19})
        assert counted[59] == counted[99] == ({20}, {20})


def test_the_comparison_begins_where_corrections_are_clipped_and_either_critic_is_the_lower(learner):
    with jax.enable_x64(True):
        state, batch = in_numpy(begun(learner.algorithm)), batches(1)[1]
    x = np.concatenate([batch.observation, batch.action], axis=1)
    critics = reference_crossq.members(state.critic)
    values = np.array([reference_crossq.forward(critic, x)[0][:, 0] for critic in critics])
    assert {*values.argmin(axis=0)} == {0, 1}
    norms = [norm for critic in critics for _, norm, _ in reference_crossq.forward(critic, x, 0, True)[1]]
    r, d = (np.concatenate([getattr(norm, name) for norm in norms]) for name in ("r", "d"))
    for bound, values in ((1 / 3, r), (3.0, r), (5.0, abs(d))):
        assert (values == bound).any() and (values != bound).any()


def after_critic_update(learner):
    state, batch = begun(learner.algorithm), batches(1)[0]
    key = jax.random.key(3)
    return state, batch, key, learner.update_critic(state, batch, key)[0]


def inputs(statistics):
    """The statistics of the input of a network."""
    return statistics["batch_stats"]["torso"]["BatchRenorm_0"]


def test_one_pass_takes_the_statistics_of_both_halves_together(learner):
    """The half of s' is far from that of s: its mean is 100. The next action is that of the actor."""
    with jax.enable_x64(True):
        state, batch = begun(learner.algorithm), batches(1)[0]
        batch = batch._replace(next_observation=batch.next_observation + 100.0)
        key = jax.random.key(3)
        after, _ = learner.update_critic(state, batch, key)
        output, _, _ = reference_crossq.forward(
            reference_crossq.variables(in_numpy(state).actor), batch.next_observation
        )
        action = reference_crossq.squashed(output, policy_noise(key))[0]
        x = np.concatenate([np.c_[batch.observation, batch.action], np.c_[batch.next_observation, action]])
        before, found = inputs(state.critic.variables), inputs(after.critic.variables)
        for i in range(2):
            np.testing.assert_allclose(found["mean"][i], 0.99 * before["mean"][i] + 0.01 * x.mean(axis=0))
            np.testing.assert_allclose(found["var"][i], 0.99 * before["var"][i] + 0.01 * x.var(axis=0))


def test_every_critic_has_statistics_of_its_own(learner):
    with jax.enable_x64(True):
        _, _, _, after = after_critic_update(learner)
    hidden = after.critic.variables["batch_stats"]["torso"]["BatchRenorm_1"]
    assert hidden["mean"].shape == (2, 8) and (hidden["mean"][0] != hidden["mean"][1]).any()


def test_a_critic_update_moves_all_of_the_critics_and_nothing_of_the_actor(learner):
    with jax.enable_x64(True):
        before, _, _, after = after_critic_update(learner)
    jax.tree.map(np.testing.assert_array_equal, after._replace(critic=before.critic), before)
    assert all((x != y).any() for x, y in zip(*map(jax.tree.leaves, (after.critic, before.critic)), strict=True))


def test_an_actor_update_is_one_training_pass_of_the_actor_over_s_alone_and_leaves_the_critics(learner):
    with jax.enable_x64(True):
        state, batch = begun(learner.algorithm), batches(1)[0]
        after, _ = learner.update_actor(state, batch, jax.random.key(3))
        jax.tree.map(np.testing.assert_array_equal, after.critic, state.critic)
        assert (passes(after.actor), passes(after.critic)) == ({1}, {0})
        before, found = inputs(state.actor.variables), inputs(after.actor.variables)
        s = np.asarray(batch.observation)
        np.testing.assert_allclose(found["mean"], 0.99 * before["mean"] + 0.01 * s.mean(axis=0))
        np.testing.assert_allclose(found["var"], 0.99 * before["var"] + 0.01 * s.var(axis=0))


def test_an_update_whose_loss_is_not_finite_changes_neither_parameters_nor_statistics(learner):
    with jax.enable_x64(True):
        state, batch = begun(learner.algorithm), batches(1)[0]
        sick = batch._replace(reward=batch.reward.at[0].set(jnp.inf))
        after, metrics = learner.update_critic(state, sick, jax.random.key(3))
        assert not np.isfinite(metrics["critic_loss"])
        jax.tree.map(np.testing.assert_array_equal, after, state)
        sick = batch._replace(observation=batch.observation.at[0].set(jnp.nan))
        after, metrics = learner.update_actor(state, sick, jax.random.key(3))
        assert not np.isfinite(metrics["actor_loss"])
        jax.tree.map(np.testing.assert_array_equal, after.actor, state.actor)


def test_one_observation_alone_has_the_action_that_it_has_in_a_batch(learner):
    """Statistics of the batch would change with an observation that is far from the others."""
    algorithm, key = learner.algorithm, jax.random.key(0)

    @jax.jit
    def acted(state, seen):
        explored = [algorithm.explore(state, x, jnp.zeros((4, 2)), key) for x in (seen, seen.at[0].set(1e3))]
        return [algorithm.act(algorithm.policy(state), x) for x in (seen, seen[2])], explored

    with jax.enable_x64(True):
        (whole, alone), (near, far) = acted(begun(algorithm), jnp.asarray(np.random.default_rng(0).normal(size=(4, 3))))
    np.testing.assert_allclose(alone, whole[2], rtol=1e-12)
    np.testing.assert_allclose(far[1:], near[1:], rtol=1e-12)


def test_the_policy_is_the_parameters_and_the_running_statistics(learner):
    policy = learner.algorithm.policy(jax.eval_shape(learner.algorithm.init, jax.random.key(0)))
    assert set(policy) == {"params", STATISTICS}
    assert set(policy[STATISTICS]["torso"]) == {f"BatchRenorm_{i}" for i in range(3)}


def test_there_is_no_target_network_and_no_setting_of_one():
    state = jax.eval_shape(crossq.crossq(CrossQ(), PLAN, ENV).init, jax.random.key(0))
    assert state.target_critic == () and state._fields == sac.State._fields
    assert "tau" not in fields(CrossQ) and {"renorm_warmup", "adam_b1"} <= set(fields(CrossQ))


def test_defaults_are_those_of_the_authors():
    hyper = CrossQ()
    assert (hyper.actor_lr, hyper.critic_lr, hyper.alpha_lr, hyper.adam_b1) == (1e-3, 1e-3, 1e-3, 0.5)
    assert (hyper.renorm_warmup, hyper.policy_delay, hyper.gamma, hyper.initial_alpha) == (100_000, 3, 0.99, 1.0)
    assert crossq.crossq(hyper, PLAN, ENV).policy_delay == 3


PRIVILEGED = SimpleNamespace(obs_size=3, action_size=2, actor_obs_size=2)


OTHER = Plan(num_envs=4, widths=(8, 8), critic_widths=(16, 4), precision="bf16", layer_norm=True, n_step=3)


def updated(algorithm, window, key):
    """The state and the metrics of an update of the critics and one of the actor."""
    state, batch = algorithm.init(key), algorithm.to_batch(window)
    state, metrics = algorithm.update_critic(state, batch, (), key)
    state, more = algorithm.update_actor(state, batch, key)
    return state, metrics | more


def test_updates_keep_shapes_and_types_with_other_settings():
    algorithm = crossq.crossq(HYPER, OTHER, PRIVILEGED)
    begin = jax.eval_shape(algorithm.init, jax.random.key(0))
    window = windows(np.random.default_rng(0), OTHER.n_step)
    state, metrics = jax.eval_shape(partial(updated, algorithm), window, jax.random.key(0))
    assert state == begin and set(metrics) == {*algorithm.metrics}
    assert inputs(state.actor.variables)["mean"].shape == (2,)
    assert inputs(state.critic.variables)["mean"].shape == (2, 5)
    assert "LayerNorm_1" in state.actor.params["params"]["torso"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("plan", "env"),
    [
        (OTHER, PRIVILEGED),
        (replace(PLAN, critic_widths=(16, 4)), ENV),
        (replace(PLAN, precision="bf16"), ENV),
        (replace(PLAN, layer_norm=True), ENV),
        (replace(PLAN, n_step=3), ENV),
        (PLAN, PRIVILEGED),
    ],
    ids=["all", "critic-widths", "bf16", "layer-norm", "n-step", "privileged"],
)
def test_updates_are_finite_with_other_settings(plan, env):
    algorithm = crossq.crossq(HYPER, plan, env)
    window = windows(np.random.default_rng(0), plan.n_step)
    state, metrics = jax.jit(partial(updated, algorithm))(window, jax.random.key(0))
    assert all(np.isfinite(x).all() for x in jax.tree.leaves((state, metrics)))
    assert (inputs(state.actor.variables)["mean"] != 0).all() and (inputs(state.critic.variables)["mean"] != 0).all()


def test_a_batch_of_one_transition_is_refused():
    with pytest.raises(ValueError, match=r"^batch_size is 1, but CrossQ normalizes by the statistics of a batch"):
        crossq.crossq(HYPER, replace(PLAN, batch_size=1), ENV)
