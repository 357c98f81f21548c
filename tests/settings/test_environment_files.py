"""Every file of envs/ names an environment that compiles and steps, as the command line makes it."""

import jax
import jax.numpy as jnp
import pytest

from purerl import environments
from purerl.settings import config

gymnasium = pytest.importorskip("gymnasium")

SLOW = {"ant", "halfcheetah", "humanoid", "humanoidstandup", "pusher"}  # Too long to compile here; traced instead.
ELSEWHERE = {name for name in config.environment_files() if name.endswith("-v5")}  # in test_parity.py


QUICK = {"fast", "inverted_pendulum", "hopper", "ant"}
ALL = [name for name in config.environment_files() if name not in ELSEWHERE]


def rolled(env):
    """A function that resets and takes one step with no action."""

    def roll(key):
        state, outcome = env.step(env.reset(key), jnp.zeros(env.action_size))
        return env.observe(state), outcome

    return roll


@pytest.mark.parametrize(
    "name", [name if name in QUICK else pytest.param(name, marks=pytest.mark.slow) for name in ALL]
)
def test_the_environment_of_every_file_steps(name):
    job = config.resolve({"env": name}).job
    env = environments.make(job.env, job.backend, job.episode_length)
    key = jax.random.key(0)
    if name in SLOW:
        observation, outcome = jax.eval_shape(rolled(env), key)
    else:
        quick = {"xla_backend_optimization_level": 0}
        observation, outcome = jax.jit(rolled(env)).lower(key).compile(quick)(key)
        assert jnp.isfinite(observation).all() and jnp.isfinite(outcome.reward)
        assert not outcome.terminated
    assert observation.shape == (env.obs_size,) and outcome.reward.dtype == jnp.float32


@pytest.mark.parametrize("name", [name for name in config.environment_files() if name.endswith(("-v5", "-v1"))])
def test_a_file_keeps_gymnasiums_time_limit(name):
    job = config.resolve({"env": name}).job
    assert job.env == name
    assert job.episode_length in (None, gymnasium.spec(name).max_episode_steps)  # None is the task's own.
