"""Time purerl as its command line trains."""

import time

import optax

from benchmarks.peers import serve
from benchmarks.training import Training, plan_of, walk
from purerl import environments

begun = time.perf_counter()
job = serve.job()
plan = plan_of(
    job["steps"],
    warmup_steps=job["warmup_steps"],
    buffer_size=job["buffer_size"],
    batch_size=job["batch_size"],
    widths=(job["width"], job["width"]),
)
env = walk() if job["environment"] == "walk" else environments.make(job["environment"])
training = Training(job["algo"], plan, job["num_seeds"], env)


def updates():
    return int(optax.tree.get(training.carry.agent.critic.opt_state, "count")[0])


serve.serve(("purerl", "jax", "jaxlib", "flax", "optax"), begun, training, updates)
