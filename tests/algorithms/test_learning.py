"""Does it learn? The default job of each algorithm, on real physics, with fewer seeds."""

import json

import numpy as np
import pytest
from commands import start

from purerl.results.statistics import iqm

# The least interquartile mean of the final return, of 1000, over 8 seeds. DDPG's figure: docs/start/first_run.md.
THRESHOLD = {"td3": 950.0, "sac": 950.0, "ddpg": 300.0}
TRAIN = """
import json, sys
import jax
from purerl.runs import runner
from purerl.settings import config
from purerl.training import mapping

settings = config.resolve({"algo": sys.argv[1], "num_seeds": 8})
env, build = runner.prepare(settings)
programs = mapping.programs(settings.plan, build, env, settings.hyper)
numbers = mapping.flowing(settings.hyper)
carry = programs.run_warm_up(numbers, mapping.keys(100, settings.job.num_seeds))
before = jax.device_get(programs.run_evaluation(numbers, carry, 0))["return_mean"]
for index in range(settings.plan.num_epochs):
    carry, _ = programs.run_epoch(numbers, carry, index)
after = jax.device_get(programs.run_evaluation(numbers, carry, settings.plan.num_epochs))["return_mean"]
print(json.dumps([before.tolist(), after.tolist()]))
"""


@pytest.mark.slow
@pytest.mark.parametrize("algo", THRESHOLD)
def test_the_default_job_learns_to_balance_the_pole(algo, monkeypatch):
    monkeypatch.setenv("XLA_FLAGS", "")  # Compiled as users compile, it runs four times as fast.
    process = start(algo, code=TRAIN)
    shown = process.communicate(timeout=900)[0]
    assert process.returncode == 0, shown
    before, after = map(np.array, json.loads(shown.splitlines()[-1]))
    assert before.max() < 100
    assert iqm(after) >= THRESHOLD[algo], np.sort(after)
