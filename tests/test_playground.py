"""MuJoCo Playground behind the boundary: on a stand-in of its Env, and on its own where it is installed."""

import sys
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import mujoco
import numpy as np
import pytest

from purerl import environments
from purerl.environments import episodes, playground


class Data(NamedTuple):
    qpos: jax.Array
    mocap_pos: jax.Array
    mocap_quat: jax.Array


class State(NamedTuple):
    data: Data
    obs: Any
    reward: jax.Array
    done: jax.Array


class Count:
    """Counts its steps, each of which pays its number; falls at `falls`. It shows a policy less than it knows."""

    action_size, dt = 1, 0.02
    mj_model = mujoco.MjModel.from_xml_string("<mujoco><worldbody/></mujoco>")

    def __init__(self, falls):
        self.falls = falls

    def reset(self, key):
        return self._at(jnp.float32(0.0), jax.random.uniform(key))

    def step(self, state, action):
        return self._at(state.obs["state"][0] + 1.0, state.obs["state"][1])

    def _at(self, time, start):
        seen = jnp.stack([time, start])
        nothing = jnp.zeros((0, 3))
        data = Data(seen, nothing, jnp.zeros((0, 4)))
        obs = {"state": seen, "privileged_state": jnp.zeros(7)}
        return State(data, obs, time, jnp.where(time >= self.falls, 1.0, 0.0))


def transitions(env, steps):
    begun = episodes.begin(env, 2, jax.random.key(0))

    def step(state, key):
        return episodes.step(env, state, jnp.zeros((2, 1)), key)

    return jax.lax.scan(step, begun, jax.random.split(jax.random.key(1), steps))[1]


def test_a_fall_terminates_and_its_observation_is_kept():
    env = playground.from_playground(Count(falls=3), 100)
    seen = transitions(env, 4)
    assert (env.obs_size, env.action_size) == (2, 1)
    assert seen.terminated[:, 0].tolist() == [False, False, True, False] and not seen.truncated.any()
    assert (seen.next_observation[2, :, 0] == 3).all() and (seen.observation[3, :, 0] == 0).all()
    assert (seen.observation[3, :, 1] != seen.observation[2, :, 1]).all()  # from another start


def test_the_time_limit_truncates():
    seen = transitions(playground.from_playground(Count(falls=1e9), 3), 3)
    assert seen.truncated[:, 0].tolist() == [False, False, True] and not seen.terminated.any()
    assert (seen.next_observation[2, :, 0] == 3).all()


def test_a_repeated_action_adds_rewards_up_to_the_fall():
    env = playground.from_playground(Count(falls=5), 100, action_repeat=4)
    seen = transitions(env, 2)
    assert seen.reward[:, 0].tolist() == [1 + 2 + 3 + 4, 5] and seen.terminated[:, 0].tolist() == [False, True]
    assert (seen.next_observation[1, :, 0] == 5).all() and env.scene.timestep == pytest.approx(0.08)


def test_what_is_missing_is_one_line(monkeypatch):
    monkeypatch.setitem(sys.modules, "mujoco_playground", None)
    with pytest.raises(
        ValueError, match=r"^playground:It needs the package mujoco_playground; pip install 'purerl\[playground\]'$"
    ):
        environments.make("playground:It")


def test_playgrounds_own_cheetah_runs():
    with pytest.raises(ValueError, match="Playground has no task 'CheetaRun'; did you mean CheetahRun"):
        environments.make("playground:CheetaRun")
    with pytest.raises(ValueError, match="leave the backend out"):
        environments.make("playground:CheetahRun", "spring")
    env = environments.make("playground:CheetahRun", episode_length=2)
    assert (env.obs_size, env.action_size, environments.make("playground:CheetahRun").episode_length) == (17, 6, 1000)
    begun = jax.jit(lambda key: episodes.begin(env, 2, key))(jax.random.key(0))
    step = jax.jit(lambda state, action, key: episodes.step(env, state, action, key))
    for i in range(2):
        begun, seen = step(begun, jnp.ones((2, 6)), jax.random.key(i))
    assert seen.truncated.all() and not seen.terminated.any() and np.isfinite(seen.reward).all()
    assert np.abs(seen.next_observation - episodes.observe(env, begun)).max() > 0.1
