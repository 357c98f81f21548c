"""Time skrl's TD3 and SAC in JAX, by its `SequentialTrainer`, with its environment in Python."""

import time

import flax.linen as nn
import gymnasium
import jax.numpy as jnp
import optax
from skrl.agents.jax.sac import SAC
from skrl.agents.jax.td3 import TD3
from skrl.envs.wrappers.jax import wrap_env
from skrl.memories.jax import RandomMemory
from skrl.models.jax import DeterministicMixin, GaussianMixin, Model
from skrl.resources.noises.jax import GaussianNoise
from skrl.trainers.jax import SequentialTrainer

from benchmarks.peers import serve
from benchmarks.peers.gymnasium_walk import Walk

CRITICS = ("critic_1", "critic_2", "target_critic_1", "target_critic_2")


class Actor(DeterministicMixin, Model):
    """The policy of TD3."""

    def __init__(self, **spaces):
        Model.__init__(self, **spaces)
        DeterministicMixin.__init__(self)

    @nn.compact
    def __call__(self, inputs, role):
        return jnp.tanh(nn.Dense(6)(hidden(inputs["observations"]))), {}


class GaussianActor(GaussianMixin, Model):
    """The policy of SAC."""

    def __init__(self, **spaces):
        Model.__init__(self, **spaces)
        GaussianMixin.__init__(self, clip_actions=True)

    @nn.compact
    def __call__(self, inputs, role):
        x = hidden(inputs["observations"])
        return jnp.tanh(nn.Dense(6)(x)), {"log_std": nn.Dense(6)(x)}


class Critic(DeterministicMixin, Model):
    """A critic."""

    def __init__(self, **spaces):
        Model.__init__(self, **spaces)
        DeterministicMixin.__init__(self)

    @nn.compact
    def __call__(self, inputs, role):
        return nn.Dense(1)(hidden(jnp.concatenate([inputs["observations"], inputs["taken_actions"]], -1))), {}


def hidden(x):
    """Return the second hidden layer. Called within a module."""
    for _ in range(2):
        x = nn.relu(nn.Dense(job["width"])(x))
    return x


def models(algo, spaces):
    """Return the networks of an agent, and their targets."""
    actors = ("policy",) if algo == "sac" else ("policy", "target_policy")
    found = {name: (GaussianActor if algo == "sac" else Actor)(**spaces) for name in actors}
    found |= {name: Critic(**spaces) for name in CRITICS}
    for name, model in found.items():
        model.init_state_dict(role=name)
    return found


def settings(algo):
    """Return the configuration of an agent."""
    config = {
        "batch_size": job["batch_size"],
        "learning_rate": 3e-4,
        "random_timesteps": job["warmup_steps"],
        "learning_starts": job["warmup_steps"],
        "experiment": {"write_interval": 0, "checkpoint_interval": 0},
    }
    if algo == "td3":
        config |= {
            "exploration_noise": GaussianNoise,
            "exploration_noise_kwargs": {"mean": 0.0, "std": 0.1},
            "smooth_regularization_noise": GaussianNoise,
            "smooth_regularization_noise_kwargs": {"mean": 0.0, "std": 0.2},
        }
    return config


begun = time.perf_counter()
job = serve.job()
env = wrap_env(gymnasium.wrappers.TimeLimit(Walk(), 1000))
spaces = {"observation_space": env.observation_space, "action_space": env.action_space}
agent = {"td3": TD3, "sac": SAC}[job["algo"]](
    models=models(job["algo"], spaces),
    memory=RandomMemory(memory_size=job["buffer_size"], replacement=True),
    cfg=settings(job["algo"]),
    **spaces,
)
quiet = {"headless": True, "disable_progressbar": True}
trainer = SequentialTrainer(env=env, agents=agent, cfg={"timesteps": job["warmup_steps"] + 4, **quiet})
trainer.train()
trainer.cfg.timesteps = job["steps"]
agent.cfg.random_timesteps = agent.cfg.learning_starts = 0  # Each call of `train` counts from 0.


def updates():
    return int(optax.tree.get(agent.critic_1_optimizer.state, "count"))


serve.serve(("skrl", "jax", "jaxlib", "flax", "optax"), begun, trainer.train, updates)
