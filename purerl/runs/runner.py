"""The host's side of a run: compile, train chunk by chunk, and leave everything on disk as it comes.

A run folder holds one program: one run per seed, or, of a sweep, per setting and seed. They are trained in groups
(`seeds_per_batch`), one after another; mostly there is one. Checkpoint number g · num_evals + i is of group g, after
its evaluation i and before the next. Where the devices or the groups do not divide the runs, the last run is repeated;
nobody sees its copies.
"""

from concurrent.futures import ThreadPoolExecutor

from purerl import environments
from purerl.algorithms import ddpg, sac, td3
from purerl.errors import Refused
from purerl.results import page, picture, run_folder
from purerl.results.statistics import iqm
from purerl.runs import (
    checkpoints,
    claims,
    declared,
    epochs,
    fingerprint,
    fitting,
    garbage_collection,
    memory,
    sinks,
    summary,
)
from purerl.runs.clock import Clock, Interrupt
from purerl.runs.outcome import Outcome
from purerl.runs.session import Session
from purerl.training import loop

ALGORITHMS = {"ddpg": ddpg.ddpg, "td3": td3.td3, "sac": sac.sac}


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
            trained = epochs.train(session)
        curves = run_folder.read_curves(path)
        evaluated = len(curves["env_step"]) > 0
        if evaluated:
            picture.draw(path, curves, f"{settings.job.algo.upper()} on {env.name}", env.name, settings.swept)
        ended = None if trained.complete else interrupt.reason
        outcome = Outcome(run_folder.final(curves), ended, interrupt.reason, clock)
        if outcome.all_diverged and outcome.final["env_step"].max() < settings.plan.total_steps:
            display.say(f"ended at step {outcome.final['env_step'].max():,.0f}: every run has diverged, none is left")
        run_folder.log(
            path, "end", interrupted=outcome.interrupted, return_iqm=run_folder.json_number(iqm(outcome.returns))
        )
        run_folder.write_policy(path, run_folder.joined(trained.policies))  # the last: it says that the run is complete
        if trained.complete:
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
