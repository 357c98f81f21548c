"""Time RLtools: its TD3 and SAC in C++, with MKL, on its own pendulum. Each seed is a process of one thread.

RLtools compiles a module for the settings of a job, and keeps it in the folder for temporary files. It does not report
the number of updates. Its loop makes one step of the environment, and then one update of both critics. The steps are
counted in the environment. Before the timing, the policy of a separate state is compared over eight steps, which shows
how often the actor is updated.
"""

import ctypes
import multiprocessing
import os
import time
from itertools import pairwise
from pathlib import Path

from benchmarks.peers import serve
from benchmarks.timing import Taken

os.environ |= {"RL_TOOLS_FORCE_MKL": "1", "MKL_NUM_THREADS": "1"}  # RLtools reads the first one when it is imported.

import rltools

DELAY = {"td3": 2, "sac": 1}  # critic updates per actor update, RLtools' defaults


def compiled(job):
    """Return the compiled module of a job. RLtools counts the output layer, so two hidden layers are three."""
    kind = {"td3": rltools.TD3, "sac": rltools.SAC}[job["algo"]]
    return kind(
        {"path": str(Path(__file__).parent / "rltools_pendulum"), "action_dim": 1, "observation_dim": 3},
        interface_name=f"purerl_{job['width']}_{job['batch_size']}",
        enable_evaluation=False,
        force_blas=True,
        ACTOR_NUM_LAYERS=3,
        CRITIC_NUM_LAYERS=3,
        ACTOR_HIDDEN_DIM=job["width"],
        CRITIC_HIDDEN_DIM=job["width"],
        ACTOR_BATCH_SIZE=job["batch_size"],
        CRITIC_BATCH_SIZE=job["batch_size"],
        REPLAY_BUFFER_CAP=job["buffer_size"],
        N_WARMUP_STEPS=job["warmup_steps"],
        STEP_LIMIT=10**12,
        OPTIMIZER_ALPHA=3e-4,
    )


def warmed_up(number):
    """Return the state of a seed after the warm-up."""
    state = module.State(number)
    for _ in range(job["warmup_steps"]):
        state.step()
    return state


def check_actor_updates(state):
    """Raise ValueError unless the policy of `state` changes as often in eight steps as the actor should be updated."""
    policies = []
    for _ in range(9):
        state.step()
        policies.append(state.export_policy())
    changes, expected = sum(a != b for a, b in pairwise(policies)), 8 // DELAY[job["algo"]]
    if changes != expected:
        raise ValueError(f"the policy changed {changes} times in 8 steps, and not {expected} times")


def train_seed(number, pipe):
    """Train a stretch for each request, and send the CPU time and the number of steps that it took."""
    state = warmed_up(number)
    pipe.send(None)
    while pipe.recv():
        cpu, before = time.process_time(), steps_made.value
        for _ in range(job["steps"]):
            state.step()
        pipe.send((time.process_time() - cpu, steps_made.value - before))


def started(number):
    """Start the process of a seed. Returns the pipe to it, after the warm-up."""
    ours, theirs = processes.Pipe()
    processes.Process(target=train_seed, args=(number, theirs), daemon=True).start()
    theirs.close()  # Otherwise the end of the process would not be seen.
    ours.recv()
    return ours


def train():
    """Return the `Taken` of a stretch of all seeds at once, and the least number of steps that a seed made."""
    wall = time.perf_counter()
    for pipe in pipes:
        pipe.send(True)
    answers = [pipe.recv() for pipe in pipes]
    wall = time.perf_counter() - wall
    return Taken(wall, sum(cpu for cpu, _ in answers)), min(steps for _, steps in answers)


begun = time.perf_counter()
job = serve.job()
module = compiled(job)
steps_made = ctypes.c_ulonglong.in_dll(ctypes.CDLL(module.__file__), "pendulum_steps")
check_actor_updates(warmed_up(0))
processes = multiprocessing.get_context("fork")  # The processes share the compiled module.
pipes = [started(number) for number in range(job["num_seeds"])]
serve.ready(("rltools", "mkl"), begun, train()[0])
while serve.asked():
    taken, updates = train()
    serve.say(**taken._asdict(), updates=updates)
