"""Time jaxnasium's SAC: its `train_iteration`, scanned, with one environment step and one update each.

Its `train` makes a new replay buffer in every call, so this program keeps the state itself. It is returned and donated.
It trains one seed.
"""

import time
from functools import partial

import equinox as eqx
import jax
import jax.numpy as jnp
import jaxnasium
import optax
from jaxnasium.algorithms import SAC
from jaxnasium.algorithms.architectures import MLP
from jaxnasium.algorithms.core import TransitionBuffer

from benchmarks.peers import serve
from purerl.cli.startup import use_cores


class State(eqx.Module):
    position: jax.Array
    time: jax.Array


class Walk(jaxnasium.Environment):
    """The environment of `benchmarks.training.walk`."""

    observation_space = jaxnasium.Box(-jnp.inf, jnp.inf, (17,))
    action_space = jaxnasium.Box(-1.0, 1.0, (6,))

    def reset_env(self, key):
        position = jax.random.normal(key, (17,))
        return position, State(position, jnp.int32(0))

    def step_env(self, key, state, action):
        position = 0.9 * state.position + 0.1 * jnp.resize(action, (17,))
        state = State(position, state.time + 1)
        return jaxnasium.TimeStep(position, position.sum(), jnp.bool_(False), state.time >= 1000, {}), state


begun = time.perf_counter()
job = serve.job()
use_cores()  # the same devices as those of purerl
env = jaxnasium.VecEnvWrapper(Walk())
network = {"body": MLP.with_params(hidden_sizes=(job["width"], job["width"]))}
sac = SAC(
    num_envs=1,
    update_every=1,
    critics_num_updates=1,
    batch_size=job["batch_size"],
    replay_buffer_size=job["buffer_size"],
    warmup_steps=job["warmup_steps"],
    learning_rate_actor_start=3e-4,
    learning_rate_alpha_start=3e-4,
    target_entropy_scale_end=None,
    max_grad_norm=None,
    normalize_observations=False,
    actor_kwargs=network,
    critic_kwargs=network,
)


def start(key):
    """Return the state of a seed after the warm-up: its agent, replay buffer, environment, observation and key."""
    key, agent_key, reset_key = jax.random.split(key, 3)
    agent = sac.init_agent(agent_key, env)
    obs, env_state = env.reset(jax.random.split(reset_key, 1))
    rollout, transitions = sac._collect_rollout(agent, (env_state, obs, key), env, length=job["warmup_steps"])
    buffer = TransitionBuffer(job["buffer_size"], job["batch_size"], transitions)
    return agent, buffer.insert(transitions), *rollout


def steps(state):
    """Train a stretch."""
    iteration = partial(sac.train_iteration, env=env)
    return jax.lax.scan(lambda state, i: (iteration(state, i)[0], None), state, jnp.arange(job["steps"]))[0]


state = jax.jit(start)(jax.random.PRNGKey(0))
stretch = jax.jit(steps, donate_argnums=0)


def train():
    global state
    state = jax.block_until_ready(stretch(state))


def updates():
    return int(optax.tree.get_all_with_path(state[0].optimizer_state["critics"], "count")[0][1])


train()  # It turns Python's numbers in the state into arrays. The next call is compiled for these.
serve.serve(("jaxnasium", "equinox", "jax", "jaxlib", "optax"), begun, train, updates)
