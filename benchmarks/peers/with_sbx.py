"""Time SBX: `model.learn`, with its environment in Python, its replay buffer in NumPy and its updates in JAX."""

import time

import gymnasium
import numpy as np
import sbx
from stable_baselines3.common.noise import NormalActionNoise

from benchmarks.peers import serve
from benchmarks.peers.gymnasium_walk import Walk

begun = time.perf_counter()
job = serve.job()
noisy = {"action_noise": NormalActionNoise(np.zeros(6), np.full(6, 0.1))} if job["algo"] != "sac" else {}
model = {"td3": sbx.TD3, "sac": sbx.SAC, "ddpg": sbx.DDPG}[job["algo"]](
    "MlpPolicy",
    gymnasium.wrappers.TimeLimit(Walk(), 1000),
    learning_rate=3e-4,
    buffer_size=job["buffer_size"],
    learning_starts=job["warmup_steps"],
    batch_size=job["batch_size"],
    train_freq=1,
    gradient_steps=1,
    policy_kwargs={"net_arch": [job["width"], job["width"]]},
    seed=0,
    **noisy,
)
model.learn(job["warmup_steps"] + 4)


def train():
    model.learn(job["steps"], reset_num_timesteps=False)


serve.serve(
    ("sbx-rl", "stable-baselines3", "torch", "jax", "jaxlib", "flax", "optax"), begun, train, lambda: model._n_updates
)
