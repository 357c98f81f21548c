"""Gymnasium's tasks by name: what they are made of, what is refused. (Their numbers: test_parity.py.)"""

import importlib.util

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from folders import ROOT
from scipy.stats import ks_2samp

from purerl import train
from purerl.environments import make
from purerl.environments.mujoco import tasks

gymnasium_c = pytest.importorskip("benchmarks.gymnasium_c")
gymnasium_parity = pytest.importorskip("benchmarks.gymnasium_parity")


def refused(*arguments):
    with pytest.raises(ValueError) as error:
        make(*arguments)
    assert "\n" not in str(error.value)
    return str(error.value)


@pytest.mark.parametrize("name", ["Reacher-v5", "Reacher-v4", "Hopper-v5", "Ant-v4"])
def test_sizes_and_time_limit_are_gymnasiums(name):
    env, there = make(name), gymnasium_c.make(name)
    assert (env.obs_size,) == there.observation_space.shape
    assert (env.action_size,) == there.action_space.shape
    assert env.episode_length == there.spec.max_episode_steps
    assert not env.truncates
    assert make(name, episode_length=7).episode_length == 7


def test_pendulum_is_gymnasiums_step_by_step():
    env, there = make("Pendulum-v1"), gymnasium_c.make("Pendulum-v1")
    assert (env.obs_size, env.action_size, env.episode_length) == (3, 1, there.spec.max_episode_steps)
    step, random = jax.jit(env.step), np.random.default_rng(0)
    for episode in range(4):
        observation, _ = there.reset(seed=episode)
        angle, speed = there.unwrapped.state
        state = env.reset(jax.random.key(episode))._replace(angle=jnp.float32(angle), speed=jnp.float32(speed))
        np.testing.assert_allclose(env.observe(state), observation, atol=1e-6)
        for _ in range(50):
            there.unwrapped.state = np.array([state.angle, state.speed], np.float64)
            action = random.uniform(-2, 2, 1).astype(np.float32)
            observation, reward, terminated, truncated, _ = there.step(action)
            state, outcome = step(state, action)
            np.testing.assert_allclose(env.observe(state), observation, atol=1e-5)
            np.testing.assert_allclose(outcome.reward, reward, rtol=1e-5, atol=1e-5)
            assert (outcome.terminated, outcome.truncated) == (terminated, truncated) == (False, False)


def test_pendulum_starts_at_any_angle_with_little_speed():
    states = jax.vmap(make("Pendulum-v1").reset)(jax.random.split(jax.random.key(0), 1000))
    assert jnp.abs(states.angle).max() <= jnp.pi and jnp.abs(states.angle).max() > 3.1
    assert jnp.abs(states.speed).max() <= 1 and jnp.abs(states.speed).max() > 0.98
    assert abs(states.angle.mean()) < 0.2 and abs(states.speed.mean()) < 0.06


@pytest.mark.parametrize("name", [name for name in tasks.TASKS if name.endswith("-v5")])
def test_episodes_start_as_gymnasiums_do(name):
    starts = gymnasium_parity.starts_here(name, 500), gymnasium_parity.starts_there(name, 300)
    assert gymnasium_parity.p_of_starts(*starts) > 0.01


@pytest.mark.parametrize("policy", gymnasium_parity.POLICIES)
def test_returns_are_distributed_as_gymnasiums(policy):
    """Of all tasks: `python -m benchmarks.gymnasium_parity`."""
    name = "InvertedDoublePendulum-v5"
    ours = gymnasium_parity.returns_here(name, policy, 100)
    assert ks_2samp(ours, gymnasium_parity.returns_there(name, policy, 100)).pvalue > 0.01


@pytest.mark.parametrize(
    "name, answer",
    [
        ("HalfCheeta-v5", "unknown Gymnasium task 'HalfCheeta-v5'; did you mean HalfCheetah-v5"),
        ("HalfCheetah-v3", "did you mean HalfCheetah-v5"),
        ("Pendulum-v2", "did you mean Pendulum-v1"),
        ("Pusher-v4", "use Pusher-v5"),
    ],
)
def test_an_unknown_task_is_answered_with_those_there_are(name, answer):
    assert answer in refused(name)


@pytest.mark.parametrize("name, answer", [("Hopper-v5", "known: mjx"), ("Pendulum-v1", "leave the backend out")])
def test_a_backend_of_brax_is_refused(name, answer):
    assert answer in refused(name, "spring")


def test_without_the_extra_the_command_that_installs_it_is_named(monkeypatch, capsys):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert f"pip install -e '{ROOT}[gymnasium]'" in refused("Hopper-v5")
    with pytest.raises(SystemExit):
        train.main(["--env", "Hopper-v5", "--plan"])
    assert capsys.readouterr().err.count("\n") == 1
