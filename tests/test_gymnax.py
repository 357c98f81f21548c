"""Environments in gymnax's style, of either of its step signatures, none of which is a stand-in for the other."""

import sys
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from purerl import environments
from purerl.environments import episodes, gymnax


class Params(NamedTuple):
    max_steps_in_episode: int = 5
    wall: float = 3.0

    def replace(self, **changes):
        return self._replace(**changes)


class Position(NamedTuple):
    x: jax.Array
    time: jax.Array


class Box(NamedTuple):
    low: Any
    high: Any
    shape: tuple


class Old:
    """A walk along a line, as gymnax had it up to 0.0.9: `done` is set at the wall and at the time limit."""

    default_params = Params()

    def reset_env(self, key, params):
        state = Position(jax.random.uniform(key), jnp.int32(0))
        return self.observe(state), state

    def step_env(self, key, state, action, params):
        state = Position(state.x + action[0] + 0.01 * jax.random.normal(key), state.time + 1)
        done = (state.x > params.wall) | (state.time >= params.max_steps_in_episode)
        return self.observe(state), state, -jnp.abs(state.x), done, {"discount": 1.0 - done}

    def observe(self, state):
        return jnp.stack([state.x, state.time.astype(float)])

    def action_space(self, params):
        return Box(-2.0, 4.0, (1,))


class New(Old):
    """The same as gymnax has it from 1.0 on."""

    def step_env(self, key, state, action, params):
        observation, state, reward, _, info = super().step_env(key, state, action, params)
        return observation, state, reward, state.x > params.wall, info

    def is_truncated(self, state, params):
        return (state.time >= params.max_steps_in_episode) | (state.x < -50.0)


class Six(New):
    """The same with truncation among what a step gives."""

    is_truncated = None

    def step_env(self, key, state, action, params):
        observation, state, reward, terminated, info = super().step_env(key, state, action, params)
        return observation, state, reward, terminated, state.x < -50.0, info


class Discrete(Old):
    def action_space(self, params):
        return NamedTuple("Discrete", [("n", int)])(3)


KINDS = (Old, New, Six)


def walk(env, action, steps):
    """The transitions `[steps, E]` of two copies that always take `action`."""
    begun = episodes.begin(env, 2, jax.random.key(0))

    def step(state, key):
        return episodes.step(env, state, jnp.full((2, 1), action), key)

    return jax.lax.scan(step, begun, jax.random.split(jax.random.key(1), steps))[1]


@pytest.mark.parametrize("kind", KINDS)
def test_their_time_limit_truncates_and_does_not_terminate(kind):
    env = gymnax.from_gymnax(kind())
    seen = walk(env, -1 / 3, 12)  # An action of 0 in their units: nobody reaches the wall.
    assert env.episode_length == 5 and not seen.terminated.any()
    assert seen.truncated[:, 0].tolist() == ([False] * 4 + [True]) * 2 + [False] * 2
    assert gymnax.from_gymnax(kind(), episode_length=7).episode_length == 7


@pytest.mark.parametrize("kind", KINDS)
def test_the_last_observation_is_kept_and_the_wall_terminates(kind):
    seen = walk(gymnax.from_gymnax(kind()), 1.0, 4)  # 4 in their units: at the wall after a step.
    assert seen.terminated.all() and not seen.truncated.any()
    assert (seen.next_observation[..., 0] > 3.9).all() and (seen.next_observation[..., 1] == 1).all()
    assert (seen.observation[..., 0] < 1).all() and (seen.observation[..., 1] == 0).all()


@pytest.mark.parametrize("kind", (New, Six))
def test_another_truncation_than_the_time_limit_is_one(kind):
    env = gymnax.from_gymnax(kind())
    state = env.reset(jax.random.key(0))
    state, outcome = env.step(state._replace(state=Position(jnp.float32(-60.0), jnp.int32(0))), jnp.zeros(1))
    assert outcome.truncated and not outcome.terminated and env.truncates


def test_steps_draw_anew():
    env = gymnax.from_gymnax(Old())
    state, moves = env.reset(jax.random.key(0)), []
    for _ in range(3):
        after, _ = env.step(state, jnp.full(1, -1 / 3))
        moves.append(float(after.observation[0] - state.observation[0]))
        state = after
    assert len(set(moves)) == 3 and np.abs(moves).max() < 0.1


def test_one_of_ones_own_is_known_by_name():
    env = environments.make(f"{__name__}:New")
    assert (env.name, env.obs_size, env.action_size, env.episode_length) == (f"{__name__}:New", 2, 1, 5)
    assert environments.make(f"{__name__}:Old", episode_length=9).episode_length == 9


def test_what_cannot_be_learned_is_one_line(monkeypatch):
    with pytest.raises(ValueError, match=r"Discrete: its actions are .*need a box of numbers"):
        gymnax.from_gymnax(Discrete())
    monkeypatch.setattr(Old, "action_space", lambda self, params: Box(-np.inf, np.inf, (1,)))
    with pytest.raises(ValueError, match="bounds must be finite"):
        gymnax.from_gymnax(Old())
    with pytest.raises(
        ValueError, match=r"gymnax:Pendulum-v1 needs the package gymnax; pip install 'purerl\[gymnax\]'"
    ):
        monkeypatch.setitem(sys.modules, "gymnax", None)
        environments.make("gymnax:Pendulum-v1")
    with pytest.raises(ValueError, match=r"no 'Nwe' that is an Environment.*; did you mean New"):
        environments.make(f"{__name__}:Nwe")
