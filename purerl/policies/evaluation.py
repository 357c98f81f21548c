"""Evaluate trained policies over whole episodes, in purerl's environment and in Gymnasium's of the same name."""

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float

from purerl.errors import attempt, closest, require
from purerl.policies import acting
from purerl.policies.kept import Policies
from purerl.policies.layers import Nested
from purerl.runs.clock import Pace

if TYPE_CHECKING:
    from gymnasium.vector import VectorEnv

    from purerl.environments.base import Environment
    from purerl.environments.episodes import Play
    from purerl.types import Array, Key


def environment(kept: Policies, name: str | None) -> "Environment":
    """Return the environment for the evaluation. Raises ValueError if its sizes are not those of the policies."""
    env = acting.environment(kept.settings, name)
    if name not in (None, kept.settings.job.env):
        acting.check_sizes(kept, env, f"leave out --env {name}")
    return env


def returns(
    env: "Environment", kept: Policies, chosen: Sequence[int], count: int, in_gymnasium: bool = False
) -> dict[str, Float[np.ndarray, "policies count"]]:
    """Return `{place: returns [policies, count]}` of the policies `chosen`.

    The places are "purerl" and, if `in_gymnasium` is True, "Gymnasium". Raises ValueError if the environment has other
    sizes than in training, or if Gymnasium cannot make it.
    """
    kept = replace(kept, action_range=env.action_range)
    envs = gymnasium_envs(env, count) if in_gymnasium else None
    acting.check_sizes(kept, env, "the environment has changed since the training")
    found = {"purerl": returns_here(env, kept, chosen, count)}
    if envs is not None:
        found["Gymnasium"] = np.stack([returns_there(envs, kept, index) for index in chosen])
    return found


def returns_here(
    env: "Environment", kept: Policies, chosen: Sequence[int], count: int
) -> Float[np.ndarray, "policies count"]:
    """Return the returns `[policies, count]`. All policies start from the same random starts."""
    import jax

    from purerl.environments import episodes
    from purerl.runs.playing import play_out

    act, policy = acting.act(kept), acting.one(kept, np.array(chosen))

    @jax.jit
    @partial(jax.vmap, in_axes=(0, None))
    def begin(policy: tuple[Nested, Nested], key: "Key") -> "Play":
        return episodes.begin_play(episodes.starts(env, count, key))

    @jax.jit
    @partial(jax.vmap, in_axes=(0, 0, None))
    def play_on(policy: tuple[Nested, Nested], play: "Play", turns: "Array") -> "Play":
        return episodes.play_on(env, partial(act, *policy), play, turns, env.episode_length)

    return np.asarray(play_out(begin(policy, jax.random.key(0)), partial(play_on, policy), Pace()).returns)


def gymnasium_envs(env: "Environment", count: int) -> "VectorEnv[Any, Any, Any]":
    """Return `count` copies of Gymnasium's environment of the same name, with the same time limit.

    Raises ValueError if Gymnasium has no such environment, or cannot make it.
    """
    gymnasium = require("gymnasium", "gymnasium", "--in gymnasium")
    if env.name not in gymnasium.registry:
        known = tuple(name for name in gymnasium.registry if name.endswith(("-v4", "-v5", "Pendulum-v1")))
        raise ValueError(f"Gymnasium has no {env.name!r}; choose another with --env{closest(env.name, known)}")
    make = partial(gymnasium.make, env.name, max_episode_steps=env.episode_length)
    return attempt(f"gymnasium.make({env.name!r})", lambda: gymnasium.vector.SyncVectorEnv([make] * count))


def returns_there(envs: "VectorEnv[Any, Any, Any]", kept: Policies, index: int) -> Float[np.ndarray, " count"]:
    """Return the returns `[count]` of one policy in the copies `envs`, each from its own random start."""
    policy, total, alive = kept.function(index), np.zeros(envs.num_envs), np.ones(envs.num_envs, bool)
    observation, _ = envs.reset(seed=0)
    while alive.any():
        action = policy(observation[..., : kept.obs_size])
        observation, reward, terminated, truncated, _ = envs.step(action)
        total += np.where(alive, reward, 0.0)
        alive &= ~(terminated | truncated)
    return total
