"""An environment whose state has leaves of many kinds. Tests change it between a stop and a resume."""

import jax
import jax.numpy as jnp

from purerl.environments.base import Environment, Outcome


def start(key):
    """Return a state with floats of 32, 16 and 8 bits, a bool, a typed key, and the data of a key."""
    return {
        "x": jax.random.uniform(key, (2,)),
        "half": jax.random.uniform(key, (3,)).astype(jnp.bfloat16),
        "eighth": jnp.zeros((), jnp.float8_e4m3fn),
        "flag": jnp.asarray(False),
        "own": key,
        "raw": jax.random.key_data(key),
    }


def same(state):
    return state


def make(change=same, pay=1.0, limit=20):
    """Return the environment. `change` changes the state after a reset, and `pay` scales the reward."""

    def step(state, action):
        x = state["x"] + 0.1 * action[0]
        after = state | {"x": x}
        if "half" in state:
            after["half"] = (state["half"] * 0.9 + x[0].astype(state["half"].dtype)).astype(state["half"].dtype)
        if "eighth" in state:
            after["eighth"] = (state["eighth"].astype(jnp.float32) * 0.5 + x[1]).astype(state["eighth"].dtype)
        noise = 0.0
        if "own" in state:
            after["own"], key = jax.random.split(state["own"])
            noise = jax.random.uniform(key)
        return after, Outcome(jnp.float32(pay) * (noise - jnp.square(x).sum()), jnp.asarray(False), jnp.asarray(False))

    def observe(state):
        parts = [jnp.ravel(state[name]).astype(jnp.float32) for name in ("half", "eighth") if name in state]
        return jnp.pad(jnp.concatenate([state["x"], *parts])[:6], (0, 6))[:6]

    return Environment(lambda key: change(start(key)), step, observe, 6, 1, limit, "changing", False)


task = make()
