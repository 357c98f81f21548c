"""The three learners against the NumPy of `reference.py`, and what each must not do."""

from functools import partial

import jax
import jax.numpy as jnp
import learners
import numpy as np
import optax
import pytest
import reference
from learners import BATCH_SIZE, ENV, PLAN, RATES, a_batch, assert_close, begun, in_numpy, policy_noise, windows

from purerl.algorithms import ddpg, optimization, sac, td3
from purerl.algorithms.networks import critics_of
from purerl.settings.hyperparameters import DDPG, SAC, TD3
from purerl.settings.registry import ALGORITHMS

LEARNERS = {"ddpg": (DDPG, ddpg.ddpg), "td3": (TD3, td3.td3), "sac": (SAC, sac.sac)}

every_learner = pytest.mark.parametrize("name", LEARNERS)


def learner(name, **settings):
    hyper_class, build = LEARNERS[name]
    hyper = hyper_class(**RATES, **settings)
    return hyper, build(hyper, PLAN, ENV)


def standard_normal(name, key, dtype=None, shape=(BATCH_SIZE, ENV.action_size)):
    """The draw `[B, A]` behind an update: of the policy for SAC, of the smoothing noise for TD3."""
    if name == "sac":
        return policy_noise(key, dtype, shape)
    return np.asarray(jax.random.normal(key, shape), np.float64)


def reference_value(name, hyper, state, batch, xi):
    if name == "ddpg":
        return reference.ddpg_value(state, batch)
    value = reference.td3_value if name == "td3" else reference.sac_value
    return value(state, batch, xi, hyper)


def reference_actor_update(name, hyper, state, batch, xi):
    if name == "sac":
        return reference.soft_actor_update(state, batch, xi, hyper)
    return reference.deterministic_actor_update(state, batch, hyper)


def check_updates(name, settings, n, dtype, **options):
    """As `learners.check_updates`, with the updates of `reference.py` for the algorithm called `name`."""
    hyper, algorithm = learner(name, **settings)

    def critic_update(state, batch, key):
        value = reference_value(name, hyper, state, batch, standard_normal(name, key, dtype))
        return reference.critic_update(state, batch, value, hyper)

    def actor_update(state, batch, key):
        return reference_actor_update(name, hyper, state, batch, standard_normal(name, key, dtype))

    learners.check_updates(hyper, algorithm, critic_update, actor_update, n, dtype, **options)


@pytest.mark.parametrize("name", ["td3", "sac"])
def test_comparison_begins_where_either_critic_is_the_lower_somewhere(name):
    """And some deviations are clipped, some not: else NumPy would agree with less than is claimed below."""
    _, algorithm = learner(name)
    state, batch = in_numpy(begun(algorithm)), a_batch(algorithm)
    for critics in (state.critic.params, state.target_critic):
        assert set(reference.values(critics, batch.next_observation, batch.action).argmin(axis=0)) == {0, 1}
    if name == "sac":
        *_, within = reference.tanh_gaussian(state.actor.params, batch.observation, np.zeros_like(batch.action))
        assert set(within.ravel()) == {False, True}


@pytest.mark.parametrize(
    ("name", "settings", "n"),
    [
        pytest.param("ddpg", {}, 1, id="ddpg"),
        pytest.param("td3", {}, 1, id="td3"),
        pytest.param("td3", {"target_noise": 2.0, "noise_clip": 0.3}, 1, id="td3-noise-clipped"),
        pytest.param("sac", {"alpha_lr": 0.1}, 1, id="sac-learned-alpha"),
        pytest.param("sac", {"alpha_lr": 0.1, "target_entropy": 1.5}, 1, id="sac-target-entropy"),
        pytest.param("sac", {"alpha": 0.2}, 1, id="sac-fixed-alpha"),
        pytest.param("td3", {"weight_decay": 0.3}, 1, id="td3-weight-decay"),
        pytest.param("sac", {"max_grad_norm": 0.05}, 1, id="sac-max-grad-norm"),
        pytest.param("ddpg", {"weight_decay": 0.3, "max_grad_norm": 0.05}, 1, id="ddpg-decay-and-norm"),
        pytest.param("ddpg", {"reward_scale": 5.0, "gamma": 0.9}, 3, id="ddpg-three-steps-scaled"),
    ],
)
def test_updates_equal_numpy(name, settings, n):
    with jax.enable_x64(True):
        check_updates(name, settings, n, jnp.float64, rtol=1e-8, atol=1e-12)


@every_learner
def test_two_hundred_updates_equal_numpy(name):
    """Whatever makes them fast must leave them what the plain code makes of them; rounding grows on the way."""
    _, algorithm = learner(name)
    with jax.enable_x64(True):
        check_updates(name, {}, 1, jnp.float64, rounds=200 // algorithm.policy_delay, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("name", ["td3", *(pytest.param(name, marks=pytest.mark.slow) for name in ("sac", "ddpg"))])
def test_two_hundred_updates_of_the_loop_equal_numpy(name):
    """As they are made in training: two runs at once, their batches from packed rings, a round's targets together."""
    hyper_class, build = LEARNERS[name]
    hyper = hyper_class(**RATES)
    for expected, rounds, learned in learners.learned_by_the_loop(hyper, build, 200):
        for batches, _, value_key, actor_key in rounds:
            with jax.enable_x64(True):
                shape = (len(batches), BATCH_SIZE, ENV.action_size)
                draws = standard_normal(name, value_key, jnp.float64, shape)
                last = standard_normal(name, actor_key, jnp.float64)
            for batch, xi in zip(batches, draws, strict=True):
                value = reference_value(name, hyper, expected, batch, xi)
                expected, _ = reference.critic_update(expected, batch, value, hyper)
            expected, _ = reference_actor_update(name, hyper, expected, batch, last)
        assert_close(learned, expected, rtol=1e-6, atol=1e-9)


@every_learner
def test_updates_equal_numpy_in_single_precision(name):
    """Adam divides by √ν: where the terms of a gradient cancel, their rounding becomes a larger part of the step. Steps
    are 1e-2 long, so the tolerance is a hundredth of one."""
    check_updates(name, {}, 1, jnp.float32, rtol=1e-4, atol=1e-4)


def test_max_grad_norm_bounds_the_norm_of_all_leaves_together():
    optimizer = optimization.adam(0.1, DDPG(max_grad_norm=1.0), 1)
    trained = optimization.create_trained(optimizer, {"w": jnp.zeros(2), "b": jnp.zeros(())})
    trained, _, _ = optimization.descend(
        optimizer, trained, lambda p: (p["w"] @ jnp.array([2.0, 3.0]) + 6.0 * p["b"], None)
    )
    moment = optax.tree.get(trained.opt_state, "mu")  # a tenth of the gradient (2, 3, 6), whose norm is 7
    assert_close(moment, {"w": np.array([0.2, 0.3]) / 7, "b": 0.6 / 7}, rtol=1e-6)


def test_weight_decay_pulls_by_its_share_of_the_learning_rate():
    optimizer = optimization.adam(0.1, DDPG(weight_decay=0.5), 1)
    trained = optimization.create_trained(optimizer, jnp.array([2.0, -4.0]))
    trained, _, _ = optimization.descend(optimizer, trained, lambda params: (jnp.zeros(()), None))
    np.testing.assert_allclose(trained.params, [1.9, -3.8], rtol=1e-6)


@every_learner
def test_reward_scale_scales_rewards_and_nothing_else(name):
    window = windows(np.random.default_rng(0))
    plain, scaled = (learner(name, reward_scale=scale)[1].to_batch(window) for scale in (1.0, 4.0))
    assert_close(scaled, plain._replace(reward=4.0 * plain.reward), rtol=0)


def test_td3_without_its_tricks_is_ddpg():
    hyper = TD3(**RATES, target_noise=0.0, policy_delay=1)
    model = ddpg.make_model(hyper, PLAN, ENV, critics_of(PLAN, 1))
    algorithm = ddpg.make_algorithm(model)
    plain, untricked = algorithm, algorithm._replace(next_value=partial(td3.next_value, hyper, model))
    states = [begun(plain)] * 2
    for seed in range(5):
        for i, each in enumerate((plain, untricked)):
            key = jax.random.key(seed)
            value = jax.jit(each.next_value)(states[i], a_batch(each, seed), key)
            states[i], _ = jax.jit(each.update_critic)(states[i], a_batch(each, seed), value, key)
            states[i], _ = jax.jit(each.update_actor)(states[i], a_batch(each, seed), key)
    assert_close(*states, rtol=1e-6, atol=1e-7)


def test_td3_updates_its_actor_at_every_second_critic_update():
    assert learner("td3")[1].policy_delay == 2
    assert learner("ddpg")[1].policy_delay == learner("sac")[1].policy_delay == 1


@every_learner
def test_policy_gradient_does_not_reach_the_critic(name):
    _, algorithm = learner(name)
    state = begun(algorithm)
    after, _ = jax.jit(algorithm.update_actor)(state, a_batch(algorithm), jax.random.key(0))
    jax.tree.map(np.testing.assert_array_equal, after.critic, state.critic)


@every_learner
def test_critic_update_moves_the_critic_only(name):
    _, algorithm = learner(name)
    state = begun(algorithm)
    after, _ = jax.jit(algorithm.update_critic)(state, a_batch(algorithm), jnp.ones(BATCH_SIZE), jax.random.key(0))
    jax.tree.map(np.testing.assert_array_equal, after._replace(critic=state.critic), state)
    assert all((x != y).any() for x, y in zip(*map(jax.tree.leaves, (after.critic, state.critic)), strict=True))


def with_second_critic(state, change):
    params = jax.tree.map(lambda x: x.at[1].set(change(x[1])), state.critic.params)
    return state._replace(critic=state.critic._replace(params=params))


def actors_after(name, change):
    """The actor's parameters after an update, and those after an update with the second critic changed."""
    _, algorithm = learner(name)
    state, update = begun(algorithm), jax.jit(algorithm.update_actor)
    states = state, with_second_critic(state, change)
    return [jax.tree.leaves(update(x, a_batch(algorithm), jax.random.key(0))[0].actor) for x in states]


def test_td3_actor_climbs_the_first_critic_only():
    for change in (jnp.negative, lambda x: x - 100.0):
        jax.tree.map(np.testing.assert_array_equal, *actors_after("td3", change))


def test_sac_actor_climbs_the_lower_of_both_critics():
    before, after = actors_after("sac", jnp.negative)
    assert any((x != y).any() for x, y in zip(before, after, strict=True))


def test_one_smoothing_noise_serves_both_critics():
    """Of two equal critics, the lower value is the value: unless each sees an action of its own."""
    hyper = TD3(target_noise=0.5)
    twins, single = (ddpg.make_model(hyper, PLAN, ENV, critics_of(PLAN, count)) for count in (2, 1))
    state = begun(ddpg.make_algorithm(single))
    doubled = state._replace(target_critic=jax.tree.map(lambda x: jnp.repeat(x, 2, axis=0), state.target_critic))
    batch, key = a_batch(ddpg.make_algorithm(single)), jax.random.key(0)
    value = td3.next_value(hyper, single, state, batch, key)
    assert_close(td3.next_value(hyper, twins, doubled, batch, key), value, rtol=1e-5)


def test_sac_target_uses_the_current_policy():
    assert "target_actor" not in sac.State._fields
    hyper, algorithm = learner("sac")
    model, batch, key = sac.make_model(hyper, PLAN, ENV, critics_of(PLAN, 2)), a_batch(algorithm), jax.random.key(0)
    state = begun(algorithm)
    moved, _ = algorithm.update_actor(state, batch, key)
    for each in (state, state._replace(actor=moved.actor)):
        value = reference.sac_value(in_numpy(each), batch, standard_normal("sac", key), hyper)
        assert_close(sac.next_value(model, each, batch, key), value, rtol=1e-4, atol=1e-5)


def test_target_entropy_is_minus_the_action_size_by_default():
    hyper, algorithm = learner("sac")
    model, state = sac.make_model(hyper, PLAN, ENV, critics_of(PLAN, 2)), begun(algorithm)

    def change(entropy):
        after = sac.temperature_step(model, state, jnp.full(BATCH_SIZE, -entropy))
        return after.log_alpha.params - state.log_alpha.params

    assert change(-2.0) == 0
    assert change(-2.1) > 0 > change(-1.9)


def test_fixed_alpha_stays():
    _, algorithm = learner("sac", alpha=0.25)
    state = algorithm.init(jax.random.key(0))
    for seed in range(3):
        state, metrics = jax.jit(algorithm.update_actor)(state, a_batch(algorithm, seed), jax.random.key(seed))
        np.testing.assert_allclose(metrics["alpha"], 0.25, rtol=1e-6)


def test_a_fixed_alpha_counts_from_now_on_for_an_agent_that_began_with_another():
    """As for one that takes over from another setting of its population."""
    (_, one), (_, other) = learner("sac", alpha=0.25), learner("sac", alpha=0.5)
    key, batch = jax.random.key(0), a_batch(one)
    state = one.init(key)
    np.testing.assert_array_equal(other.next_value(state, batch, key), other.next_value(other.init(key), batch, key))
    assert (other.next_value(state, batch, key) != one.next_value(state, batch, key)).any()
    assert other.update_actor(state, batch, key)[1]["alpha"] == 0.5


def test_learned_alpha_begins_as_told():
    _, algorithm = learner("sac", initial_alpha=0.3)
    np.testing.assert_allclose(jnp.exp(algorithm.init(jax.random.key(0)).log_alpha.params), 0.3, rtol=1e-6)


def test_sac_acts_with_the_tanh_of_the_mean():
    _, algorithm = learner("sac")
    state, observation = begun(algorithm), a_batch(algorithm).observation
    mean, _ = np.split(reference.forward(in_numpy(state).actor.params["params"], observation)[0], 2, axis=1)
    np.testing.assert_allclose(algorithm.act(algorithm.policy(state), observation), np.tanh(mean), rtol=1e-4, atol=1e-5)


def test_sac_explores_with_its_policy_and_ignores_the_noise():
    _, algorithm = learner("sac")
    state, observation, key = begun(algorithm), a_batch(algorithm).observation, jax.random.key(0)
    xi = standard_normal("sac", key)
    action, *_ = reference.tanh_gaussian(in_numpy(state).actor.params, observation, xi)
    np.testing.assert_allclose(
        algorithm.explore(state, observation, jnp.full(action.shape, 100.0), key), action, rtol=1e-4, atol=1e-5
    )


@pytest.mark.parametrize("name", ["ddpg", "td3"])
def test_deterministic_policies_explore_with_their_action_plus_noise_within_the_box(name):
    _, algorithm = learner(name)
    state, observation, key = begun(algorithm), a_batch(algorithm).observation, jax.random.key(0)
    action = reference.mu(in_numpy(state).actor.params, observation)
    np.testing.assert_allclose(algorithm.act(algorithm.policy(state), observation), action, rtol=1e-4, atol=1e-5)
    noise = jnp.asarray(np.random.default_rng(2).normal(size=action.shape))
    explored = algorithm.explore(state, observation, noise, key)
    np.testing.assert_allclose(explored, np.clip(action + noise, -1.0, 1.0), rtol=1e-4, atol=1e-5)


@every_learner
def test_targets_begin_as_copies(name):
    state = learner(name)[1].init(jax.random.key(0))
    jax.tree.map(np.testing.assert_array_equal, state.target_critic, state.critic.params)
    if name != "sac":
        jax.tree.map(np.testing.assert_array_equal, state.target_actor, state.actor.params)


@pytest.mark.parametrize(
    "schedule, rates",
    [
        ("constant", [0.1, 0.1, 0.1, 0.1, 0.1]),
        ("linear", [0.1, 0.075, 0.05, 0.025, 0.0]),
        ("cosine", [0.1, 0.0853553, 0.05, 0.0146447, 0.0]),
    ],
)
def test_a_schedule_takes_the_learning_rate_to_zero_with_the_last_update(schedule, rates):
    optimizer = optimization.adam(0.1, DDPG(lr_schedule=schedule), 4)
    params, steps = jnp.zeros(()), []
    state = optimizer.init(params)
    for _ in range(5):
        update, state = optimizer.update(jnp.ones(()), state, params)
        steps.append(float(update))
    np.testing.assert_allclose(steps, -np.array(rates), rtol=1e-4, atol=1e-8)


@pytest.mark.parametrize("more", [{}, {"weight_decay": 0.5}, {"max_grad_norm": 1.0}])
@pytest.mark.parametrize("schedule", ["linear", "cosine"])
def test_a_schedule_goes_on_where_the_counters_of_optax_stop(schedule, more):
    """Of 2³³ updates, the learning rates of the first, of one in the middle, beyond 2³¹, and of the last."""
    optimizer = optimization.adam(0.1, DDPG(lr_schedule=schedule, **more), 2**33)
    params, rates = jnp.ones(1), []
    state = optimizer.init(params)
    for done in (0, 2**32, 2**33):
        count = optimization.LongCount(jnp.int32(done // 2**30), jnp.int32(done % 2**30))
        update, after = jax.jit(optimizer.update)(jnp.ones(1), (*state[:-1], count), params)
        rates.append(update.item() / -(1.0 + more.get("weight_decay", 0.0)))
        assert int(after[-1].high) * 2**30 + int(after[-1].low) == done + 1
    np.testing.assert_allclose(rates, [0.1, 0.05, 0.0], rtol=1e-4, atol=1e-8)


def test_a_long_count_carries():
    scale = optimization.scale_by_share(lambda share: share, 2**40)
    _, count = scale.update(jnp.ones(1), optimization.LongCount(jnp.int32(5), jnp.int32(2**30 - 1)))
    assert (int(count.high), int(count.low)) == (6, 0)


@pytest.mark.parametrize("more", [{}, {"weight_decay": 0.5}, {"max_grad_norm": 1.0}])
def test_a_run_that_optax_can_count_keeps_its_state(more):
    """Its checkpoints stay what they were: nothing is added but where the counters would stop."""
    kept, longer = (
        jax.tree.leaves(optimization.adam(0.1, DDPG(lr_schedule="linear", **more), count).init(jnp.ones(1)))
        for count in (2**31 - 1, 2**31)
    )
    assert len(kept) == 4 and len(longer) == 5  # two counters and two moments; a count of two numbers for one of them


@pytest.mark.parametrize("name", ["tqc", "redq", "droq", "crossq"])
def test_no_value_is_computed_before_the_updates_of_a_round(name):
    """Each update of these algorithms computes its own, with the targets of its moment."""
    spec, key = ALGORITHMS[name], jax.random.key(0)
    algorithm = spec.build(spec.hyperparameters(), PLAN, ENV)
    batches = jax.tree.map(lambda x: x[None], a_batch(algorithm))
    assert jax.eval_shape(algorithm.next_value, jax.eval_shape(algorithm.init, key), batches, key) == ()


@pytest.mark.parametrize("name", ALGORITHMS)
def test_an_algorithm_declares_whether_it_reads_next_observations_of_terminated_transitions(name):
    """Otherwise the compact replay buffer, which does not keep them, changes what is learned."""
    spec, key = ALGORITHMS[name], jax.random.key(0)
    algorithm = spec.build(spec.hyperparameters(), PLAN, ENV)

    @jax.jit
    def updated(window):
        batch, state = algorithm.to_batch(window), algorithm.init(key)
        count = algorithm.policy_delay
        values = algorithm.next_value(state, jax.tree.map(lambda x: jnp.stack([x] * count), batch), key)
        state, _ = algorithm.update_critic(state, batch, jax.tree.map(lambda x: x[0], values), key)
        return algorithm.update_actor(state, batch, key)[0]

    window = windows(np.random.default_rng(1))
    ended = window.terminated[..., None]
    others = window._replace(next_observation=jnp.where(ended, 7.0, window.next_observation))
    same = jax.tree.map(lambda x, y: bool((x == y).all()), updated(window), updated(others))
    assert ended.any() and not ended.all()
    assert all(jax.tree.leaves(same)) is not algorithm.terminal_observations
