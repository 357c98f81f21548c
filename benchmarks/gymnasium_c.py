"""Record what Gymnasium itself does, with MuJoCo's C code, for the tests."""

import warnings
from typing import NamedTuple

import gymnasium
import mujoco
import numpy as np

from purerl.environments.mujoco import dynamics

READ = {  # values that the reward of the next step needs from the last step
    "torso": lambda env: env.data.body(1).xpos,
    "centre": lambda env: env.model.body_mass @ env.data.xipos / env.model.body_mass.sum(),
    "to_goal": lambda env: env.get_body_com("fingertip") - env.get_body_com("target"),
}


class Record(NamedTuple):
    """One step from each of many states, `[steps, ...]` everywhere.

    Attributes:
        before: `dynamics.State`; `derived` holds only what `READ` names.
        action: in the actuators' own range.
        observation, reward, terminated, terms: the results; `terms` by name.
        touching: the number of contacts at the end.
        start: the observation after the reset or the previous step.
        first: whether it was the first step of an episode.
    """

    before: dynamics.State
    action: np.ndarray
    observation: np.ndarray
    reward: np.ndarray
    terminated: np.ndarray
    terms: dict[str, np.ndarray]
    touching: np.ndarray
    start: np.ndarray
    first: np.ndarray


def make(name):
    """Make a Gymnasium environment. Humanoid gets the Newton solver.

    Its own solver, PGS, stops before it has converged, with an error of 1e-4 in the forces.
    """
    with warnings.catch_warnings(category=DeprecationWarning, action="ignore"):  # the warning that there is a v5
        env = gymnasium.make(name, disable_env_checker=True)
    if "Humanoid" in name:
        env.unwrapped.model.opt.solver = mujoco.mjtSolver.mjSOL_NEWTON
    return env


def record(name, episodes=8, steps=50, seed=0):
    """Record steps with random actions, uniform in their range.

    Episodes continue after they should have ended, which gives more contacts and more falls.
    """
    env = make(name).unwrapped
    random, rows = np.random.default_rng(seed), []
    for episode in range(episodes):
        start, _ = env.reset(seed=1000 * seed + episode)
        for step in range(steps):
            data = env.data
            derived = {key: read(env) for key, read in READ.items() if _has(env, key)}
            before = (data.qpos, data.qvel, data.qacc_warmstart, derived)
            before = dynamics.State(*(np.array(x) for x in before[:3]), {k: np.array(x) for k, x in derived.items()})
            action = random.uniform(env.action_space.low, env.action_space.high).astype(np.float32)
            observation, reward, terminated, _, info = env.step(action)
            terms = {key: value for key, value in info.items() if key.startswith("reward_") or key.endswith("_penalty")}
            rows.append((before, action, observation, reward, terminated, terms, data.ncon, start, step == 0))
            start = observation
    return Record(*(_stack([row[i] for row in rows]) for i in range(len(rows[0]))))


def _has(env, key):
    kind = type(env.unwrapped).__name__
    return {"torso": "Ant", "centre": "Humanoid", "to_goal": "Reacher"}[key] in kind


def _stack(rows):
    if isinstance(rows[0], dict):
        return {key: _stack([row[key] for row in rows]) for key in rows[0]}
    if isinstance(rows[0], tuple):
        return type(rows[0])(*(_stack(list(column)) for column in zip(*rows, strict=True)))
    return np.array(rows)
