"""Time EvoRL: the `step` of its TD3, SAC and DDPG workflows, scanned. Its state is returned and donated.

A step has two environment steps and two critic updates: one actor update in TD3, and two in the others. With one of
each, SAC and DDPG take three to four times as long. Several seeds use all cores by `jax.pmap`, and `jax.vmap`, with
which EvoRL's PBT trains its populations.
"""

import time

import jax
import optax
from brax import envs
from evorl.algorithms.ddpg import DDPGWorkflow
from evorl.algorithms.sac import SACWorkflow
from evorl.algorithms.td3 import TD3Workflow
from omegaconf import OmegaConf

from benchmarks.peers import serve
from benchmarks.peers.brax_walk import Walk
from benchmarks.peers.seeds import Seeds

WORKFLOWS = {"td3": TD3Workflow, "sac": SACWorkflow, "ddpg": DDPGWorkflow}
DELAY = {"td3": 2, "sac": 1, "ddpg": 1}  # critic updates per actor update
STEPS = 2  # environment steps and critic updates of a workflow's step


def settings(job):
    """Return the configuration of a workflow."""
    widths = [job["width"], job["width"]]
    return OmegaConf.create(
        {
            "env": {"env_type": "brax", "env_name": "walk", "max_episode_steps": 1000},
            "agent_network": {
                "critic_hidden_layer_sizes": widths,
                "actor_hidden_layer_sizes": widths,
                "num_critics": 2,
                "norm_layer_type": "none",
                "policy_obs_key": "",
                "value_obs_key": "",
            },
            "optimizer": {"lr": 3e-4, "grad_clip_norm": None},
            "checkpoint": {"enable": False},
            "num_envs": 1,
            "num_eval_envs": 1,
            "rollout_length": STEPS,
            "actor_update_interval": DELAY[job["algo"]],
            "num_updates_per_iter": STEPS // DELAY[job["algo"]],
            "replay_buffer_capacity": job["buffer_size"],
            "batch_size": job["batch_size"],
            "random_timesteps": job["warmup_steps"],
            "learning_start_timesteps": job["warmup_steps"],
            "discount": 0.99,
            "tau": 0.005,
            "normalize_obs": False,
            "exploration_epsilon": 0.1,
            "policy_noise": 0.2,
            "clip_policy_noise": 0.5,
            "critics_in_actor_loss": "first",
            "alpha": 1.0,
            "adaptive_alpha": True,
            "target_entropy_ratio": 1.0,
        }
    )


begun = time.perf_counter()
job = serve.job()
seeds = Seeds(job["num_seeds"])
envs.register_environment("walk", Walk)
workflow = WORKFLOWS[job["algo"]].build_from_config(settings(job), enable_jit=False)


def steps(state):
    """Train a stretch."""
    return jax.lax.scan(lambda state, _: (workflow.step(state)[1], None), state, length=job["steps"] // STEPS)[0]


state = seeds.map(workflow.setup)(seeds.keys())
stretch = seeds.map(steps, donate_argnums=0)


def train():
    global state
    state = jax.block_until_ready(stretch(state))


def updates():
    return int(seeds.first(optax.tree.get(state.opt_state.critic, "count")))


serve.serve(("evorl-jax", "brax", "jax", "jaxlib", "flax", "optax"), begun, train, updates)
