"""`python docs/environments.py` writes `docs/environments.csv`: the sizes and limits of the environments, by name."""

import csv
from pathlib import Path

import numpy as np

from purerl import environments
from purerl.environments import brax, names
from purerl.settings import config

FILE = Path(__file__).parent / "environments.csv"
HEAD = ("environment", "physics", "observation size", "action size", "time limit [steps]", "action limits")
NAMES = ("Pendulum-v1", *(f"{name}-v5" for name in names.GYMNASIUM), *names.BRAX)


def row(name: str) -> tuple[str, ...]:
    """The line of the table for an environment. It is made for that, which takes seconds."""
    if name in names.BRAX:
        backends = brax.RESTRICTED.get(name, brax.BACKENDS)
        env = environments.make(name, "spring" if "spring" in backends else None)
        physics = "Brax: " + ", ".join(backends) if backends else "none"
    else:
        env, physics = environments.make(name), "none" if name == "Pendulum-v1" else "MJX"
    limit = config.resolve({"env": name}).job.episode_length or env.episode_length  # of the task's file, or its own
    sizes = (env.obs_size, env.action_size, limit)
    return (name, physics, *map(str, sizes), limits(env.action_range))


def limits(action_range: tuple[object, object]) -> str:
    """`-1 to 1`, or the limits of the first and the last joint where they differ."""
    low, high = (np.unique(np.round(np.asarray(bound, float), 3)) for bound in action_range)
    pairs = [f"{a:g} to {b:g}" for a, b in zip(low, high[::-1], strict=False)]
    return "; ".join(dict.fromkeys((pairs[0], pairs[-1])))


if __name__ == "__main__":
    with open(FILE, "w", newline="") as file:
        csv.writer(file).writerows([HEAD, *map(row, NAMES)])
    print(FILE.read_text(), end="")
