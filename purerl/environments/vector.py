"""purerl's environments as a `gymnasium.vector.VectorEnv`. Needs the extra `gymnasium`."""

from functools import partial
from typing import Any

import jax
import numpy as np
from jaxtyping import Bool, Float, Float32, Float64

from purerl import environments
from purerl.environments import Length, base, episodes
from purerl.environments.observations import PRIVILEGED
from purerl.errors import require
from purerl.types import Array, Transition, actor_obs_size

gymnasium = require("gymnasium", "gymnasium", "purerl.VectorEnv")


class VectorEnv(gymnasium.vector.VectorEnv):
    """`num_envs` copies of an environment as one compiled program.

    `env` is an `Environment`, or anything that `environments.make` accepts. Actions are in the environment's units.
    When an episode ends, a new one starts in the same step. The true last observation is in `infos["final_obs"]`, for
    the copies that `infos["_final_obs"]` marks. `seed` determines all starts. Seed and actions together determine all
    results.

    If the critic reads more than the actor, observations are what the actor reads. `infos["privileged_state"]` is what
    only the critic reads, `[num_envs, n]`. For the last observations it is in `infos["final_info"]`, and zero where no
    episode ended.
    """

    metadata = {"autoreset_mode": gymnasium.vector.AutoresetMode.SAME_STEP, "render_modes": []}  # noqa: RUF012

    def __init__(
        self, env: Any, num_envs: int | Any = 1, backend: str | None = None, episode_length: Length = None
    ) -> None:
        self.env = env = environments.make(env, backend, episode_length)
        self.num_envs = num_envs = base.whole(env.name, "num_envs", num_envs)
        low, high = (np.broadcast_to(np.asarray(x, np.float32), env.action_size) for x in env.action_range)
        self.single_action_space = gymnasium.spaces.Box(low, high, dtype=np.float32)
        self._seen = actor_obs_size(env)
        self.single_observation_space = gymnasium.spaces.Box(-np.inf, np.inf, (self._seen,), np.float32)
        self.action_space = gymnasium.vector.utils.batch_space(self.single_action_space, num_envs)
        self.observation_space = gymnasium.vector.utils.batch_space(self.single_observation_space, num_envs)
        self._begin = jax.jit(partial(episodes.begin, env, num_envs))
        self._observe = jax.jit(partial(episodes.observe, env))
        self._draw = jax.jit(partial(episodes.draw, env))
        self._step = jax.jit(self._advance)
        self._episodes = None

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Float32[np.ndarray, "E obs"], dict[str, Any]]:
        if options:
            raise ValueError(f"{self.env.name} takes no reset options, but reset was called with {options}")
        super().reset(seed=seed)
        self._starts = jax.random.key(self.np_random.integers(2**32))  # the key of all starts until the next reset
        self._episodes = self._begin(self._starts)
        return self._split(np.array(self._observe(self._episodes)))

    def step(
        self, actions: Any
    ) -> tuple[
        Float32[np.ndarray, "E obs"],
        Float64[np.ndarray, " E"],
        Bool[np.ndarray, " E"],
        Bool[np.ndarray, " E"],
        dict[str, Any],
    ]:
        if self._episodes is None:
            raise gymnasium.error.ResetNeeded("call reset() before step()")
        actions = base.actions_of(self.env, self.num_envs, actions)
        if not episodes.holds(self._episodes, self.num_envs):
            self._episodes = self._draw(self._episodes, self._starts)
        self._episodes, observation, transition = self._step(self._episodes, actions)
        terminated, truncated = np.array(transition.terminated), np.array(transition.truncated)
        over = terminated | truncated
        observation, infos = self._split(np.array(observation))
        if over.any():
            infos |= self._last(np.array(transition.next_observation), over)
        return observation, np.array(transition.reward, np.float64), terminated, truncated, infos

    def _split(
        self, whole: Float32[np.ndarray, "E obs"]
    ) -> tuple[Float32[np.ndarray, "E seen"], dict[str, Float32[np.ndarray, "E privileged"]]]:
        """Return `(what the actor reads, infos)` of whole observations."""
        if self._seen == self.env.obs_size:
            return whole, {}
        return whole[:, : self._seen], {PRIVILEGED: whole[:, self._seen :]}

    def _last(self, whole: Float32[np.ndarray, "E obs"], over: Bool[np.ndarray, " E"]) -> dict[str, Any]:
        """Return the infos about the last observations of the episodes that are `over`."""
        seen, info = self._split(whole)
        last = np.full(self.num_envs, None, object)
        for i in np.flatnonzero(over):
            last[i] = np.array(seen[i])
        infos = {"final_obs": last, "_final_obs": over}
        if info:
            kept = np.where(over[:, None], info[PRIVILEGED], np.float32(0.0))
            infos |= {"final_info": {PRIVILEGED: kept, f"_{PRIVILEGED}": over}, "_final_info": over}
        return infos

    def _advance(
        self, state: episodes.Episodes, actions: Float[Array, "E A"]
    ) -> tuple[episodes.Episodes, Float[Array, "E obs"], Transition]:
        unscaled = self.env._replace(action_range=(-1.0, 1.0))
        state, transition = episodes.step(unscaled, state, actions)
        return state, episodes.observe(self.env, state), transition
