"""Make a run longer: settings of the longer run, and the checks that come before it.

The evaluations of the longer run are as many steps apart as before, so that their number grows. Everything that does
not depend on the length of a run continues bit for bit as if the run had been longer from its start.
"""

from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import tomli_w

from purerl.environments.base import Environment
from purerl.results import run_folder
from purerl.runs import checkpoints, claims, fingerprint, fitting, numbering
from purerl.runs.fitting import Runs
from purerl.settings import config
from purerl.settings.schema import Config, Plan, cycle
from purerl.training import loop
from purerl.types import Constructor, actor_obs_size

SCHEDULES = ("lr_schedule", "noise_schedule")  # hyperparameters that are functions of the completed share of a run


def longer(path: Path, settings: Config, total_steps: int) -> Config:
    """Return the settings of the run in the folder `path` with a length of `total_steps` environment steps.

    Raises ValueError if the run is as long already, or if the length is not a whole number of epochs.
    """
    plan = settings.plan
    if total_steps <= plan.total_steps:
        how = "has that length" if total_steps == plan.total_steps else "is longer"
        raise ValueError(
            f"total_steps is {total_steps}, but the run in {path} {how}: {plan.total_steps}; give more steps, or leave "
            "out --total-steps"
        )
    epoch = (plan.total_steps - plan.warmup_steps) // plan.num_epochs
    more = total_steps - plan.warmup_steps
    if more % epoch:
        low = more // epoch * epoch + plan.warmup_steps
        works = f"{low + epoch}" if low <= plan.total_steps else f"{low} or {low + epoch}"
        raise ValueError(
            f"total_steps {total_steps} does not fit the run in {path}, which is evaluated every {epoch} steps; the "
            f"nearest total_steps is {works}"
        )
    plan = replace(plan, total_steps=total_steps, num_evals=more // epoch + 1)
    cycle(plan, settings.hyper.policy_delay)
    return replace(settings, plan=plan)


def check(path: Path, before: Config, after: Config, env: Environment, build: Constructor, consent: bool) -> None:
    """Raise ValueError if the run in `path` cannot be made longer, or needs the user's `consent`.

    `before` and `after` are its settings with both lengths.
    """
    numbered, there = numbering.of_run(path, before.plan), checkpoints.numbers(path)
    groups = fitting.grouped(before.runs, before.group_size)
    if len(groups) > 1 and numbered.stride < after.plan.num_evals:
        raise ValueError(f"the run in {path} has groups of seeds of an older version and cannot be made longer")
    complete = claims.is_complete(path, before)
    for group, runs in enumerate(groups):
        finished = complete or claims.are_finished(path, before.plan, runs, group)
        if not finished or _has_diverged(path, runs) or any(number in numbered.of_group(group) for number in there):
            continue
        raise ValueError(
            f"the run in {path} has no checkpoint of its end: checkpoint_every was 0, or several processes shared it; "
            f"train a new run from its policies with --init-from {path} --init-parts actor,statistics"
        )
    if not consent and (names := depending(before, after, env, build)):
        step = reached(path, before)
        shares = [share(settings.plan, step) for settings in (before, after)]
        raise ValueError(
            f"{' and '.join(names)} of the run in {path} {'follow' if len(names) > 1 else 'follows'} the completed "
            f"share of the run, which changes from {shares[0]:.0%} to {shares[1]:.0%} at step {step}; add "
            "--rescale-schedules to accept this"
        )


def _has_diverged(path: Path, runs: Runs) -> bool:
    """Return whether all runs of a group have diverged, so that there is nothing to continue."""
    final = run_folder.final(run_folder.read_curves(path))
    own = run_folder.are_of(final, runs)
    return bool((final["diverged"][own] >= 0).all())


def reached(path: Path, settings: Config) -> int:
    """Return the environment step of the newest checkpoint of the run in `path`, or 0."""
    computation, steps = config.computation(settings), [0]
    for number in checkpoints.numbers(path):
        with suppress(checkpoints.Damaged):
            progress = checkpoints.read_label(path, number, computation).get("progress") or {}
            steps.append(int(progress.get("env_step", settings.plan.total_steps)))
    return max(steps)


def share(plan: Plan, step: int) -> float:
    """Return the completed share of a run at an environment step."""
    return step / plan.total_steps


def depending(before: Config, after: Config, env: Environment, build: Constructor) -> list[str]:
    """Return what depends on the length of a run: names of its schedules, or of its algorithm's functions.

    The functions of the algorithm are compared as traced for both lengths.
    """
    hyper = before.hyper
    named = [name for name in SCHEDULES if getattr(hyper, name, "constant") != "constant"]
    if named:
        return [f"{name} {getattr(hyper, name)!r}" for name in named]
    short, long = (_traced(settings, env, build) for settings in (before, after))
    found = [f"{name} of {before.job.algo}" for name in short if short[name] != long[name]]
    return found + ([f"the noise of {before.job.algo}"] if _noise_follows_progress(after, env, build) else [])


def _traced(settings: Config, env: Environment, build: Constructor) -> dict[str, str]:
    """Return `{name of a function: digest of its program}` of the algorithm for the length of `settings`."""
    run = loop.setup(settings.plan, build(settings.hyper, settings.plan, env), env)
    carry = jax.eval_shape(lambda key: loop.initial_carry(run, key, loop.starts(run, key, loop.START)), _key())
    observation = jax.ShapeDtypeStruct((settings.plan.num_envs, actor_obs_size(env)), jnp.float32)
    noise = jax.ShapeDtypeStruct((settings.plan.num_envs, env.action_size), jnp.float32)
    return {
        "the learner": fingerprint.of_function(lambda carry: loop.learn(run, carry, settings.plan.warmup_rows), carry),
        "explore": fingerprint.of_function(run.algorithm.explore, carry.agent, observation, noise, _key()),
    }


def _noise_follows_progress(settings: Config, env: Environment, build: Constructor) -> bool:
    """Return whether the exploration noise uses the completed share of the run."""
    noise = build(settings.hyper, settings.plan, env).noise
    traced = jax.make_jaxpr(noise.draw)(jax.eval_shape(noise.init), 0.5, _key())
    progress = traced.jaxpr.invars[-2]
    return any(variable is progress for equation in traced.jaxpr.eqns for variable in equation.invars)


def _key() -> Any:
    return jax.eval_shape(lambda: jax.random.key(0))


def record(path: Path, settings: Config) -> None:
    """Write the new length of a run to its run.toml, which keeps its earlier lengths.

    The policies of a complete run are split into those of its groups first, as they are while a run trains.
    """
    groups = fitting.grouped(settings.runs, settings.group_size)
    if len(groups) > 1 and (path / run_folder.POLICY).is_file():
        _split(path, groups)
    table = config.read_toml(path / "run.toml")
    earlier = [table[name] for name in checkpoints.LENGTH]
    ran = table.get(config.RECORD, {})
    ran[checkpoints.LENGTHS] = [*ran.get(checkpoints.LENGTHS, []), earlier]
    if len(groups) == 1:  # One group has the same numbers with any stride.
        ran[numbering.FIELD] = numbering.stride(settings.plan)
    run_folder.write(path, "run.toml", config.to_toml(settings) + "\n" + tomli_w.dumps({config.RECORD: ran}))
    run_folder.log(path, "longer", total_steps=settings.plan.total_steps, earlier=earlier[0])


def _split(path: Path, groups: list[Runs]) -> None:
    """Write the policies of each of `groups` to a file of its own, if the run has them and that file is not there."""
    held = run_folder.read_policy(path)
    runs = list(zip(held["setting"].tolist(), held["seed"].tolist(), strict=True))
    for group, own in enumerate(groups):
        if run_folder.trained_steps(path, group) is None and set(own) <= set(runs):
            rows = np.array([runs.index(run) for run in own])
            run_folder.write_policy(path, jax.tree.map(lambda x, rows=rows: x[rows], held), group)
