"""Where episodes end, why, and from what state the next one begins."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from toys import after, counting

from purerl.environments import episodes

START, STEP = 0, 1  # what an observation of `counting` holds


def run(env, num_envs=4, steps=30):
    """Transitions `[steps, E, ...]` of an idle policy, and `elapsed` `[steps, E]` as it was before each step."""
    action = jnp.zeros((num_envs, env.action_size))

    def step(now, key):
        after, transition = episodes.step(env, now, action, key)
        return after, (transition, now.elapsed)

    begin_key, step_key = jax.random.split(jax.random.key(0))
    start = episodes.begin(env, num_envs, begin_key)
    return jax.tree.map(np.asarray, jax.lax.scan(step, start, jax.random.split(step_key, steps))[1])


def play(env):
    """`(returns, lengths)` `[32]` of an idle policy."""

    def idle(observation):
        return jnp.zeros((len(observation), env.action_size))

    return jax.jit(partial(episodes.play, env, idle))(episodes.starts(env, 32, jax.random.key(0)))


def young_or_old(state):
    """Some episodes terminate after two steps, the others after five."""
    return state.step >= jnp.where(state.start < 0.5, 2, 5)


ENDS = pytest.mark.parametrize(
    "env",
    [
        counting(3),
        counting(terminates=after(3)),
        counting(truncates=after(3)),
        counting(terminates=young_or_old),
        counting(4, young_or_old),
    ],
    ids=["time limit", "termination", "its own truncation", "at different times", "both"],
)


def test_time_limit_is_not_termination():
    transition, _ = run(counting(3))
    assert not transition.terminated.any()
    assert np.array_equal(transition.truncated, transition.observation[..., STEP] == 2)


def test_termination_is_not_truncation():
    transition, _ = run(counting(terminates=after(3)))
    assert not transition.truncated.any()
    assert np.array_equal(transition.terminated, transition.observation[..., STEP] == 2)


def test_termination_in_the_step_that_runs_out_of_time_is_termination():
    transition, _ = run(counting(3, terminates=after(3)))
    assert not transition.truncated.any()
    assert np.array_equal(transition.terminated, transition.observation[..., STEP] == 2)


def test_an_environment_may_truncate_by_itself():
    transition, _ = run(counting(7, truncates=after(3)))
    assert not transition.terminated.any()
    assert np.array_equal(transition.truncated, transition.observation[..., STEP] == 2)


@ENDS
def test_next_observation_is_not_the_reset_one(env):
    transition, _ = run(env)
    assert np.array_equal(transition.next_observation[..., START], transition.observation[..., START])
    assert np.array_equal(transition.next_observation[..., STEP], transition.observation[..., STEP] + 1)


@ENDS
def test_the_step_after_the_end_observes_the_reset_and_all_others_what_was_next(env):
    transition, _ = run(env)
    over = (transition.terminated | transition.truncated)[:-1]
    now, previous = transition.observation[1:], transition.next_observation[:-1]
    assert 0 < over.sum() < over.size
    assert (now[over][:, STEP] == 0).all()
    assert (now[over][:, START] != previous[over][:, START]).all()
    assert np.array_equal(now[~over], previous[~over])


@ENDS
def test_elapsed_counts_every_environment_by_itself(env):
    transition, elapsed = run(env)
    assert np.array_equal(elapsed, transition.observation[..., STEP])


def test_every_episode_begins_from_a_fresh_random_state():
    transition, _ = run(counting(2), steps=20)
    starts = transition.observation[::2, :, START]
    assert all(len(set(column)) >= 8 for column in starts.T.tolist())  # of ten; a pool of 64 repeats now and then


@pytest.mark.parametrize("num_envs", [4, 100])
def test_environments_that_end_together_go_on_from_different_states(num_envs):
    transition, _ = run(counting(2), num_envs, steps=6)
    assert all(len(set(row)) == num_envs for row in transition.observation[..., START].tolist())


def test_a_refreshed_pool_is_new_and_leaves_running_episodes_alone():
    env = counting()
    begun = episodes.begin(env, 4, jax.random.key(0))
    fresh = episodes.refresh(env, begun, jax.random.key(1))
    assert jax.tree.map(jnp.shape, fresh) == jax.tree.map(jnp.shape, begun)
    assert not set(fresh.pool.start.tolist()) & set(begun.pool.start.tolist())
    assert jax.tree.all(jax.tree.map(jnp.array_equal, fresh._replace(pool=None), begun._replace(pool=None)))


def test_a_new_episode_begins_from_the_refreshed_pool():
    env = counting(1)
    fresh = episodes.refresh(env, episodes.begin(env, 4, jax.random.key(0)), jax.random.key(1))
    now, _ = episodes.step(env, fresh, jnp.zeros((4, 1)), jax.random.key(2))
    assert set(now.state.start.tolist()) <= set(fresh.pool.start.tolist())


def test_the_transition_holds_action_and_reward_of_its_own_environment():
    env = counting(reward=lambda state, action: state.start + 10.0 * action[0])
    begun = episodes.begin(env, 3, jax.random.key(0))
    action = jnp.asarray([[-1.0], [0.0], [1.0]])
    _, transition = episodes.step(env, begun, action, jax.random.key(1))
    assert jnp.array_equal(transition.action, action)
    np.testing.assert_allclose(transition.reward, begun.state.start + jnp.asarray([-10.0, 0.0, 10.0]), rtol=1e-6)


@pytest.mark.parametrize("limit", [7, episodes.STRIDE, episodes.STRIDE + 13])
def test_a_whole_episode_is_as_long_as_its_time_limit_and_no_longer(limit):
    total, length = play(counting(limit))
    assert (total == limit).all() and (length == limit).all()


def test_episodes_of_different_lengths_are_paid_for_up_to_their_own_ends():
    total, length = play(counting(terminates=young_or_old))
    assert set(np.asarray(length)) == {2, 5} and np.array_equal(total, length)


def test_what_is_worth_nothing_after_the_end_is_not_added():
    total, _ = play(counting(terminates=after(3), reward=lambda state, action: jnp.where(state.step > 3, jnp.nan, 1.0)))
    assert (total == 3).all()
