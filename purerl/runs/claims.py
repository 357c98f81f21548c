"""Check what a run folder contains: whether it may be used, which run it holds, and how far that run has come.

Nothing is trained here, and only `create_run` writes.
"""

from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import jax
import numpy as np
import tomli_w

from purerl.environments.base import Environment
from purerl.results import run_folder
from purerl.runs import checkpoints, fingerprint, fitting, numbering, position, warm_start
from purerl.runs.fingerprint import Fingerprint
from purerl.runs.fitting import Runs
from purerl.runs.provenance import record
from purerl.settings import config, registry
from purerl.settings.kinds import fields
from purerl.settings.schema import Config, Plan
from purerl.training.loop import Carry
from purerl.training.mapping import Programs
from purerl.types import actor_obs_size


def create_run(
    path: Path,
    settings: Config,
    env: Environment,
    *,
    num_runs: int | None = None,
    environment: Fingerprint | None = None,
    init: dict[str, Any] | None = None,
) -> None:
    """Make the folder of a run.

    `num_runs` is the number of runs that are trained here, all by default. `environment` is the fingerprint of `env`,
    and `init` what `warm_start.record` returns, if they are already known.
    """
    num_devices = fitting.num_devices(settings, num_runs or settings.num_runs)
    low, high = (np.broadcast_to(np.asarray(bound, float), env.action_size).tolist() for bound in env.action_range)
    ran = record() | {"num_devices": num_devices, "obs_size": env.obs_size, "action_size": env.action_size}
    spec = registry.find_algorithm(settings.job.algo)
    ran |= {} if (seen := actor_obs_size(env)) == env.obs_size else {"actor_obs_size": seen}
    ran |= {"action_low": low, "action_high": high, "algorithm": spec.origin}
    ran |= {"environment": fingerprint.kept(environment or fingerprint.of(env))}
    ran |= {numbering.FIELD: numbering.stride(settings.plan)}
    ran |= warm_start.record(settings, env, spec.build) if init is None else init
    ran |= {} if spec.colour is None else {"colour": spec.colour}
    metrics = spec.build(settings.hyper, settings.plan, env).metrics
    run_folder.create(path, config.to_toml(settings) + "\n" + tomli_w.dumps({config.RECORD: ran}), metrics)
    run_folder.log(path, "start", seeds=settings.job.num_seeds, settings=settings.num_settings)


def check_same_run(path: Path, settings: Config, longer: bool = False) -> Config:
    """Return `settings`, with a `seeds_per_batch` of "auto" replaced by the value of the run in the folder `path`.

    With `longer`, the settings may have more steps and evaluations than the run has.

    Raises ValueError if `path` holds a run with other settings, with the differences, or if its curves cannot be read.
    """
    there = config.resolve({}, path / "run.toml")
    if settings.job.seeds_per_batch == "auto":
        settings = replace(settings, job=replace(settings.job, seeds_per_batch=there.job.seeds_per_batch))
    here = config.computation(settings)
    if longer:
        length = {name: getattr(settings.plan, name) for name in checkpoints.LENGTH}
        there = replace(there, plan=replace(there.plan, **length))
    if differs := config.differences(config.computation(there), here):
        hint = _as_then(path, there, here) or _hint(there, here)
        raise ValueError(f"{path} holds another run: {differs}; name another folder, or delete it{hint}")
    for number in checkpoints.numbers(path):
        with suppress(checkpoints.Damaged):
            checkpoints.read_label(path, number, here)
    if run_folder.has_begun(path):
        run_folder.read_curves(path)
    return settings


def _as_then(path: Path, there: Config, here: dict[str, Any]) -> str:
    """Return the flags that continue the run in `path`, if `here` differs only in settings that came after it."""
    wrote = config.read_toml(path / "run.toml")
    ran = {name: value for name, value in config.computation(there).items() if name in fields(Plan)}
    came = {name: value for name, value in ran.items() if name not in wrote and value != here[name]}
    if not came or config.differences(config.computation(there), here | came):
        return ""
    flags = " ".join(f"--{name.replace('_', '-')} {value}" for name, value in came.items())
    return f", or continue it with {flags}: it is of an older version"


def _hint(there: Config, here: dict[str, Any]) -> str:
    """Return the hint that a run can be made longer, if the settings `here` differ in nothing else."""
    if here["total_steps"] <= there.plan.total_steps:
        return ""
    length = {name: here[name] for name in checkpoints.LENGTH}
    same = not config.differences(config.computation(there) | length, here)
    return f", or make that run longer with --resume and --total-steps {here['total_steps']}" if same else ""


def claim(path: Path, settings: Config, share: Runs | None = None, longer: bool = False) -> tuple[Config, bool]:
    """Return `(settings, whether the run is complete)` for the folder `path`, which may be free.

    `share` are the runs that are trained there, all by default. With `longer`, the run there may be shorter.

    Raises ValueError if the folder holds another run or something else.
    """
    if run_folder.is_free(path):
        return settings, False
    if not (path / "run.toml").is_file():
        raise ValueError(f"out {str(path)!r} exists already and holds no run; name another folder, or delete it")
    settings = check_same_run(path, settings, longer)
    return settings, is_complete(path, settings, share)


def is_complete(path: Path, settings: Config, share: Runs | None = None) -> bool:
    """Return whether the run in the folder `path` is complete. Its policy is the last file that is written."""
    return are_finished(path, settings.plan, share or settings.runs)


def are_finished(path: Path, plan: Plan, runs: Runs, group: int | None = None) -> bool:
    """Return whether `runs`, those of `group` or all, are finished, with their policies and curves on disk.

    A run is finished at its last step, or at the evaluation at which all runs of its group had diverged.
    """
    trained = run_folder.trained_steps(path, group)
    if trained is None or len(trained) != len(runs):
        return False
    curves = run_folder.read_curves(path)
    for step in np.unique(trained):
        those = [run for run, last in zip(runs, trained, strict=True) if last == step]
        steps = [each for each in position.evaluated_steps(plan, plan.num_epochs) if each <= step]
        if not run_folder.has_rows(curves, those, steps):
            return False
        last = run_folder.are_of(curves, those) & (curves["env_step"] == steps[-1])
        if step < plan.total_steps and np.isnan(curves["diverged"][last]).any():
            return False
    return True


def has_come_to(path: Path, settings: Config, index: int) -> bool:
    """Return whether the run in the folder `path` has an undamaged checkpoint at evaluation `index`, for a fork."""
    steps = position.evaluated_steps(settings.plan, index)
    if not run_folder.has_begun(path) or not run_folder.has_rows(run_folder.read_curves(path), settings.runs, steps):
        return False
    try:
        label = checkpoints.verify(path, index, config.computation(settings))
    except checkpoints.Damaged:
        return False
    return position.of_label(label, settings, index).row == position.due(settings, index)


def check_fit(
    path: Path, settings: Config, programs: Programs, share: Runs, environment: Fingerprint | None = None
) -> None:
    """Raise checkpoints.Misfit if a group of `share` would resume from a checkpoint of another program."""
    plan, size = settings.plan, min(settings.group_size, len(share))
    numbers, computation = checkpoints.numbers(path), config.computation(settings)
    numbered = numbering.of_run(path, plan)
    for group, runs in enumerate(fitting.grouped(share, size)):
        own = [number for number in numbers if number in numbered.of_group(group)]
        if own and not are_finished(path, plan, runs, group):
            carry = fitting.abstract_carry(settings, programs, size)
            checkpoints.check_newest(path, own, computation, partial(held, carry, runs), environment)


def held(carry: Carry, runs: Runs, ring: bool) -> Carry:
    """Return what a checkpoint of `runs` holds, as `jax.ShapeDtypeStruct`s.

    `carry` is an abstract carry of any number of runs. `ring` is whether the checkpoint has a replay buffer.
    """
    carry = carry if ring else carry._replace(ring=None)
    return jax.tree.map(lambda x: jax.ShapeDtypeStruct((len(runs), *x.shape[1:]), x.dtype), carry)
