"""The rings: what they keep, and what sampling may return."""

from functools import cache, partial
from itertools import product

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from toys import counting

from purerl.settings.schema import Plan
from purerl.training import replay
from purerl.types import Transition

hypothesis = pytest.importorskip("hypothesis")
st = pytest.importorskip("hypothesis.strategies")
given, settings = hypothesis.given, hypothesis.settings

ENVS = 3
UNWRITTEN = -1.0


def shape(rows, n_step=1, episode_length=1000, obs_size=2, dtype="float32"):
    return replay.Shape(rows, n_step, obs_size, 1, episode_length, dtype)


def marked(time, num_envs=ENVS):
    """The transitions of one row; every field tells when and where it was made. Also what the next row is made from."""
    env = jnp.arange(num_envs)
    observation, following = (jnp.stack([jnp.full(num_envs, t), env], axis=1).astype(float) for t in (time, time + 1))
    never = jnp.zeros(num_envs, bool)
    return Transition(observation, (100.0 * time + env)[:, None], 1.0 * time + env, never, never, following), following


@cache
def filled(kind, rows, added, n_step=1):
    """A ring to which `added` rows of marks were written, and its functions."""
    buffer = kind(shape(rows, n_step))
    ring = jax.tree.map(lambda x: jnp.full_like(x, UNWRITTEN), buffer.empty(0, jnp.zeros((ENVS, 2))))
    if kind is replay.compact:
        ring = ring._replace(data=ring.data.at[0, :, :2].set(marked(0)[0].observation))
    for time in range(added):
        ring = buffer.add(ring, time, *marked(time))
    return buffer, ring


def drawn(kind, rows, added, key, size, n_step=1):
    buffer, ring = filled(kind, rows, added, n_step)
    return buffer.sample(ring, added, jax.random.key(key), size)


def marks(window):
    """When and where the first transitions of windows were made."""
    time, env = np.asarray(window.observation[0].reshape(-1, 2)).astype(int).T
    return list(zip(time.tolist(), env.tolist(), strict=True))


def kept(rows, added):
    """The times that a ring of `rows` rows should hold."""
    return range(max(0, added - rows), added)


KINDS = pytest.mark.parametrize("kind", [replay.plain, replay.compact])
FILLINGS = pytest.mark.parametrize(
    "rows, added",
    [(8, 1), (8, 5), (8, 8), (8, 13), (8, 16), (1, 1), (1, 4)],
    ids=["one row written", "partly filled", "full", "wrapped", "wrapped to the start", "one row", "one row, wrapped"],
)


@KINDS
@FILLINGS
def test_sampling_returns_every_transition_that_is_kept_and_never_another(kind, rows, added):
    assert set(marks(drawn(kind, rows, added, 0, (2000,)))) == set(product(kept(rows, added), range(ENVS)))


@KINDS
@FILLINGS
def test_sampling_is_uniform(kind, rows, added):
    counts = np.unique(marks(drawn(kind, rows, added, 1, (200, 100))), axis=0, return_counts=True)[1]
    expected, freedom = 20_000 / (len(kept(rows, added)) * ENVS), len(counts) - 1
    assert np.sum((counts - expected) ** 2 / expected) < freedom + 4 * np.sqrt(2 * freedom)  # χ², four deviations


@KINDS
@pytest.mark.parametrize("rows, added, n_step", [(8, 5, 3), (8, 5, 5), (8, 8, 2), (8, 13, 3), (8, 13, 8), (1, 4, 1)])
def test_a_window_is_consecutive_steps_of_one_environment_and_never_holds_the_seam(kind, rows, added, n_step):
    window = drawn(kind, rows, added, 2, (2000,), n_step)
    time, env = jnp.moveaxis(window.observation, -1, 0)
    assert time.shape == (n_step, 2000)
    assert jnp.array_equal(time, time[0] + jnp.arange(n_step)[:, None])
    assert jnp.array_equal(env, jnp.broadcast_to(env[0], env.shape))
    starts = kept(rows, added)[: len(kept(rows, added)) - n_step + 1]
    assert set(marks(window)) == set(product(starts, range(ENVS)))


@KINDS
def test_the_fields_of_a_transition_stay_together(kind):
    window = drawn(kind, 8, 13, 3, (4, 5), 2)
    time, env = jnp.moveaxis(window.observation, -1, 0)
    assert window.reward.shape == (2, 4, 5) and window.terminated.dtype == bool
    assert jnp.array_equal(window.action[..., 0], 100 * time + env)
    assert jnp.array_equal(window.reward, time + env)
    assert jnp.array_equal(window.next_observation, jnp.stack([time + 1, env], axis=-1))


@KINDS
def test_the_same_key_draws_the_same_and_another_key_something_else(kind):
    first, again, other = (marks(drawn(kind, 8, 8, key, (32,))) for key in (0, 0, 1))
    assert first == again != other


def history(random, steps, num_envs, episode_length, death, obs_size, dtype):
    """Rows as environments make them: `(transition, observation after it)`, episodes ending at random and by time."""
    elapsed = np.zeros(num_envs, int)

    def look():
        return random.normal(size=(num_envs, obs_size)).astype(np.float32).astype(dtype).astype(np.float32)

    observation, rows = look(), []
    first = observation
    for _ in range(steps):
        elapsed += 1
        terminated = random.random(num_envs) < death
        truncated = (elapsed >= episode_length) & ~terminated
        reached = look()
        over = terminated | truncated
        following = np.where(over[:, None], look(), reached)
        action, reward = random.normal(size=(num_envs, 1)), random.normal(size=num_envs)
        transition = Transition(observation, action, reward, terminated, truncated, reached)
        rows.append((jax.tree.map(lambda x: jnp.asarray(x, bool if x.dtype == bool else float), transition), following))
        elapsed, observation = np.where(over, 0, elapsed), following
    return first, rows


@cache
def programs(kind, size):
    buffer = kind(size)
    return buffer.empty, jax.jit(buffer.add), jax.jit(partial(buffer.sample), static_argnums=3)


# Rows, steps of a return, the length of episodes and the type of observations. Each is compiled.
SHAPES = [
    (2, 1, 1, "float32"),
    (2, 1, 3, "bfloat16"),
    (2, 2, 40, "float32"),
    (5, 1, 4, "float16"),
    (5, 2, 3, "float32"),
    (5, 2, 13, "bfloat16"),
    (13, 1, 13, "float32"),
    (13, 1, 1, "float16"),
    (13, 2, 4, "bfloat16"),
    (13, 2, 40, "float16"),
]


@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    seed=st.integers(0, 2**31),
    rows_n_step_length_dtype=st.sampled_from(SHAPES),
    death=st.sampled_from([0.0, 0.1, 0.6]),
    steps=st.integers(2, 50),
    start=st.sampled_from([0, 7]),
)
def test_the_compact_ring_samples_exactly_what_the_plain_one_does(seed, rows_n_step_length_dtype, death, steps, start):
    """But for s' where a transition terminated, which counts for nothing."""
    rows, n_step, episode_length, dtype = rows_n_step_length_dtype
    size = shape(rows, n_step, episode_length, obs_size=3, dtype=dtype)
    first, made = history(np.random.default_rng(seed), steps, 2, episode_length, death, 3, jnp.dtype(dtype))
    windows = []
    for kind in (replay.plain, replay.compact):
        empty, add, sample = programs(kind, size)
        ring = empty(start, jnp.asarray(first))
        for added, (transition, following) in enumerate(made):
            ring = add(ring, start + added, transition, following)
        if start and steps < rows:
            return  # a ring that does not begin at row 0 must be filled before it is sampled
        windows.append(sample(ring, start + steps, jax.random.key(seed), (64,)))
    ours, theirs = windows
    counts = ~ours.terminated[..., None]
    for field in Transition._fields:
        one, other = getattr(ours, field), getattr(theirs, field)
        if field == "next_observation":
            one, other = one * counts, other * counts
        np.testing.assert_array_equal(one, other, err_msg=field)


@pytest.mark.parametrize("rows, episode_length", [(5, 3), (14, 4)])
def test_the_table_has_a_place_for_every_truncation_that_is_kept(rows, episode_length):
    """Asked after every row: one place less would be too few when two truncations come just so."""
    size = shape(rows, 1, episode_length, obs_size=1)
    first, made = history(np.random.default_rng(0), 400, 2, episode_length, 0.3, 1, jnp.dtype("float32"))
    empty, add, sample = programs(replay.compact, size)
    ring, reached = empty(0, jnp.asarray(first)), {}
    for added, (transition, following) in enumerate(made):
        ring = add(ring, added, transition, following)
        for before, after in zip(transition.observation.ravel(), transition.next_observation.ravel(), strict=True):
            reached[float(before)] = float(after)
        window = sample(ring, added + 1, jax.random.key(added), (64,))
        for before, after in zip(
            window.observation[window.truncated], window.next_observation[window.truncated], strict=True
        ):
            assert reached[float(before[0])] == float(after[0])


def test_words_of_two_numbers_keep_every_bit():
    """Also of what is no number: nothing computes with the words."""
    bits = jnp.arange(2**16, dtype=jnp.uint16)
    for dtype in ("bfloat16", "float16"):
        numbers = jax.lax.bitcast_convert_type(bits, jnp.dtype(dtype)).astype(jnp.float32).reshape(-1, 4)
        size = shape(1, obs_size=4, dtype=dtype)
        never, nothing = jnp.zeros(len(numbers), bool), jnp.zeros(len(numbers))
        buffer = replay.plain(size)
        transition = Transition(numbers, nothing[:, None], nothing, never, never, numbers)
        ring = jax.jit(buffer.add)(buffer.empty(0, numbers), 0, transition, numbers)
        read = replay._observation(size, ring[0, :, : size.words])
        np.testing.assert_array_equal(read, numbers)


def test_what_16_bits_cannot_hold_is_their_greatest_number():
    size = shape(1, obs_size=4, dtype="float16")
    words = replay._words(size, jnp.array([[7e4, -1e9, 65504.0, jnp.inf]]))
    np.testing.assert_array_equal(replay._observation(size, words), [[65504.0, -65504.0, 65504.0, jnp.inf]])


@pytest.mark.parametrize("obs_size, action_size, least", [(17, 6, 0.39), (27, 8, 0.41), (244, 17, 0.48)])
@pytest.mark.parametrize("num_envs", [1, 128])
def test_the_compact_ring_is_smaller(obs_size, action_size, least, num_envs):
    """The sizes of halfcheetah, ant and humanoid, a million transitions."""
    size = replay.Shape(1_024_000 // num_envs, 1, obs_size, action_size, 1000, "float32")

    def bytes_of(kind):
        ring = jax.eval_shape(lambda: kind(size).empty(0, jnp.zeros((num_envs, obs_size))))
        return sum(x.size * x.dtype.itemsize for x in jax.tree.leaves(ring))

    assert 1 - bytes_of(replay.compact) / bytes_of(replay.plain) > least


def test_auto_is_compact_unless_a_truncation_or_an_algorithm_needs_the_plain_ring():
    own, timed = counting(), counting()._replace(truncates=False)
    cases = [("auto", own, False, False), ("auto", timed, False, True), ("auto", timed, True, False)]
    for ring, env, reads, compact in (*cases, ("plain", timed, False, False)):
        buffer = replay.replay(Plan(ring=ring), env, reads)
        assert isinstance(jax.eval_shape(buffer.empty, 0, jnp.zeros((16, 2))), replay.Compact) == compact
    with pytest.raises(ValueError, match=r"ring 'compact' cannot hold counting, .* use ring 'plain' or 'auto'"):
        replay.replay(Plan(ring="compact"), own, False)
    with pytest.raises(ValueError, match=r"does not keep s' of terminated transitions, .* use ring 'plain' or 'auto'"):
        replay.replay(Plan(ring="compact"), timed, True)


def with_a_hole(kind, n_step, hole):
    """Windows drawn from 12 rows of marks, of which one transition, `(time, env)`, was not to be stored."""
    buffer = kind(shape(8, n_step))
    ring = buffer.empty(0, marked(0)[0].observation)
    for time in range(12):
        transition, following = marked(time)
        stored = ~((jnp.arange(ENVS) == hole[1]) & (time == hole[0]))
        over = transition._replace(terminated=~stored, reward=jnp.where(stored, transition.reward, 0.0))
        ring = buffer.add(ring, time, over, following, stored)
    return buffer.sample(ring, 12, jax.random.key(0), (40, 50))


@KINDS
def test_what_is_not_to_be_stored_is_never_sampled_and_everything_else_is(kind):
    hole = (7, 1)
    window = with_a_hole(kind, 1, hole)
    seen = marks(window)
    assert set(seen) == set(product(kept(8, 12), range(ENVS))) - {hole}
    assert jnp.array_equal(window.reward[0], window.observation[0].sum(axis=-1))  # The fields stay together.
    assert not window.terminated.any() and not window.truncated.any()
    first = np.array(seen[:50])
    assert len(np.unique(first, axis=0)) > 10  # One of them stands in the hole's place, the others are drawn.


@KINDS
def test_a_window_ends_before_what_is_not_stored_as_if_truncated_there(kind):
    window = with_a_hole(kind, 3, (7, 1))
    time, env = jnp.moveaxis(window.observation, -1, 0)
    assert set(marks(window)) == set(product(range(4, 10), range(ENVS))) - {(7, 1)}
    before = (time == 6) & (env == 1)
    assert jnp.array_equal(window.truncated[:2], before[:2]) and before[:2].any()
    assert not window.truncated[2].any() and not window.terminated[:2].any()  # What follows is not in the window.
    assert jnp.array_equal(window.next_observation[before], jnp.tile(jnp.array([7.0, 1.0]), (int(before.sum()), 1)))
