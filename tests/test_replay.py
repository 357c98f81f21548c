"""The ring: what it keeps, and what sampling may return."""

from dataclasses import replace
from itertools import product
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from purerl import replay

UNWRITTEN = -1
ENVS = 3


class Mark(NamedTuple):
    """When and where a transition was made."""

    time: Any
    env: Any
    odd: Any


def filled(rows, added):
    """A ring to which `added` rows of marks were written."""
    ring = replay.empty(Mark(0, 0, False), rows, ENVS)
    ring = replace(ring, data=jnp.full_like(ring.data, UNWRITTEN))
    for time in range(added):
        now = jnp.full(ENVS, time)
        ring = replay.add(ring, time, Mark(now, jnp.arange(ENVS), now % 2 == 1))
    return ring


def kept(rows, added):
    """The times that a ring of `rows` rows should hold."""
    return range(max(0, added - rows), added)


FILLINGS = pytest.mark.parametrize(
    "rows, added",
    [(8, 1), (8, 5), (8, 8), (8, 13), (8, 16), (1, 1), (1, 4)],
    ids=["one row written", "partly filled", "full", "wrapped", "wrapped to the start", "one row", "one row, wrapped"],
)


@FILLINGS
def test_the_newest_rows_are_kept_and_the_oldest_overwritten(rows, added):
    times = np.asarray(replay.contents(filled(rows, added)).time)
    assert sorted(times[times != UNWRITTEN].tolist()) == sorted(list(kept(rows, added)) * ENVS)


@FILLINGS
def test_sampling_returns_every_written_transition_and_never_an_unwritten_one(rows, added):
    window = replay.sample(filled(rows, added), added, jax.random.key(0), (2000,))
    drawn = set(zip(window.time[0].tolist(), window.env[0].tolist(), strict=True))
    assert drawn == set(product(kept(rows, added), range(ENVS)))


@FILLINGS
def test_sampling_is_uniform(rows, added):
    window = replay.sample(filled(rows, added), added, jax.random.key(1), (200, 100))
    counts = np.unique(np.asarray(window.time * ENVS + window.env), return_counts=True)[1]
    expected, freedom = 20_000 / (len(kept(rows, added)) * ENVS), len(counts) - 1
    assert np.sum((counts - expected) ** 2 / expected) < freedom + 4 * np.sqrt(2 * freedom)  # χ², four deviations


@pytest.mark.parametrize("rows, added, n_step", [(8, 5, 3), (8, 5, 5), (8, 8, 2), (8, 13, 3), (8, 13, 8), (1, 4, 1)])
def test_a_window_is_consecutive_steps_of_one_environment_and_never_holds_the_seam(rows, added, n_step):
    window = replay.sample(filled(rows, added), added, jax.random.key(2), (2000,), n_step)
    assert window.time.shape == (n_step, 2000)
    assert jnp.array_equal(window.time, window.time[0] + jnp.arange(n_step)[:, None])
    assert jnp.array_equal(window.env, jnp.broadcast_to(window.env[0], window.env.shape))
    starts = kept(rows, added)[: len(kept(rows, added)) - n_step + 1]
    assert set(zip(window.time[0].tolist(), window.env[0].tolist(), strict=True)) == set(product(starts, range(ENVS)))


def test_the_fields_of_a_transition_stay_together():
    window = replay.sample(filled(8, 13), 13, jax.random.key(3), (4, 5), n_step=2)
    assert window.odd.shape == (2, 4, 5)
    assert jnp.array_equal(window.odd, window.time % 2 == 1)


def test_every_field_keeps_its_dtype_whatever_is_written():
    ring = replay.empty(Mark(jnp.int8(0), 0.0, False), 2, ENVS)
    ring = replay.add(ring, 0, Mark(jnp.ones(ENVS), jnp.ones(ENVS, jnp.int32), jnp.ones(ENVS)))
    kept = replay.contents(ring)
    assert [x.dtype for x in kept] == [jnp.int8, jnp.float32, jnp.bool_]
    assert [x[0, 0].item() for x in kept] == [1, 1.0, True]
    assert not any(x.weak_type for x in kept)


def test_the_same_key_draws_the_same_and_another_key_something_else():
    draw = [replay.sample(filled(8, 8), 8, jax.random.key(key), (32,)).time.tolist() for key in (0, 0, 1)]
    assert draw[0] == draw[1] != draw[2]
