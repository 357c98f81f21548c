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

    key = jax.random.key(0)

    def step(now, _):
        after, transition = episodes.step(env, episodes.draw(env, now, key), action)
        return after, (transition, now.elapsed)

    return jax.tree.map(np.asarray, jax.lax.scan(step, episodes.begin(env, num_envs, key), None, steps)[1])


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


def test_no_start_is_ever_used_twice_whatever_the_length_of_episodes():
    for limit in (1, 2, 16):
        transition, _ = run(counting(limit), num_envs=100, steps=10 * limit)
        starts = transition.observation[::limit, :, START]
        assert len(set(starts.ravel().tolist())) == starts.size == 1000


def test_start_number_n_is_what_its_own_key_makes_and_begun_counts_them():
    env, key = counting(1), jax.random.key(3)
    alone = [float(env.reset(jax.random.fold_in(key, number)).start) for number in range(12)]
    now = episodes.begin(env, 4, key)
    for row in range(3):
        assert now.begun == 4 * (row + 1) and now.state.start.tolist() == alone[4 * row : 4 * row + 4]
        now, _ = episodes.step(env, now, jnp.zeros((4, 1)))


def test_when_the_pool_is_drawn_changes_no_start_and_leaves_running_episodes_alone():
    env, key = counting(terminates=young_or_old), jax.random.key(1)
    often = seldom = episodes.begin(env, 10, key)
    for _ in range(40):
        often = episodes.draw(env, often, key)
        seldom = seldom if episodes.holds(seldom, 10) else episodes.draw(env, seldom, key)
        often, seldom = (episodes.step(env, now, jnp.zeros((10, 1)))[0] for now in (often, seldom))
        ours, theirs = (now._replace(pool=None, drawn=None) for now in (often, seldom))
        assert jax.tree.all(jax.tree.map(jnp.array_equal, ours, theirs))
    assert often.begun > 100 and often.drawn > seldom.drawn


def test_the_numbers_of_starts_may_wrap():
    env, key, last = counting(1), jax.random.key(1), jnp.uint32(2**32 - 2)
    now = episodes.draw(env, episodes.begin(env, 4, key)._replace(begun=last), key)
    now, _ = episodes.step(env, now, jnp.zeros((4, 1)))
    expected = [float(env.reset(jax.random.fold_in(key, number)).start) for number in (2**32 - 2, 2**32 - 1, 0, 1)]
    assert now.begun == 2 and now.state.start.tolist() == expected and episodes.holds(now, 60)
    assert not episodes.holds(now, 63)


def test_one_answer_holds_for_all_runs_that_are_mapped_over():
    flags = jnp.array([[False, False], [False, True]])
    many = jax.vmap(jax.vmap(episodes.anywhere))(flags)
    assert many.tolist() == [[True, True], [True, True]]
    turns = jax.vmap(lambda flag: jax.lax.while_loop(lambda n: ~episodes.anywhere(flag) & (n < 3), lambda n: n + 1, 0))
    assert turns(flags[0]).tolist() == [3, 3] and turns(flags[1]).tolist() == [0, 0]


def test_the_transition_holds_action_and_reward_of_its_own_environment():
    env = counting(reward=lambda state, action: state.start + 10.0 * action[0])
    begun = episodes.begin(env, 3, jax.random.key(0))
    action = jnp.asarray([[-1.0], [0.0], [1.0]])
    _, transition = episodes.step(env, begun, action)
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


def test_a_last_reward_that_is_not_finite_is_left_out_where_the_episode_terminates():
    env = counting(terminates=after(3), reward=lambda state, action: jnp.where(state.step >= 3, jnp.nan, 1.0))
    total, length = play(env)
    assert (total == 2).all() and (length == 3).all()


def test_a_return_has_all_its_digits_after_a_million_rewards():
    env = counting(10**6, reward=lambda state, action: jnp.float32(0.1))
    total, length = play(env._replace(step=cheap(env.step)))
    assert length.dtype == jnp.int32 and (length == 10**6).all()
    np.testing.assert_allclose(total, 1e5, rtol=1e-7)


def cheap(step):
    """`step` without its count, which float32 could not hold."""
    return lambda state, action: (state, step(state, action)[1])


def test_an_evaluation_may_be_cut_anywhere_and_ends_at_its_own_limit():
    env = counting(1000, terminates=young_or_old)

    def idle(observation):
        return jnp.zeros((len(observation), 1))

    at_once = episodes.play(env, idle, episodes.starts(env, 32, jax.random.key(0)))
    parts = episodes.begin_play(episodes.starts(env, 32, jax.random.key(0)))
    for _ in range(3):
        parts = episodes.play_on(env, idle, parts, 1, 1000)
    assert jnp.array_equal(parts.returns, at_once[0]) and jnp.array_equal(parts.length, at_once[1])
    long = counting(1000)
    total, length = episodes.play(long, idle, episodes.starts(long, 3, jax.random.key(0)), limit=70)
    assert total.tolist() == [70.0] * 3 and length.tolist() == [70] * 3
