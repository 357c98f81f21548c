"""The host's side of a run: compile, train chunk by chunk, and leave everything on disk as it comes.

A run folder holds one program: one run per seed, or, of a sweep, per setting and seed. They are trained in groups
(`seeds_per_batch`), one after another; mostly there is one. Checkpoint number g · num_evals + i is of group g, after
its evaluation i and before the next. Where the devices or the groups do not divide the runs, the last run is repeated;
nobody sees its copies.
"""

import shutil
import time
from concurrent.futures import ThreadPoolExecutor

import jax
import numpy as np

from purerl import environments
from purerl.algorithms import ddpg, sac, td3
from purerl.errors import Refused
from purerl.results import comparison, page, picture, run_folder
from purerl.results.statistics import iqm
from purerl.runs import (
    checkpoints,
    claims,
    declared,
    fingerprint,
    fitting,
    garbage_collection,
    memory,
    pbt,
    playing,
    position,
    sinks,
    summary,
)
from purerl.runs.clock import Clock, Interrupt
from purerl.runs.outcome import Outcome
from purerl.runs.position import Position
from purerl.runs.provenance import changed, origin
from purerl.runs.session import Session
from purerl.settings import config
from purerl.training import loop, mapping

ALGORITHMS = {"ddpg": ddpg.ddpg, "td3": td3.td3, "sac": sac.sac}


AUTO = 15 * 60.0  # seconds between checkpoints where `checkpoint_every` is "auto"
SPARE = 2**26  # bytes of the disk that a checkpoint leaves free


def prepare(settings):
    """`(env, constructor of the algorithm)` of a `Config`. Raises ValueError where they cannot be or do not fit."""
    job = settings.job
    env, build = environments.make(job.env, job.backend, job.episode_length), ALGORITHMS[job.algo]
    algorithm = build(settings.hyper, settings.plan, env)
    loop.setup(settings.plan, algorithm, env)
    declared.check(job.algo, algorithm, settings.plan, env)
    sinks.check(settings.keep.log)
    fitting.num_devices(settings, settings.num_runs)
    return env, build


def run(settings, env, build, path, display, *, share=None, until=None):
    """Train what the run in the folder `path`, which is made where there is none, has not trained yet.

    Returns the `Outcome`, also of a run that ended early. `share` are the `settings.runs` to train, all by
    default; `until` is the evaluation after which they are left, with a checkpoint, for `fork`.

    Every `checkpoint_every` evaluations (auto: every 15 minutes; 0: never), and where the run ends early, the whole
    carry is kept. A run of which every seed has diverged ends at that evaluation. Raises Refused, before anything is
    trained, where memory does not hold the runs or another process runs in `path`, and OSError where nothing more can
    be written.
    """
    with Interrupt(settings.keep.time_limit) as interrupt, display, ThreadPoolExecutor(1) as worker:
        outcome = worker.submit(_run, settings, env, build, path, display, interrupt, share, until).result()
    summary.show(display, settings, path, outcome)
    return outcome


def _run(settings, env, build, path, display, interrupt, share, until):
    """The `Outcome`."""
    clock, share = Clock(), share or settings.runs
    free = memory.available(fitting.num_devices(settings, len(share)))
    programs = fitting.programs_of(settings, env, build, len(share))
    display.stage("compiling")
    with clock.on("compile"), garbage_collection.paused():
        size = 1 if settings.job.seeds_per_batch == "auto" else min(settings.group_size, len(share))
        fitting.check(settings, fitting.at_least(settings, programs, size), free)
        environment = fingerprint.of(env)
        claims.check_fit(path, settings, programs, share, environment)
        settings, compiled, needs = fitting.fit(settings, programs, free, len(share))
        fitting.check(settings, needs, free)
    with run_folder.locked(path):
        if run_folder.has_begun(path):
            if _ended_meanwhile(path, settings, share):
                return Outcome(run_folder.final(run_folder.read_curves(path)), None, None, clock)
        else:
            claims.create(path, settings, env, build, num_runs=len(share), environment=environment)
        policy = build(settings.hyper, settings.plan, env).policy
        kept = checkpoints.manager(path)
        run_folder.log(path, "compiled", seconds=round(clock.compile, 3), bytes_needed=needs.total, bytes_free=free)
        display.say(f"compiled in {clock.compile:.1f} s; {memory.line(needs, free)}")
        if loop.longest(settings.plan, env) < env.episode_length and settings.plan.eval_length is None:
            display.say(
                f"an evaluated episode ends after {loop.LONGEST_EVALUATION:,} steps; --eval-length sets another"
            )
        with sinks.feed(path, settings.keep.log, settings.job.num_seeds) as feed:
            session = Session(
                settings=settings,
                path=path,
                display=display,
                clock=clock,
                interrupt=interrupt,
                programs=compiled,
                policy=policy,
                checkpoints=kept,
                feed=feed,
                share=share,
                environment=environment,
                until=until,
            )
            display.total = settings.plan.total_steps * session.groups
            parts, complete = train(session)
        curves = run_folder.read_curves(path)
        evaluated = len(curves["env_step"]) > 0
        if evaluated:
            picture.draw(path, curves, f"{settings.job.algo.upper()} on {env.name}", env.name, settings.swept)
        ended = None if complete else interrupt.reason
        outcome = Outcome(run_folder.final(curves), ended, interrupt.reason, clock)
        if outcome.all_diverged and outcome.final["env_step"].max() < settings.plan.total_steps:
            display.say(f"ended at step {outcome.final['env_step'].max():,.0f}: every run has diverged, none is left")
        run_folder.log(path, "end", interrupted=outcome.interrupted, return_iqm=_number(iqm(outcome.returns)))
        run_folder.write_policy(path, run_folder.joined(parts))  # the last: it says that the run is complete
        if complete:
            run_folder.drop_parts(path)
        if evaluated:
            page.write(path)
    return outcome


def _ended_meanwhile(path, settings, share):
    """Whether another process completed the run since it was claimed. Raises Refused where it made it another."""
    try:
        claims.check(path, settings)
    except ValueError as error:
        raise Refused(f"another process was here meanwhile: {error}") from None
    return claims.is_complete(path, settings, share)


def train(session):
    """Bring every group to its end, in order, or up to where the run is to end early.

    Returns `(policies of the groups, whether all came to their end)`.
    """
    plan, parts = session.plan, []
    for group in range(session.groups):
        runs = session.runs(group)
        if claims.are_finished(session.path, plan, runs, group):
            parts.append(run_folder.read_policy(session.path, group))
            continue
        at, carry = _restored(session, group)
        if carry is None:
            carry = _begun(session, group)
        at, carry, ended = _advanced(session, group, at, carry)
        parts.append(_policy(session, group, carry, at))
        if not ended:
            return parts, False
        run_folder.write_policy(session.path, parts[-1], group)
        if session.interrupt.reason and group < session.groups - 1:
            return parts, False
    return parts, True


def _restored(session, group):
    """`(at, carry)` of the newest whole checkpoint of a group; of none where there is none, the carry being None.

    Raises Refused, and touches nothing, where there is one that cannot be gone on from.
    """
    path, plan, runs = session.path, session.plan, session.runs(group)
    first, curves = group * plan.num_evals, run_folder.read_curves(session.path)
    lacking, damaged = [], []
    for number in checkpoints.numbers(path):
        if not first <= number < first + plan.num_evals:
            continue
        try:
            label = checkpoints.label(path, number, config.computation(session.settings))
            at = position.of_label(label, session.settings, number - first)
            if at.evaluations and not run_folder.has_rows(curves, runs, position.evaluated_steps(plan, at.index)):
                session.display.say(f"curves.csv lacks rows from before checkpoint {number}, which is left out")
                lacking.append(number)
                continue
            like = claims.held(session.programs.carry, runs, label["ring"])
            carry = checkpoints.restore(session.checkpoints, number, like, label)
        except checkpoints.Damaged as error:
            session.log("damaged", checkpoint=number, error=str(error))
            session.display.say(f"checkpoint {number} is damaged and left out: {error}")
            damaged.append(number)
            continue
        if lacking or damaged:
            _set_aside(session)
        _say_environment(session, label.get("environment"), f"when checkpoint {number} was written")
        carry = session.with_copies(group, carry)
        return at, _continued(session, group, at, label, carry)
    if whole := [number for number in lacking if _is_whole(session, number)]:
        raise Refused(
            f"{path}/curves.csv lacks rows from before checkpoint {whole[0]}, which is whole; put back the rows to go "
            f"on from it, or delete {path}/checkpoints to start again from step 0"
        )
    if run_folder.are_of(curves, runs).any():
        session.display.say("no whole checkpoint to go on from; starting again from step 0")
        _set_aside(session)
    made = config.read(path / "run.toml").get(config.RECORD, {})
    _say_environment(session, fingerprint.recorded(made), "when the run began")
    session.clock.resume(run_folder.truncate(path, runs, -1))
    pbt.truncate(path, -1)
    return Position(), None


def _is_whole(session, number):
    try:
        checkpoints.verify(session.path, number, config.computation(session.settings))
    except checkpoints.Damaged:
        return False
    return True


def _set_aside(session):
    """Keep copies of what is computed anew, where a run falls back behind what it had come to."""
    kept = ", ".join(checkpoints.set_aside(session.path, ("curves.csv", pbt.FILE, run_folder.POLICY)))
    session.log("set aside", files=kept)
    session.display.say(f"copies of what there was: {kept}")


def _say_environment(session, then, when):
    """Say where the environment is another than its fingerprint `then` tells."""
    if line := fingerprint.said(then, session.environment, when):
        session.log("environment", line=line)
        session.display.say(f"{line}; resuming goes on with what it is now")


def _continued(session, group, at, label, carry):
    """Let the files end where the carry does; fill its ring where it has none."""
    last = loop.env_steps(session.plan, at.index) if at.evaluations else -1
    session.clock.resume(run_folder.truncate(session.path, session.runs(group), last))
    pbt.truncate(session.path, at.index)
    session.log("resume", group=group, index=at.index, row=at.row, ring=label["ring"])
    session.display.say(f"resumed after {at.row * session.plan.num_envs:,} steps")
    if others := changed(label["versions"], origin(len(carry.diverged.devices()))):
        session.display.say(f"not bit for bit as without the stop: {', '.join(others)}")
    if carry.ring is None:
        session.display.say("the checkpoint has no replay buffer: its policy fills a new one, and this is not exact")
        carry = _refilled(session, group, at, carry)
    return carry


def _refilled(session, group, at, carry):
    """`carry` with a ring that its policy fills; as it is where the run is to end before."""
    numbers, turn = session.numbers(group, at.index), loop.first_refilled(session.plan, at.row)
    acting = session.programs.begin_refill(numbers, carry, at.row)
    while turn < at.row:
        if session.interrupt.reason:
            return carry
        turn, acting = _stretch(session, "refill", numbers, acting, turn, at.row)
    return session.programs.refilled(carry, acting)


def _stretch(session, what, numbers, carry, turn, end):
    """`(turn, carry)` after a stretch of the program `what`, up to turn `end` at most."""
    turns = min(session.paces[what].turns, end - turn)
    begun = time.perf_counter()
    with session.interrupt.stretch(session.clock), session.clock.on("train"):
        carry = jax.block_until_ready(session.programs.advance(what, numbers, carry, turn, turn + turns))
    session.paces[what].took(turns, time.perf_counter() - begun)
    return turn + turns, carry


def _begun(session, group):
    """The carry of a group before its warm-up."""
    keys = mapping.laid_out(session.programs.mesh, mapping.keys_of([seed for _, seed in session.rows(group)]))
    return session.programs.before_warm_up(session.numbers(group), keys)


def _advanced(session, group, at, carry):
    """`(at, carry, whether that is the end)` where the run ends, early perhaps, then with a checkpoint there.

    Where an evaluation finds that all runs have diverged, nothing is left to be trained: that is the end, too.
    """
    wanted = session.plan.num_evals if session.until is None else session.until + 1
    saved, since, numbers, lost = None, time.monotonic(), session.numbers(group, at.index), False
    while at.evaluations < wanted and not session.interrupt.reason and not lost:
        evaluations = at.evaluations
        if at.row < session.due(evaluations) and _all_diverged(session, group, carry):
            at = at._replace(row=session.due(evaluations))  # All are frozen; the evaluation says so.
        if at.row < session.due(evaluations):
            at, carry = _trained(session, group, at, numbers, carry)
        else:
            at, carry = _evaluated(session, group, at, numbers, carry)
        is_new = at.evaluations > evaluations
        lost = is_new and _all_diverged(session, group, carry)
        if is_new and _exploits(session, at.index):
            carry = _exploited(session, at.index, numbers, carry)
            numbers = session.numbers(group, at.index)
        if _checkpoint_is_due(session, at, is_new, since):
            _checkpoint(session, group, at, carry)
            saved, since = at, time.monotonic()
    ended = lost or at.evaluations == session.plan.num_evals
    if not ended and saved != at:
        _checkpoint(session, group, at, carry)
    return at, carry, ended


def _all_diverged(session, group, carry):
    """Whether no run of a group is left."""
    return bool((session.without_copies(group, jax.device_get(carry.diverged)) >= 0).all())


def _exploits(session, index):
    """Whether the settings are a population that exploits after evaluation `index`."""
    population = session.settings.pbt
    return bool(population and index and index % population.every == 0 and index < session.plan.num_epochs)


def _checkpoint_is_due(session, at, is_new, since):
    """Whether to keep the carry now, the last one having been kept at the time `since`, and an evaluation `is_new`."""
    every = session.settings.keep.checkpoint_every
    if every == "auto":
        return at.evaluations < session.plan.num_evals and time.monotonic() - since >= AUTO
    return bool(every and is_new and at.index and at.index % every == 0)


def _trained(session, group, at, numbers, carry):
    """`(at, carry)` after a stretch of the warm-up or of training."""
    plan, clock, runs = session.plan, session.clock, session.runs(group)
    what, rows, done, end = "warm_up", 1, 0, plan.warmup_rows
    if at.row >= plan.warmup_rows:
        what, rows, done = "cycles", session.programs.cycle.collects, plan.warmup_rows
        end = session.due(at.evaluations)
    session.display.stage("warming up" if what == "warm_up" else "training")
    turn = (at.row - done) // rows
    turned, carry = _stretch(session, what, numbers, carry, turn, (end - done) // rows)
    new = (turned - turn) * rows
    clock.env_steps += new * plan.num_envs * len(runs)
    clock.updates += new * plan.updates_per_step * len(runs) * (what == "cycles")
    at = at._replace(row=at.row + new)
    session.display.moved(group * plan.total_steps + at.row * plan.num_envs)
    return at, carry


def _played(session, at, numbers, carry):
    """The episodes of an evaluation, or None where the run is to end before they have."""
    session.display.stage("evaluating")
    with session.clock.on("evaluate"):
        return playing.play_out(
            session.programs.evaluation(carry, at.evaluations),
            lambda play, count: session.programs.play_on(numbers, carry, play, count),
            session.paces["play_on"],
            stretch=lambda: session.interrupt.stretch(session.clock),
            stopped=lambda: session.interrupt.reason,
        )


def _evaluated(session, group, at, numbers, carry):
    """`(at, carry)` after an evaluation that is written and shown; as they were where the run is to end before."""
    plan, clock, index = session.plan, session.clock, at.evaluations
    play = _played(session, at, numbers, carry)
    if play is None:
        session.display.say(f"evaluation {index} was not finished and begins anew on resuming")
        return at, carry
    values = session.programs.judged(numbers, carry, play, at.row)
    carry = carry._replace(**{name: values[name] for name in loop.JUDGED})
    values = session.without_copies(group, jax.device_get(values))
    if index == 0:  # Nothing has been learned yet.
        values = {name: x for name, x in values.items() if name not in carry.sums}
    steps = loop.env_steps(plan, index)
    for name in loop.JUDGED:
        values[name] = np.where(values[name] < 0, np.nan, values[name] * float(plan.num_envs))
    returns = np.where(np.isnan(values["diverged"]), values["return_mean"], np.nan)
    common = {"env_step": steps, "update": loop.updates(plan, index), "wall_s": round(clock.wall, 3)}
    run_folder.append_evaluation(session.path, session.runs(group), common, values)
    session.feed()
    session.log("evaluation", index=index, return_iqm=_number(iqm(returns)), **common)
    session.display.evaluation(
        group * plan.total_steps + steps, iqm(returns), clock.per_second(clock.updates), int(np.isnan(returns).sum())
    )
    return at._replace(evaluations=index + 1), carry


def _exploited(session, index, numbers, carry):
    """The carry in which the worst settings of every seed have taken over from the best; pbt.csv has their numbers."""
    returns = comparison.sound(run_folder.read_curves(session.path))[1][-1]
    numbers = session.without_copies(0, {name: numbers[name] for name in session.settings.swept})
    rows = pbt.step(session.path, session.settings, index, numbers, returns)
    return mapping.laid_out(session.programs.mesh, pbt.taken_over(carry, session.repeated(0, rows)))


def _checkpoint(session, group, at, carry):
    begun = time.perf_counter()
    keep = session.settings.keep
    carry = carry if keep.checkpoint_ring else carry._replace(ring=None)
    number, runs = group * session.plan.num_evals + at.index, len(session.runs(group))
    progress = at._asdict() | {"env_step": session.env_steps(at)}
    computation = config.computation(session.settings)
    size = checkpoints.size(carry, runs)
    free = shutil.disk_usage(session.path).free
    if size + SPARE > free:
        session.display.say(
            f"checkpoint {number} is left out: it takes {size / 1e6:,.0f} MB, and the disk has {free / 1e6:,.0f} MB "
            "free; make room, or set --checkpoint-ring false"
        )
        return
    try:
        facts = {"progress": progress, "environment": session.environment}
        checkpoints.save(session.checkpoints, number, carry, runs, computation, keep.checkpoint_keep, **facts)
    except OSError as error:
        reason = (str(error).splitlines() or [""])[0]
        session.display.say(f"checkpoint {number} could not be written, the ones before it stay: {reason}")
        return
    session.log("checkpoint", number=number, bytes=size, seconds=round(time.perf_counter() - begun, 3))


def _policy(session, group, carry, at):
    """What acts, of every run of a group, whose it is, and to which environment step it was trained."""
    statistics = carry.statistics._asdict() if carry.statistics else {}
    kept = jax.device_get({"actor": session.policy(carry.agent), "observation": statistics})
    settings, seeds = np.array(session.runs(group)).T
    steps = np.full(len(seeds), session.env_steps(at))
    return session.without_copies(group, kept) | {"setting": settings, "seed": seeds, "env_step": steps}


def _number(value):
    """JSON knows no NaN."""
    return float(value) if np.isfinite(value) else None
