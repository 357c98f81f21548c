"""Run folders with curves that a test has written."""

import csv
from pathlib import Path

import numpy as np
import tomli_w

from purerl.results import run_folder

ROOT = Path(__file__).parent.parent  # the repository
KEPT = Path(__file__).parent / "data" / "run-0.1.0"  # two seeds of TD3 on Pendulum-v1, made by commit ba515a4
METRICS = ("critic_loss", "q", "actor_loss", "alpha", "entropy")  # those of purerl 0.1.0, for every algorithm


def write_run(path, steps, returns, diverged=None, wall_s=None, swept=None, metrics=METRICS, **settings):
    """Write a run folder with `returns`, and return it.

    `returns` is `[n, R]`, or `[n, settings, R]` with `swept` `{name: [settings]}`. `diverged` is `{seed: step}`. All
    other columns are empty.
    """
    returns = np.asarray(returns, float)
    returns = returns[:, None] if returns.ndim == 2 else returns
    path.mkdir(parents=True)
    table = {"algo": "td3", "env": "fast", "hyper": {"tau": 0.005}} | settings | ({"sweep": swept} if swept else {})
    (path / "run.toml").write_text(tomli_w.dumps(table))
    header = (*run_folder.COLUMNS, *metrics)
    with open(path / "curves.csv", "w", newline="") as file:
        rows = csv.DictWriter(file, header, lineterminator="\n")
        rows.writeheader()
        for (i, setting, seed), value in np.ndenumerate(returns):
            lost = (diverged or {}).get(seed)
            row = {
                "seed": seed,
                "setting": setting,
                "env_step": steps[i],
                "update": steps[i] // 2,
                "return_mean": value,
            }
            row["wall_s"] = (wall_s or steps)[i]
            row["diverged"] = lost if lost is not None and lost <= steps[i] else ""
            rows.writerow(row)
    return path
