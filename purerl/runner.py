"""The host's side of a run: compile, train chunk by chunk, and leave everything on disk as it comes.

A run trains its seeds in groups (`seeds_per_batch`), one after another; mostly there is one. Checkpoint number
g · num_evals + i follows evaluation i of group g.
"""

import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

import jax
import numpy as np
import tomli_w

from purerl import batch, checkpoints, config, ddpg, environments, loop, memory, page, report, results, sac, sinks, td3
from purerl.clock import Clock, Interrupt
from purerl.record import record, versions
from purerl.statistics import iqm

ALGORITHMS = {"ddpg": ddpg.ddpg, "td3": td3.td3, "sac": sac.sac}


@dataclass(frozen=True)
class Session:
    """What stays the same while a process trains."""

    settings: config.Config
    path: Any
    display: Any
    clock: Clock
    interrupt: Interrupt
    numbers: Any
    programs: batch.Programs
    compiled: batch.Compiled
    policy: Any
    kept: Any
    feed: Any

    @property
    def plan(self):
        return self.settings.plan

    @property
    def groups(self):
        return self.settings.job.num_seeds // self.settings.job.group_size

    def seeds(self, group):
        job = self.settings.job
        first = job.seed + group * job.group_size
        return range(first, first + job.group_size)

    def log(self, event, **facts):
        results.log(self.path, event, **facts)


def prepare(settings):
    """`(env, constructor of the algorithm)` of a `Config`. Raises ValueError where they cannot be or do not fit."""
    job = settings.job
    env, build = environments.make(job.env, job.backend, job.episode_length), ALGORITHMS[job.algo]
    loop.setup(settings.plan, build(settings.hyper, settings.plan, env), env)
    sinks.check(settings.keep.log)
    return env, build


def create(path, settings, env):
    """Make the folder of a run."""
    low, high = (np.broadcast_to(np.asarray(bound, float), env.action_size).tolist() for bound in env.action_range)
    ran = record() | {"action_low": low, "action_high": high}
    results.create(path, config.to_toml(settings) + "\n" + tomli_w.dumps({config.RECORD: ran}))
    results.log(path, "start", seeds=settings.job.num_seeds)


def check(path, settings):
    """`settings`, with the `seeds_per_batch` that "auto" meant when the run in the folder `path` was made.

    Raises ValueError where they are not that run's, saying where they differ, or where its curves cannot be read.
    """
    there = config.resolve({}, path / "run.toml")
    if settings.job.seeds_per_batch == "auto":
        settings = replace(settings, job=replace(settings.job, seeds_per_batch=there.job.seeds_per_batch))
    here = config.computation(settings)
    if differs := config.differences(config.computation(there), here):
        raise ValueError(f"{path} holds another run: {differs}; name another folder, or delete it")
    for number in checkpoints.numbers(path):
        with suppress(checkpoints.Damaged):
            checkpoints.label(path, number, here)
    if results.has_begun(path):
        results.read_curves(path)
    return settings


def is_complete(path, settings):
    """Whether the run in the folder `path` came to its end: its policy is the last that is written."""
    job = settings.job
    return _are_finished(path, settings.plan, range(job.seed, job.seed + job.num_seeds))


def _are_finished(path, plan, seeds, group=None):
    """Whether `seeds`, those of `group` or all, went to their end, and their policies and curves are there."""
    if not results.is_trained(path, len(seeds), plan.total_steps, group):
        return False
    return results.has_rows(results.read_curves(path), seeds, _steps(plan, plan.num_epochs))


def run(settings, env, build, path, display):
    """Train what the run in the folder `path`, which is made where there is none, has not trained yet.

    Returns the `report.Outcome`, also of a run that ended early.

    Every `checkpoint_every` evaluations (0: never), and where the run ends early, the whole carry is kept. Raises
    Refused, before anything is trained, where memory does not hold the runs or another process runs in `path`, and
    OSError where nothing more can be written.
    """
    with Interrupt(settings.keep.time_limit) as interrupt, display, ThreadPoolExecutor(1) as worker:
        outcome = worker.submit(_run, settings, env, build, path, display, interrupt).result()
    report.show(display, settings.job, path, outcome)
    return outcome


def plan(settings, env, build, display):
    """Show what the runs need of the device's memory, and take none of it. Raises DoesNotFit as `run` does."""
    free = memory.available()
    programs, numbers = _programs(settings, env, build)
    settings, _, needs = _fitted(settings, programs, numbers, free)
    job = settings.job
    display.table(
        f"{job.algo} on {job.env}, {job.group_size} of {job.num_seeds} seeds at once", memory.rows(needs, free)
    )
    memory.check(needs, settings.plan, job.num_seeds, free)


def _run(settings, env, build, path, display, interrupt):
    """The `report.Outcome`."""
    clock, free = Clock(), memory.available()
    programs, numbers = _programs(settings, env, build)
    display.stage("compiling")
    with clock.on("compile"):
        size = 1 if settings.job.seeds_per_batch == "auto" else settings.job.group_size
        at_least = memory.needs(batch.abstract(programs, numbers, size), size)
        memory.check(at_least, settings.plan, settings.job.num_seeds, free)
        settings, compiled, needs = _fitted(settings, programs, numbers, free)
        memory.check(needs, settings.plan, settings.job.num_seeds, free)
    display.total = settings.plan.total_steps * (settings.job.num_seeds // settings.job.group_size)
    with results.locked(path):
        if not results.has_begun(path):
            create(path, settings, env)
        policy = build(settings.hyper, settings.plan, env).policy
        kept = checkpoints.manager(path)
        results.log(path, "compiled", seconds=round(clock.compile, 3), bytes_needed=needs.total, bytes_free=free)
        display.say(f"compiled in {clock.compile:.1f} s; {memory.line(needs, free)}")
        with sinks.feed(path, settings.keep.log, settings.job.num_seeds) as feed:
            parts, complete = train(
                Session(settings, path, display, clock, interrupt, numbers, programs, compiled, policy, kept, feed)
            )
        curves = results.read_curves(path)
        report.draw(path, curves, f"{settings.job.algo.upper()} on {env.name}")
        outcome = report.Outcome(results.final(curves), None if complete else interrupt.reason, clock)
        results.log(path, "end", interrupted=outcome.interrupted, return_iqm=_number(iqm(outcome.returns)))
        results.write_policy(path, results.joined(parts))  # the last: it says that the run is complete
        if complete:
            results.drop_parts(path)
        page.write(path)
    return outcome


def _programs(settings, env, build):
    """`(programs, the numbers that flow through them)` of `settings`."""
    return batch.programs(settings.plan, build, env, settings.hyper), batch.flowing(settings.hyper)


def _fitted(settings, programs, numbers, free):
    """`(settings, compiled, needs)`; `seeds_per_batch` "auto" becomes what fits into `free` bytes, or 1."""
    job, size = settings.job, settings.job.group_size
    if job.seeds_per_batch == "auto":
        at_least = memory.needs(batch.abstract(programs, numbers, size), size)
        size = memory.largest_group(at_least, job.num_seeds, free) or 1
    compiled, needs = _compiled(programs, numbers, size)
    if job.seeds_per_batch == "auto":
        fitting = memory.largest_group(needs, job.num_seeds, free) or 1
        if fitting < size:
            size = fitting
            compiled, needs = _compiled(programs, numbers, size)
        settings = replace(settings, job=replace(job, seeds_per_batch=size))
    return settings, compiled, needs


def _compiled(programs, numbers, size):
    compiled = batch.compiled(programs, numbers, size)
    return compiled, memory.needs(compiled.carry, size, compiled)


def train(session):
    """Bring every group to its end, in order, or up to where the run is to end early.

    Returns `(policies of the groups, whether all came to their end)`.
    """
    plan, parts = session.plan, []
    for group in range(session.groups):
        seeds = session.seeds(group)
        if _are_finished(session.path, plan, seeds, group):
            parts.append(results.read_policy(session.path, group))
            continue
        index, carry = _restored(session, group)
        if carry is None:
            carry = _begun(session, group)
        index, carry = _advanced(session, group, index, carry)
        parts.append(_policy(session, carry, len(seeds), index))
        if index < plan.num_epochs:
            return parts, False
        results.write_policy(session.path, parts[-1], group)
        if session.interrupt.reason and group < session.groups - 1:
            return parts, False
    return parts, True


def _steps(plan, index):
    """The environment steps of the evaluations up to `index`."""
    return [loop.env_steps(plan, i) for i in range(index + 1)]


def _restored(session, group):
    """`(index, carry)` of the newest whole checkpoint of a group; `(0, None)` where there is none."""
    path, plan, seeds = session.path, session.plan, session.seeds(group)
    first, curves = group * plan.num_evals, results.read_curves(session.path)
    for number in checkpoints.numbers(path):
        if not first <= number < first + plan.num_evals:
            continue
        if not results.has_rows(curves, seeds, _steps(plan, number - first)):
            session.display.say(f"curves.csv lacks rows from before checkpoint {number}, which is left out")
            continue
        try:
            label = checkpoints.label(path, number, config.computation(session.settings))
            like = session.compiled.carry
            like = like if label["ring"] else like._replace(ring=None)
            carry = checkpoints.restore(session.kept, number, like, label)
        except checkpoints.Damaged as error:
            session.log("damaged", checkpoint=number, error=str(error))
            session.display.say(f"checkpoint {number} is damaged and left out: {error}")
            checkpoints.delete(session.kept, number)
            continue
        return number - first, _continued(session, group, number - first, label, carry)
    if np.isin(curves["seed"], seeds).any():
        session.display.say("no whole checkpoint to go on from; starting again from step 0")
        results.truncate(path, seeds, -1)
    return 0, None


def _continued(session, group, index, label, carry):
    """Let the files end where the carry does; fill its ring where it has none."""
    steps = loop.env_steps(session.plan, index)
    session.clock.earlier = results.truncate(session.path, session.seeds(group), steps)
    session.log("resume", group=group, index=index, ring=label["ring"])
    session.display.say(f"resumed after {steps:,} steps")
    then, now = label["versions"], versions()
    if changed := [f"{name} was {then.get(name)} and is {now[name]}" for name in now if now[name] != then.get(name)]:
        session.display.say(f"not bit for bit as without the stop: {', '.join(changed)}")
    if carry.ring is None:
        session.display.say("the checkpoint has no replay buffer: its policy fills a new one, and this is not exact")
        with session.clock.on("train"):
            carry = session.programs.refill(session.numbers, carry, index)
    return carry


def _begun(session, group):
    """The carry of a group after its warm-up, evaluated."""
    seeds = session.seeds(group)
    session.display.stage("warming up")
    with session.clock.on("train"):
        carry = jax.block_until_ready(session.compiled.begin(session.numbers, batch.keys(seeds[0], len(seeds))))
    session.clock.env_steps += session.plan.warmup_steps * len(seeds)
    return _evaluated(session, group, 0, carry, {})


def _advanced(session, group, index, carry):
    """`(index, carry)` at the end, or where the run is to end early, with a checkpoint there."""
    plan, keep, clock, size = session.plan, session.settings.keep, session.clock, len(session.seeds(group))
    saved = None
    while index < plan.num_epochs and not session.interrupt.reason:
        with session.interrupt.stretch(clock):
            session.display.stage("training")
            with clock.on("train"):
                carry, metrics = session.compiled.epoch(session.numbers, carry, index)
                metrics = jax.device_get(metrics)
            index += 1
            clock.updates += (loop.updates(plan, index) - loop.updates(plan, index - 1)) * size
            clock.env_steps += (plan.total_steps - plan.warmup_steps) // plan.num_epochs * size
            carry = _evaluated(session, group, index, carry, metrics)
            if keep.checkpoint_every and index % keep.checkpoint_every == 0:
                _checkpoint(session, group, index, carry)
                saved = index
    if index < plan.num_epochs and saved != index:
        _checkpoint(session, group, index, carry)
    return index, carry


def _evaluated(session, group, index, carry, metrics):
    """Write one evaluation of a group, and show it. Returns the carry, which knows of what diverged in it."""
    plan, clock = session.plan, session.clock
    session.display.stage("evaluating")
    with clock.on("evaluate"):
        values = session.compiled.evaluate(session.numbers, carry, index)
        carry = carry._replace(diverged=values["diverged"])
        values = jax.device_get(values)
    steps = loop.env_steps(plan, index)
    values["diverged"] = np.where(values["diverged"] < 0, np.nan, values["diverged"] * float(plan.num_envs))
    returns = np.where(np.isnan(values["diverged"]), values["return_mean"], np.nan)
    common = {"setting": 0, "env_step": steps, "update": loop.updates(plan, index), "wall_s": round(clock.wall, 3)}
    results.append_evaluation(session.path, session.seeds(group), common, values | metrics)
    session.feed()
    session.log("evaluation", index=index, return_iqm=_number(iqm(returns)), **common)
    session.display.evaluation(
        group * plan.total_steps + steps, iqm(returns), clock.per_second(clock.updates), int(np.isnan(returns).sum())
    )
    return carry


def _checkpoint(session, group, index, carry):
    begun = time.perf_counter()
    keep = session.settings.keep
    carry = carry if keep.checkpoint_ring else carry._replace(ring=None)
    number = group * session.plan.num_evals + index
    try:
        size = checkpoints.save(session.kept, number, carry, config.computation(session.settings), keep.checkpoint_keep)
    except OSError as error:
        reason = (str(error).splitlines() or [""])[0]
        session.display.say(f"checkpoint {number} could not be written, the ones before it stay: {reason}")
        return
    session.log("checkpoint", number=number, bytes=size, seconds=round(time.perf_counter() - begun, 3))


def _policy(session, carry, num_seeds, index):
    """What acts, of every seed, and to which environment step it was trained."""
    statistics = carry.statistics._asdict() if carry.statistics else {}
    kept = jax.device_get({"actor": session.policy(carry.agent), "observation": statistics})
    return kept | {"env_step": np.full(num_seeds, loop.env_steps(session.plan, index))}


def _number(value):
    """JSON knows no NaN."""
    return float(value) if np.isfinite(value) else None
