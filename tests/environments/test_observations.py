"""Observations that are dicts: what the actor reads of them, what only the critic reads, and what is refused."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from brax.envs import Env, State
from toys import hidden_context

import purerl
from purerl import environments
from purerl.environments import gymnax, observations, playground
from purerl.environments.base import Environment, Outcome
from purerl.runs import fingerprint

PARTS = {"speed": jnp.full(2, 2.0), "place": jnp.full(1, 1.0), "privileged_state": jnp.full(3, 9.0)}


def showing(parts, obs_size=6, **fields):
    """Return an environment whose observation is `parts`, whatever happens."""

    def step(state, action):
        return state + action, Outcome(state.sum(), jnp.bool_(False), jnp.bool_(False))

    env = Environment(lambda key: jax.random.normal(key, (1,)), step, lambda state: parts, obs_size, 1, 5, "shown")
    return env._replace(**fields)


def observed(env):
    return np.asarray(env.observe(env.reset(jax.random.key(0)))).tolist()


def test_names_are_sorted_and_what_only_the_critic_reads_comes_last():
    env = environments.make(showing(PARTS))
    assert (env.obs_size, env.actor_obs_size) == (6, 3) and observed(env) == [1, 2, 2, 9, 9, 9]
    assert environments.make(env) == env  # Nothing is joined twice.
    every = environments.make(showing({name: PARTS[name] for name in ("speed", "place")}, 3))
    assert every.actor_obs_size is None and observed(every) == [1, 2, 2]


@pytest.mark.parametrize(
    ("parts", "changes", "words"),
    [
        (PARTS, {"obs_size": 3}, "has 6 numbers (place 1, speed 2, privileged_state 3); obs_size is 3"),
        (PARTS, {"actor_obs_size": 2}, "actor_obs_size is 2, but the entries of an observation are place 1, speed 2, "),
        (
            {"x": PARTS},
            {},
            "the entry 'x' of an observation is a dict; it must be a flat vector, because dicts may not",
        ),
        ({"x": jnp.zeros((8, 8, 3))}, {}, "the entry 'x' of an observation: it is float32[8, 8, 3]; it must be a flat"),
        ({"x": jnp.zeros(6, int)}, {}, "the entry 'x' of an observation: it is int32[6]; it must be a flat vector"),
        ({"x": 1.0}, {}, "the entry 'x' of an observation"),
        ({"privileged_state": jnp.zeros(6)}, {}, "the actor needs one besides 'privileged_state'"),
        ({}, {}, "the actor needs one besides 'privileged_state'"),
        ({1: jnp.zeros(6)}, {}, "has the entry 1; names of entries must be text"),
        (jnp.zeros(6), {"actor_obs_size": 7}, "actor_obs_size is 7; it must be at most obs_size, 6"),
        (jnp.zeros(6), {"actor_obs_size": 0}, "actor_obs_size is 0; it must be a positive int"),
        (jnp.zeros(6), {"actor_obs_size": True}, "actor_obs_size is True; it must be a positive int"),
    ],
)
def test_what_is_wrong_is_one_line(parts, changes, words):
    with pytest.raises(ValueError) as error:
        environments.make(showing(parts, **changes))
    assert words in str(error.value) and "\n" not in str(error.value) and str(error.value).startswith("shown: ")


def test_a_vector_may_be_divided_by_a_number():
    assert environments.make(showing(jnp.arange(6.0), actor_obs_size=np.int64(2))).actor_obs_size == 2
    assert environments.make(showing(jnp.arange(6.0), actor_obs_size=6)).actor_obs_size is None


class Brax(Env):
    observation_size, action_size, backend = {"speed": (2,), "place": 1, "privileged_state": 3}, 1, None

    def reset(self, rng):
        return State(None, dict(PARTS), jnp.zeros(()), jnp.zeros(()))

    def step(self, state, action):
        return state.replace(reward=state.reward + action[0])


class Gymnax:
    def reset_env(self, key, params):
        return dict(PARTS) | {"place": jnp.ones((1, 1))}, jnp.zeros(())

    def step_env(self, key, state, action, params):
        return self.reset_env(key, params)[0], state + action[0], state, jnp.bool_(False), {}

    def action_space(self, params):
        return type("Box", (), {"low": -1.0, "high": 1.0, "shape": (1,)})()


def test_environments_in_braxs_and_gymnaxs_style_may_have_them():
    for env in (environments.make(Brax()), gymnax.from_gymnax(Gymnax())):
        assert (env.obs_size, env.actor_obs_size) == (6, 3) and observed(env) == [1, 2, 2, 9, 9, 9]
    with pytest.raises(ValueError, match="observation_size is 4 but the observation after reset has 6 numbers"):
        environments.make(type("Wrong", (Brax,), {"observation_size": 4})())


@dataclasses.dataclass
class Task:
    """A stand-in of Playground's `MjxEnv`, whose observation is `parts`."""

    parts: dict
    action_size, dt, mj_model = 1, 0.02, None

    def reset(self, key):
        return State(None, dict(self.parts), jnp.zeros(()), jnp.zeros(()))

    def step(self, state, action):
        return state.replace(reward=state.reward + action[0])


def test_of_playgrounds_observations_the_actor_reads_the_state():
    env = playground.from_playground(Task(PARTS | {"state": jnp.full(2, 5.0)}), 10)
    assert (env.obs_size, env.actor_obs_size) == (5, 2) and observed(env) == [5, 5, 9, 9, 9]
    env = playground.from_playground(Task(PARTS), 10)
    assert (env.obs_size, env.actor_obs_size) == (6, 3) and observed(env) == [1, 2, 2, 9, 9, 9]
    assert observations.actor_size({"state": jnp.zeros(2), "other": jnp.zeros(1)}, "state") is None


def test_what_the_actor_reads_is_a_part_of_the_fingerprint():
    env = environments.make(showing(jnp.arange(6.0)))
    less = env._replace(actor_obs_size=2)
    whole, part = fingerprint.of(env), fingerprint.of(less)
    assert "actor_obs_size" not in whole and fingerprint.difference(whole, whole, "then") == ""
    assert "actor_obs_size (was all, is 2) changed" in fingerprint.difference(whole, part, "then")
    assert "actor_obs_size (was 2, is all) changed" in fingerprint.difference(part, whole, "then")


def test_gymnasium_sees_what_the_actor_reads():
    pytest.importorskip("gymnasium")
    envs = purerl.VectorEnv(hidden_context(2.0, episode_length=2), num_envs=3)
    seen, infos = envs.reset(seed=0)
    context = infos["privileged_state"]
    assert envs.single_observation_space.shape == (2,) and seen.shape == (3, 2) and context.shape == (3, 1)
    envs.step(np.zeros((3, 1)))
    _, _, terminated, _, infos = envs.step(np.zeros((3, 1)))
    assert terminated.all() and infos["final_obs"][0].shape == (2,)
    assert (infos["final_info"]["privileged_state"] == context).all()
    assert infos["privileged_state"].shape == (3, 1)
