"""Actions that arrive late, for any environment."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Int32

from purerl import environments
from purerl.environments.base import Environment, Outcome, State, declared, shown, strong
from purerl.types import Array, Key

Range = tuple[int, int]


class Delayed(NamedTuple):
    """The state of an environment whose actions arrive late.

    Attributes:
        state: the state of the environment itself.
        waiting: the last actions that were sent, the newest first, `[high, action_size]`.
        delay: how late actions arrive in this episode [steps], `[]`.
    """

    state: State
    waiting: Float[Array, "high A"]
    delay: Int32[Array, ""]


def delayed(env: Environment | Any, steps: int | Range | Any) -> Environment:
    """Return `env`, whose actions arrive some environment steps later.

    `env` is an `Environment`, or anything that `environments.make` takes. `steps` is the delay, or a pair (low, high):
    then the delay of each episode is drawn uniformly from low to high, both included. Until the first action arrives,
    the environment gets the action in the middle of `action_range`. Raises ValueError if `steps` is neither.
    """
    env = declared(env) if isinstance(env, Environment) else environments.make(env)
    low, high = _range(env, steps)
    least, greatest = env.action_range
    middle = jnp.broadcast_to(jnp.asarray(0.5 * least + 0.5 * greatest, jnp.float32), (high, env.action_size))

    def reset(key: Key) -> Delayed:
        delay_key, key = jax.random.split(key)
        return Delayed(env.reset(key), middle, jax.random.randint(delay_key, (), low, high + 1, jnp.int32))

    def step(state: Delayed, action: Float[Array, " A"]) -> tuple[Delayed, Outcome]:
        sent = jnp.concatenate([action[None].astype(jnp.float32), state.waiting])
        after, outcome = env.step(state.state, sent[state.delay])
        return strong(Delayed(after, sent[:high], state.delay)), outcome

    scene = env.scene
    if scene is not None:
        pose = scene.pose
        scene = scene._replace(pose=lambda state: pose(state.state))
    return env._replace(reset=reset, step=step, observe=lambda state: env.observe(state.state), scene=scene)


def _range(env: Environment, steps: Any) -> Range:
    pair = steps if isinstance(steps, tuple | list) else (steps, steps)
    whole = all(isinstance(x, int | np.integer) and not isinstance(x, bool) for x in pair)
    if len(pair) != 2 or not whole or not 0 <= pair[0] <= pair[1] <= 1000 or pair[1] == 0:
        allowed = "a number of steps from 1 to 1000, or a pair (low, high) with low from 0 to high"
        raise ValueError(f"{getattr(env, 'name', 'delayed')}: a delay is {allowed}, not {shown(steps)}")
    return int(pair[0]), int(pair[1])
