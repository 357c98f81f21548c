"""Time rejax: `algo.train`, jitted and mapped over seeds as its README says. Its state is returned and donated.

Several seeds use all cores, as in purerl, with `jax.pmap`, which its README names beside `jax.vmap`.
"""

import time

import jax
import jax.numpy as jnp
import rejax
from flax import struct
from gymnax.environments import environment, spaces

from benchmarks.peers import serve
from benchmarks.peers.seeds import Seeds


@struct.dataclass
class State(environment.EnvState):
    time: int
    position: jax.Array


@struct.dataclass
class Params(environment.EnvParams):
    max_steps_in_episode: int = 1000


class Walk(environment.Environment):
    """The environment of `benchmarks.training.walk`."""

    @property
    def default_params(self):
        return Params()

    def reset_env(self, key, params):
        position = jax.random.normal(key, (17,))
        return position, State(0, position)

    def step_env(self, key, state, action, params):
        position = 0.9 * state.position + 0.1 * jnp.resize(action, (17,))
        time = state.time + 1
        return position, State(time, position), position.sum(), time >= params.max_steps_in_episode, {}

    def observation_space(self, params):
        return spaces.Box(-jnp.inf, jnp.inf, (17,), jnp.float32)

    def action_space(self, params=None):
        return spaces.Box(-1.0, 1.0, (6,), jnp.float32)


def create(job):
    kind = {"td3": rejax.TD3, "sac": rejax.SAC}[job["algo"]]
    activation = {"activation": "relu"}
    networks = {"actor_kwargs": activation, "critic_kwargs": dict(activation)}
    algo = kind.create(
        env=Walk(),
        num_envs=1,
        num_epochs=1,
        buffer_size=job["buffer_size"],
        fill_buffer=job["warmup_steps"],
        batch_size=job["batch_size"],
        total_timesteps=job["steps"],
        eval_freq=job["steps"],
        skip_initial_evaluation=True,
        learning_rate=3e-4,
        polyak=0.995,
        **(networks if job["algo"] == "td3" else {"agent_kwargs": activation}),
    )
    widths = (job["width"], job["width"])
    return algo.replace(
        actor=algo.actor.clone(hidden_layer_sizes=widths),
        critic=algo.critic.clone(hidden_layer_sizes=widths),
        eval_callback=lambda algo, state, key: (),
    )


begun = time.perf_counter()
job = serve.job()
seeds, algo = Seeds(job["num_seeds"]), create(job)
state = seeds.map(algo.init_state)(seeds.keys())
step = seeds.map(lambda state: algo.train(train_state=state)[0], donate_argnums=0)
while int(seeds.first(state.global_step)) <= job["warmup_steps"]:
    state = step(state)


def train():
    global state
    state = jax.block_until_ready(step(state))


def updates():
    return int(seeds.first(state.critic_ts.step))


serve.serve(("rejax", "gymnax", "jax", "jaxlib", "flax", "optax"), begun, train, updates)
