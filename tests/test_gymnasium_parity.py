"""One step from the same 400 states, contacts included: here, in float32, and in Gymnasium with MuJoCo's C code.

Programs are compiled without LLVM's optimisations: they run once. Pusher takes too long to compile for this place;
whole episodes are in `benchmarks/gymnasium_parity.py`.
"""

from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from benchmarks import gymnasium_c
from purerl.environments import gymnasium, make

TASKS = ["InvertedPendulum", "InvertedDoublePendulum", "Reacher", "Swimmer", "Hopper", "HalfCheetah", "Walker2d", "Ant"]
TASKS += ["Humanoid", "HumanoidStandup"]
TOUCHES = {"Hopper", "HalfCheetah", "Walker2d", "Ant", "Humanoid", "HumanoidStandup"}
FALLS = {"InvertedPendulum", "InvertedDoublePendulum", "Hopper", "Walker2d", "Ant", "Humanoid"}
WITHOUT_V4 = {"Walker2d"}  # Walker2d-v4 has another model.
FORCES = {348: 270, 376: 292}  # Where the contact forces begin in the observations of humanoids, v5 and v4.


def compiled(function, *arguments):
    quick = {"xla_backend_optimization_level": 0}
    return jax.jit(jax.vmap(function)).lower(*arguments).compile(quick)(*arguments)


def arrays(tree):
    return jax.tree.map(lambda x: jnp.asarray(x, jnp.zeros(()).dtype), tree)


@cache
def steps(name):
    """`(record, ours)`: of all states the observation at the start, the outcome, and what the tasks say of the step."""
    record, env = gymnasium_c.record(f"{name}-v5"), make(f"{name}-v5")
    task, body = gymnasium.TASKS[f"{name}-v5"], gymnasium.load(gymnasium.TASKS[f"{name}-v5"])
    versions = [version for version in ("v5", "v4") if version == "v5" or name not in WITHOUT_V4]
    low, high = body.model.actuator_ctrlrange.T

    def step(before, action):
        start = gymnasium.begin(task, body, before.qpos, before.qvel)
        state = start._replace(qacc=before.qacc, derived=start.derived | before.derived)
        after, outcome = env.step(state, 2 * (action - low) / (high - low) - 1)

        def seen(task):
            return task.observe(body, after), *task.reward(body, state, after, action)

        ours = {version: seen(gymnasium.TASKS[f"{name}-{version}"]) for version in versions}
        return ours | {"start": env.observe(start), "outcome": outcome, "qvel": after.qvel}

    return record, jax.tree.map(np.asarray, compiled(step, *arrays((record.before, record.action))))


def errors(ours, theirs):
    """`[steps]`, the greatest of each observation; contact forces, thousands of N, by the greatest of them."""
    error, forces = np.abs(ours - theirs), slice(FORCES.get(theirs.shape[1], theirs.shape[1]), None)
    error[:, forces] /= np.max(np.abs(theirs[:, forces]), axis=1, keepdims=True, initial=1.0)
    return np.max(error, axis=1)


def paid(record, terms):
    """Asserts that every term that Gymnasium names is ours, and their sum its reward."""
    for term in record.terms.keys() & terms.keys():
        np.testing.assert_allclose(terms[term], record.terms[term], rtol=1e-4, atol=1e-3, err_msg=term)
    np.testing.assert_allclose(sum(terms.values()), record.reward, rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("name", TASKS)
def test_a_step_is_gymnasiums(name):
    record, ours = steps(name)
    observation, terms, terminated = ours["v5"]
    assert len(observation) >= 400
    error = errors(observation, record.observation)
    assert np.median(error) <= 1e-5 and np.quantile(error, 0.99) <= 1e-3
    assert record.terms.keys() <= terms.keys()
    paid(record, terms)
    np.testing.assert_allclose(ours["outcome"].reward, record.reward, rtol=1e-4, atol=1e-3)
    np.testing.assert_array_equal(np.broadcast_to(terminated, len(error)), record.terminated)
    np.testing.assert_array_equal(ours["outcome"].terminated, record.terminated)
    assert not ours["outcome"].truncated.any()
    assert record.terminated.any() == (name in FALLS)
    if name in TOUCHES:
        assert 0.2 < np.mean(record.touching > 0) < 1.0


@pytest.mark.parametrize("name", TASKS)
def test_the_first_observation_is_gymnasiums(name):
    record, ours = steps(name)
    assert errors(ours["start"][record.first], record.start[record.first]).max() < 1e-5


@pytest.mark.parametrize("name", [name for name in TASKS if name not in WITHOUT_V4])
def test_a_step_of_v4_is_gymnasiums(name):
    (_, ours), record = steps(name), gymnasium_c.record(f"{name}-v4")
    np.testing.assert_array_equal(record.before.qpos, steps(name)[0].before.qpos)  # the states are those of v5
    observation, terms, terminated = ours["v4"]
    error = errors(observation, record.observation)
    assert np.median(error) <= 1e-5 and np.quantile(error, 0.99) <= 1e-3
    paid(record, terms)
    np.testing.assert_array_equal(np.broadcast_to(terminated, len(error)), record.terminated)


def test_in_float64_a_step_is_gymnasiums_to_its_last_digits():
    with jax.enable_x64(True):
        task = gymnasium.TASKS["Hopper-v5"]
        body, record = gymnasium.load(task), gymnasium_c.record("Hopper-v5")

        def step(before, action):
            return gymnasium.step(task, body, gymnasium.begin(task, body, before.qpos, before.qvel), action)[0].qvel

        qvel = np.asarray(compiled(step, *arrays((record.before, record.action))))
    # Hopper observes velocities, clipped.
    error = np.max(np.abs(np.clip(qvel, -10, 10) - record.observation[:, 5:]), axis=1)
    assert qvel.dtype == np.float64 and np.quantile(error, 0.99) <= 1e-9
