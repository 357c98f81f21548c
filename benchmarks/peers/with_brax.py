"""Time Brax's own SAC: `brax.training.agents.sac.train`, one epoch per stretch.

Brax times its epochs itself, without evaluations.
"""

import sys
import time
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from brax.training import acting
from brax.training.agents.sac import networks, train

from benchmarks.peers import serve
from benchmarks.peers.brax_walk import Walk
from benchmarks.timing import Taken

if not hasattr(jax, "device_put_replicated"):  # JAX 0.10 dropped it, and brax.training 0.14.2 calls it.

    def device_put_replicated(tree, devices):
        mesh = jax.sharding.Mesh(np.array(devices), ("device",))
        sharding = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec("device"))
        return jax.tree.map(lambda x: jax.device_put(jnp.stack([jnp.asarray(x)] * len(devices)), sharding), tree)

    jax.device_put_replicated = device_put_replicated


class Evaluator(acting.Evaluator):
    """Records when the training before it ended."""

    def run_evaluation(self, *args, **kwargs):
        global trained
        trained = time.process_time()
        return super().run_evaluation(*args, **kwargs)


def progress(step, metrics):
    """Called by Brax after the first evaluation, and after each epoch and its evaluation."""
    global epochs, resumed
    if step:
        taken = Taken(job["steps"] / metrics["training/sps"], trained - resumed)
        epochs += 1
        if epochs == 2:  # The first epoch included compiling.
            serve.ready(("brax", "jax", "jaxlib", "flax", "optax"), begun, taken)
        if epochs > 2:
            serve.say(**taken._asdict())
        if epochs >= 2 and not serve.asked():
            sys.exit()
    resumed = time.process_time()


begun = time.perf_counter()
trained = resumed = time.process_time()
job, epochs = serve.job(), 0
train.acting.Evaluator = Evaluator
width = job["width"]
most = 1000  # the most epochs that may be requested
train.train(
    Walk(),
    num_timesteps=job["warmup_steps"] + most * job["steps"],
    num_evals=most + 1,
    episode_length=1000,
    num_envs=1,
    num_eval_envs=1,
    learning_rate=3e-4,
    discounting=0.99,
    batch_size=job["batch_size"],
    min_replay_size=job["warmup_steps"],
    max_replay_size=job["buffer_size"],
    grad_updates_per_step=1,
    network_factory=partial(networks.make_sac_networks, hidden_layer_sizes=(width, width)),
    progress_fn=progress,
)
