"""The host's side of a run: compile, train chunk by chunk, and leave everything on disk as it comes.

A run trains its seeds in groups (`seeds_per_batch`), one after another; mostly there is one. Checkpoint number
g · num_evals + i follows evaluation i of group g.
"""

import io
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np
import tomli_w

from purerl import batch, checkpoints, config, ddpg, environments, loop, plot, results, sac, td3
from purerl.clock import Clock, Interrupt
from purerl.curves import iqm
from purerl.record import record, versions

ALGORITHMS = {"ddpg": ddpg.ddpg, "td3": td3.td3, "sac": sac.sac}


@dataclass(frozen=True)
class Outcome:
    """What a run came to.

    Attributes:
        final: the last row of curves.csv of each seed, `{column: [R]}`.
        interrupted: why it ended early, or None.
        clock: where the time went.
    """

    final: Any
    interrupted: str | None
    clock: Clock

    @property
    def returns(self):
        """The last return of each seed that has not diverged."""
        return self.final["return_mean"][np.isnan(self.final["diverged"])]


@dataclass(frozen=True)
class Compiled:
    """The programs of a group, for its number of seeds."""

    begin: Any
    epoch: Any
    evaluate: Any


@dataclass(frozen=True)
class Session:
    """What stays the same while a process trains."""

    settings: config.Config
    path: Any
    display: Any
    clock: Clock
    interrupt: Interrupt
    programs: batch.Programs
    numbers: Any
    kept: Any
    policy: Any

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
    """`(env, constructor of the algorithm)` of a `Config`. Raises ValueError where there is no such environment."""
    job = settings.job
    return environments.make(job.env, job.backend, job.episode_length), ALGORITHMS[job.algo]


def create(path, settings):
    """Make the folder of a run. Raises ValueError where it cannot be written."""
    results.create(path, config.to_toml(settings) + "\n" + tomli_w.dumps({config.RECORD: record()}))
    results.log(path, "start", seeds=settings.job.num_seeds)


def check(path, settings):
    """Raises ValueError where the run in the folder `path` is not the one of `settings`, saying where they differ."""
    here = config.computation(settings)
    if differs := config.differences(config.computation(config.resolve({}, path / "run.toml")), here):
        raise ValueError(f"{path} holds another run: {differs}; name another folder, or delete it")
    for number in checkpoints.numbers(path):
        with suppress(checkpoints.Damaged):
            checkpoints.label(path, number, here)


def run(settings, env, build, path, display):
    """Train what the run in the folder `path` has not trained yet. Returns the `Outcome`, also of an interrupted run.

    Every `checkpoint_every` evaluations (0: never), and where the run ends early, the whole carry is kept. Raises
    OSError where nothing more can be written.
    """
    jax.config.update("jax_default_matmul_precision", settings.job.matmul_precision)
    with Interrupt(settings.keep.time_limit) as interrupt, display:
        session = Session(
            settings=settings,
            path=path,
            display=display,
            clock=Clock(),
            interrupt=interrupt,
            programs=batch.programs(settings.plan, build, env, settings.hyper),
            numbers=batch.flowing(settings.hyper),
            policy=build(settings.hyper, settings.plan, env).policy,
            kept=checkpoints.manager(path),
        )
        with ThreadPoolExecutor(1) as worker:
            complete = worker.submit(train, session).result()
        curves = results.read_curves(path)
        _draw(path, curves, f"{settings.job.algo.upper()} on {env.name}")
        outcome = Outcome(results.final(curves), None if complete else interrupt.reason, session.clock)
        session.log("end", interrupted=outcome.interrupted, return_iqm=_number(iqm(outcome.returns)))
    _report(session, outcome)
    return outcome


def train(session):
    """Bring every group to its end, in order, or up to where the run is to end early. Returns whether all are there."""
    path, plan, groups = session.path, session.plan, session.groups
    curves = results.read_curves(path)
    at_end = (
        results.has_policy(path, group) and results.finished(curves, session.seeds(group), plan.total_steps)
        for group in range(groups)
    )
    first = next((group for group, done in enumerate(at_end) if not done), groups)
    compiled, complete = None, first == groups
    for group in range(first, groups):
        keys = batch.keys(session.seeds(group)[0], len(session.seeds(group)))
        abstract = jax.eval_shape(session.programs.begin, session.numbers, keys)
        index, carry = _restored(session, group, abstract)
        compiled = compiled or _compiled(session, keys, abstract)
        if carry is None:
            carry = _begun(session, compiled, keys, group)
        index, carry = _advanced(session, compiled, group, index, carry)
        results.write_policy(path, _policy(session, carry), group)
        complete = index == plan.num_epochs and group == groups - 1
        if session.interrupt.reason:
            break
    results.join_policies(path, group + 1 if first < groups else groups)
    if complete:
        results.drop_parts(path)
    return complete


def _restored(session, group, abstract):
    """`(index, carry)` of the newest whole checkpoint of a group; `(0, None)` where there is none."""
    path, plan = session.path, session.plan
    first = group * plan.num_evals
    for number in checkpoints.numbers(path):
        if not first <= number < first + plan.num_evals:
            continue
        try:
            label = checkpoints.label(path, number, config.computation(session.settings))
            like = abstract if label["ring"] else abstract._replace(ring=None)
            carry = checkpoints.restore(session.kept, number, like, label)
        except checkpoints.Damaged as error:
            session.log("damaged", checkpoint=number, error=str(error))
            session.display.say(f"checkpoint {number} is damaged and left out: {error}")
            checkpoints.delete(session.kept, number)
            continue
        return number - first, _continued(session, group, number - first, label, carry)
    curves = results.read_curves(path)
    if np.isin(curves["seed"], session.seeds(group)).any():
        session.display.say("no whole checkpoint to go on from; starting again from step 0")
        results.truncate(path, session.seeds(group), -1)
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


def _compiled(session, keys, abstract):
    programs, numbers = session.programs, session.numbers
    session.display.stage("compiling")
    with session.clock.on("compile"):
        compiled = Compiled(
            evaluate=programs.evaluate.lower(numbers, abstract, 0).compile(),
            epoch=programs.epoch.lower(numbers, abstract, 0).compile(),
            begin=programs.begin.lower(numbers, keys).compile(),
        )
    session.log("compiled", seconds=round(session.clock.compile, 3))
    session.display.say(f"compiled in {session.clock.compile:.1f} s")
    return compiled


def _begun(session, compiled, keys, group):
    """The carry of a group after its warm-up, evaluated."""
    session.display.stage("warming up")
    with session.clock.on("train"):
        carry = jax.block_until_ready(compiled.begin(session.numbers, keys))
    session.clock.env_steps += session.plan.warmup_steps * len(keys)
    _evaluate(session, compiled, group, 0, carry, {})
    return carry


def _advanced(session, compiled, group, index, carry):
    """`(index, carry)` at the end, or where the run is to end early, with a checkpoint there."""
    plan, keep, clock, size = session.plan, session.settings.keep, session.clock, len(session.seeds(group))
    saved = None
    while index < plan.num_epochs and not session.interrupt.reason:
        with session.interrupt.stretch(clock):
            session.display.stage("training")
            with clock.on("train"):
                carry, metrics = compiled.epoch(session.numbers, carry, index)
                metrics = jax.device_get(metrics)
            index += 1
            clock.updates += (loop.updates(plan, index) - loop.updates(plan, index - 1)) * size
            clock.env_steps += (plan.total_steps - plan.warmup_steps) // plan.num_epochs * size
            _evaluate(session, compiled, group, index, carry, metrics)
            if keep.checkpoint_every and index % keep.checkpoint_every == 0:
                _checkpoint(session, group, index, carry)
                saved = index
    if index < plan.num_epochs and saved != index:
        _checkpoint(session, group, index, carry)
    return index, carry


def _evaluate(session, compiled, group, index, carry, metrics):
    """Write one evaluation of a group, and show it."""
    plan, clock = session.plan, session.clock
    session.display.stage("evaluating")
    with clock.on("evaluate"):
        values = jax.device_get(compiled.evaluate(session.numbers, carry, index))
    steps = loop.env_steps(plan, index)
    values["diverged"] = _diverged(plan, values, steps)
    returns = np.where(np.isnan(values["diverged"]), values["return_mean"], np.nan)
    common = {"setting": 0, "env_step": steps, "update": loop.updates(plan, index), "wall_s": round(clock.wall, 3)}
    results.append_evaluation(session.path, session.seeds(group), common, values | metrics)
    session.log("evaluation", index=index, return_iqm=_number(iqm(returns)), **common)
    session.display.evaluation(
        group * plan.total_steps + steps, iqm(returns), clock.per_second(clock.updates), int(np.isnan(returns).sum())
    )


def _diverged(plan, values, steps):
    """The environment step at which each run diverged `[R]`, NaN where it has not. A return may tell it first."""
    told = np.where(np.isfinite(values["return_mean"]), np.nan, steps)
    return np.where(values["diverged"] < 0, told, values["diverged"] * float(plan.num_envs))


def _checkpoint(session, group, index, carry):
    begun = time.perf_counter()
    keep = session.settings.keep
    carry = carry if keep.checkpoint_ring else carry._replace(ring=None)
    number = group * session.plan.num_evals + index
    try:
        size = checkpoints.save(session.kept, number, carry, config.computation(session.settings), keep.checkpoint_keep)
    except (OSError, ValueError) as error:  # TensorStore tells of a full disk by a ValueError.
        reason = (str(error).splitlines() or [""])[0]
        session.display.say(f"checkpoint {number} could not be written, the ones before it stay: {reason}")
        return
    session.log("checkpoint", number=number, bytes=size, seconds=round(time.perf_counter() - begun, 3))


def _policy(session, carry):
    statistics = carry.statistics._asdict() if carry.statistics else {}
    return jax.device_get({"actor": session.policy(carry.agent), "observation": statistics})


def _draw(path, curves, title):
    steps, returns = results.per_seed(curves)
    sound = np.isnan(results.per_seed(curves, "diverged")[1])
    picture = io.BytesIO()
    plot.learning_curve(steps, np.where(sound, returns, np.nan), title).savefig(picture, format="png")
    results.write(path, "curve.png", picture.getvalue())


def _report(session, outcome):
    """The table at the end. Speed is this process's."""
    job, clock, final = session.settings.job, session.clock, np.sort(outcome.returns)
    per_s = [f"{clock.per_second(number):,.0f}" for number in (clock.env_steps, clock.updates)]
    rows = [
        ("final return: min / IQM / max", _spread(final)),
        ("wall time, seconds", f"{clock.wall:.1f}"),
        ("  compile / train / evaluate", f"{clock.compile:.1f} / {clock.train:.1f} / {clock.evaluate:.1f}"),
        ("training, all seeds", f"{per_s[0]} env steps/s, {per_s[1]} updates/s"),
        ("kept in", str(session.path)),
    ]
    lost = np.flatnonzero(~np.isnan(outcome.final["diverged"]))
    if len(lost):
        which = [f"seed {outcome.final['seed'][i]:.0f} at step {outcome.final['diverged'][i]:,.0f}" for i in lost[:5]]
        more = f" and {len(lost) - 5} more" if len(lost) > 5 else ""
        rows.insert(1, (f"diverged, left out: {len(lost)}", ", ".join(which) + more))
    ended = f", ended early: {outcome.interrupted}" if outcome.interrupted else ""
    session.display.table(f"{job.algo} on {job.env}, {job.num_seeds} seeds{ended}", rows)


def _spread(returns):
    return f"{returns[0]:.1f} / {iqm(returns):.1f} / {returns[-1]:.1f}" if len(returns) else "none"


def _number(value):
    """JSON knows no NaN."""
    return float(value) if np.isfinite(value) else None
