"""One step from the same 400 states, contacts included: here, in float32, and in Gymnasium with MuJoCo's C code.

Programs are compiled without LLVM's optimisations: they run once. Whole episodes are in
`benchmarks/gymnasium_parity.py`.
"""

from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from commands import AS_SHIPPED

from purerl.environments import make
from purerl.environments.mujoco import definition, tasks

gymnasium_c = pytest.importorskip("benchmarks.gymnasium_c")

TASKS = ["InvertedPendulum", "InvertedDoublePendulum", "Reacher", "Swimmer", "Hopper", "HalfCheetah", "Walker2d", "Ant"]
TASKS += ["Humanoid", "HumanoidStandup", "Pusher"]
TOUCHES = {"Hopper", "HalfCheetah", "Walker2d", "Ant", "Humanoid", "HumanoidStandup"}
FALLS = {"InvertedPendulum", "InvertedDoublePendulum", "Hopper", "Walker2d", "Ant", "Humanoid"}
OTHER_MODELS = {"Walker2d", "Pusher"}  # In v4. Pusher's does not run in today's MuJoCo.
ON_ONE_MODEL = [name for name in TASKS if name not in OTHER_MODELS]
QUICK = {"InvertedPendulum"}  # Its model compiles fast. Hopper, with contacts, is tested in float64.
FORCES = {348: 270, 376: 292}  # Where the contact forces begin in the observations of humanoids, v5 and v4.


def each(names):
    """The parameters of a test."""
    return [name if name.split("-")[0] in QUICK else pytest.param(name, marks=pytest.mark.slow) for name in names]


def compiled(function, *arguments):
    quick = AS_SHIPPED | {"xla_backend_optimization_level": 0}
    return jax.jit(jax.vmap(function)).lower(*arguments).compile(quick)(*arguments)


def arrays(tree):
    return jax.tree.map(lambda x: jnp.asarray(x, jnp.zeros(()).dtype), tree)


@cache
def steps(name):
    """`(record, ours)`: of all states the observation at the start, the outcome, and what the tasks say of the step."""
    record, env = gymnasium_c.record(name), make(name)
    task, body = tasks.TASKS[name], tasks.load_body(tasks.TASKS[name])
    kind, _ = name.split("-")
    versions = [f"{kind}-v5", f"{kind}-v4"] if kind in ON_ONE_MODEL else [name]

    def step(before, action):
        start = definition.initial_state(task, body, before.qpos, before.qvel)
        state = start._replace(qacc=before.qacc, derived=start.derived | before.derived)
        after, outcome = env.step(state, action)

        def seen(task):
            return task.observe(body, after), *task.reward(body, state, after, action)

        ours = {version: seen(tasks.TASKS[version]) for version in versions}
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


@pytest.mark.parametrize("name", each([*(f"{name}-v5" for name in TASKS), "Walker2d-v4"]))
def test_a_step_is_gymnasiums(name):
    (record, ours), (kind, _) = steps(name), name.split("-")
    observation, terms, terminated = ours[name]
    assert len(observation) >= 400
    error = errors(observation, record.observation)
    assert np.median(error) <= 1e-5 and np.quantile(error, 0.99) <= 1e-3
    assert record.terms.keys() <= terms.keys()
    paid(record, terms)
    np.testing.assert_allclose(ours["outcome"].reward, record.reward, rtol=1e-4, atol=1e-3)
    np.testing.assert_array_equal(np.broadcast_to(terminated, len(error)), record.terminated)
    np.testing.assert_array_equal(ours["outcome"].terminated, record.terminated)
    assert not ours["outcome"].truncated.any()
    assert record.terminated.any() == (kind in FALLS)
    if kind in TOUCHES:
        assert 0.2 < np.mean(record.touching > 0) < 1.0


@pytest.mark.parametrize("name", each(f"{name}-v5" for name in TASKS))
def test_the_first_observation_is_gymnasiums(name):
    record, ours = steps(name)
    assert errors(ours["start"][record.first], record.start[record.first]).max() < 1e-5


@pytest.mark.parametrize("name", each(ON_ONE_MODEL))
def test_a_step_of_v4_is_gymnasiums(name):
    (before, ours), record = steps(f"{name}-v5"), gymnasium_c.record(f"{name}-v4")
    np.testing.assert_array_equal(record.before.qpos, before.before.qpos)  # the states are those of v5
    observation, terms, terminated = ours[f"{name}-v4"]
    error = errors(observation, record.observation)
    assert np.median(error) <= 1e-5 and np.quantile(error, 0.99) <= 1e-3
    paid(record, terms)
    np.testing.assert_array_equal(np.broadcast_to(terminated, len(error)), record.terminated)


@pytest.mark.slow
def test_in_float64_a_step_is_gymnasiums_to_its_last_digits():
    with jax.enable_x64(True):
        task = tasks.TASKS["Hopper-v5"]
        body, record = tasks.load_body(task), gymnasium_c.record("Hopper-v5")

        def step(before, action):
            return definition.step(task, body, definition.initial_state(task, body, before.qpos, before.qvel), action)[
                0
            ].qvel

        qvel = np.asarray(compiled(step, *arrays((record.before, record.action))))
    # Hopper observes velocities, clipped.
    error = np.max(np.abs(np.clip(qvel, -10, 10) - record.observation[:, 5:]), axis=1)
    assert qvel.dtype == np.float64 and np.quantile(error, 0.99) <= 1e-9
