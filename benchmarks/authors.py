"""Train the TD3 authors' PyTorch code in Gymnasium, and add its returns to results/authors.csv.

It judges a run of purerl that is below the published range: same task, same steps, same settings as the preset `paper`.
The authors' code is not part of purerl. Clone github.com/sfujim/TD3, install torch, and name the folder:

    python -m benchmarks.authors --code TD3 --algo td3 --env Hopper-v5 --seeds 0 1

`TD3.py` and `OurDDPG.py` there are the agents. For SAC, whose authors used TensorFlow 1, it is `sac_in_pytorch.py`, and
`--code` is not needed. This module has the loop: exploration, replay buffer and evaluations, as their main.py describes
them. Evaluations are at the steps of a run of purerl with the same lengths.
"""

import argparse
import importlib
import sys
import time

import gymnasium
import numpy as np

from benchmarks import table
from purerl.settings import config
from purerl.training import loop

AGENTS = {"td3": ("TD3", "TD3"), "ddpg": ("OurDDPG", "DDPG")}  # algorithm: (module, class) of the authors
NOISES = {"td3": {"policy_noise": 0.2, "noise_clip": 0.5}, "ddpg": {}}  # in units of the largest action
EXPLORATION = 0.1
COLUMNS = ("algo", "env", "seed", "env_step", "return_mean", "wall_s")


class Buffer:
    """The replay buffer that the authors' agents sample from. `tensor` makes an array of theirs from one of NumPy."""

    def __init__(self, size, obs_size, action_size, rng, tensor):
        self.rng, self.tensor, self.count = rng, tensor, 0
        sizes = (obs_size, action_size, obs_size, 1, 1)
        self.arrays = [np.zeros((size, width), np.float32) for width in sizes]

    def add(self, *transition):
        """Store `(state, action, next state, reward, 1 - terminated)`."""
        for array, value in zip(self.arrays, transition, strict=True):
            array[self.count] = value
        self.count += 1

    def sample(self, batch_size):
        rows = self.rng.integers(self.count, size=batch_size)
        return [self.tensor(array[rows]) for array in self.arrays]


def trained(agent, name, seed, plan, tensor):
    """Train `agent` for the steps of `plan` and yield `(env_step, mean return)` of every evaluation."""
    env, rng = gymnasium.make(name), np.random.default_rng(seed)
    env.action_space.seed(seed)
    most = float(env.action_space.high[0])
    obs_size, action_size = env.observation_space.shape[0], env.action_space.shape[0]
    buffer = Buffer(plan.total_steps, obs_size, action_size, rng, tensor)
    yield 0, evaluated(agent, name, seed, plan.eval_episodes)
    state, _ = env.reset(seed=seed)
    due = {loop.env_steps(plan, index) for index in range(1, plan.num_evals)}
    for step in range(plan.total_steps):
        if step < plan.warmup_steps:
            action = env.action_space.sample()
        else:
            action = explored(agent, np.asarray(state, np.float32), most, rng)
        after, reward, terminated, truncated, _ = env.step(action)
        buffer.add(state, action, after, reward, 1.0 - terminated)
        state = env.reset()[0] if terminated or truncated else after
        if step >= plan.warmup_steps:
            agent.train(buffer, plan.batch_size)
        if step + 1 in due:
            yield step + 1, evaluated(agent, name, seed, plan.eval_episodes)


def explored(agent, state, most, rng):
    """Return an action with exploration: the agent's own, or with Gaussian noise."""
    if hasattr(agent, "explore"):
        return agent.explore(state)
    action = agent.select_action(state)
    return (action + rng.normal(0, most * EXPLORATION, size=action.shape)).clip(-most, most)


def evaluated(agent, name, seed, episodes):
    """Return the mean return of complete episodes without exploration noise."""
    env, returns = gymnasium.make(name), []
    for episode in range(episodes):
        state, _ = env.reset(seed=seed + 100 + episode)
        returns.append(0.0)
        over = False
        while not over:
            state, reward, terminated, truncated, _ = env.step(agent.select_action(np.asarray(state, np.float32)))
            returns[-1] += reward
            over = terminated or truncated
    return float(np.mean(returns))


def agent_of(code, algo, name):
    """Return the agent for a task. Those of the authors are in the folder `code`."""
    env = gymnasium.make(name)
    most = float(env.action_space.high[0])
    sizes = env.observation_space.shape[0], env.action_space.shape[0]
    if algo == "sac":
        from benchmarks.sac_in_pytorch import SAC

        if most != 1:
            raise SystemExit(f"actions of {name} reach {most}; SAC here is for tasks whose actions are in [-1, 1]")
        return SAC(*sizes)
    sys.path.insert(0, code)
    module, cls = AGENTS[algo]
    noises = {key: value * most for key, value in NOISES[algo].items()}
    return getattr(importlib.import_module(module), cls)(*sizes, most, **noises)


def main(arguments=None):
    """Run the command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.authors", description=__doc__.splitlines()[0])
    parser.add_argument("--code", metavar="FOLDER", help="a clone of github.com/sfujim/TD3, for td3 and ddpg")
    parser.add_argument("--algo", choices=(*AGENTS, "sac"), required=True)
    parser.add_argument("--env", metavar="NAME", required=True, help="a task of Gymnasium")
    parser.add_argument("--seeds", metavar="K", type=int, nargs="+", default=[0, 1])
    parser.add_argument("--total-steps", metavar="N", type=int, default=101_000)
    parser.add_argument("--warmup-steps", metavar="N", type=int, help="default: that of the preset paper")
    parser.add_argument("--num-evals", metavar="N", type=int, default=21)
    parser.add_argument("--eval-episodes", metavar="N", type=int, default=10)
    options = parser.parse_args(arguments)
    if options.algo in AGENTS and not options.code:
        parser.error("td3 and ddpg need --code, a clone of github.com/sfujim/TD3")
    lengths = {name: getattr(options, name) for name in ("warmup_steps", "total_steps", "num_evals", "eval_episodes")}
    given = {name: value for name, value in lengths.items() if value is not None}
    plan = config.resolve({"algo": options.algo, "env": options.env, "preset": "paper"} | given).plan
    import torch

    torch.set_num_threads(1)  # Two seeds in two processes are faster than one seed on two cores.
    for seed in options.seeds:
        torch.manual_seed(seed)
        agent, begin, rows = agent_of(options.code, options.algo, options.env), time.perf_counter(), []
        for step, value in trained(agent, options.env, seed, plan, torch.from_numpy):
            rows.append((options.algo, options.env, seed, step, round(value, 2), round(time.perf_counter() - begin)))
            print(f"{options.algo} on {options.env}, seed {seed}: {step:,} steps, return {value:.1f}", flush=True)
        table.add("authors", COLUMNS, rows)
        last = [row[4] for row in rows[1:]][-10:]
        print(f"seed {seed}: mean of the last {len(last)} evaluations {np.mean(last):.1f}")


if __name__ == "__main__":
    main()
