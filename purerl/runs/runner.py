"""The host side of a run: compile, train one stretch at a time, and write results to disk as they come.

A run folder holds one program: one run per seed, or in a sweep one per setting and seed. The runs are trained in groups
(`seeds_per_batch`), one after another. Usually there is one group. If the number of devices or the group size does not
divide the number of runs, the last run is repeated. Its copies are not reported. numbering.py numbers the checkpoints.

claims.py checks what a folder contains, epochs.py trains, and listeners/ has what happens after each stretch.
"""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from pathlib import Path

from purerl import environments
from purerl.environments.base import Environment
from purerl.errors import Refused
from purerl.results import run_folder
from purerl.runs import (
    algorithm_check,
    checkpoints,
    claims,
    compiling,
    epochs,
    extending,
    fitting,
    sinks,
    summary,
    warm_start,
)
from purerl.runs.clock import Clock, Interrupt
from purerl.runs.compiling import Compiled, Order
from purerl.runs.conclusion import conclude
from purerl.runs.display import Display
from purerl.runs.epochs import TrainingResult
from purerl.runs.events import Listener
from purerl.runs.fitting import Runs
from purerl.runs.outcome import RunOutcome
from purerl.runs.session import Session
from purerl.settings import registry
from purerl.settings.schema import Config
from purerl.training import loop
from purerl.types import Constructor


def prepare(settings: Config, path: Path | None = None) -> tuple[Environment, Constructor]:
    """Return `(env, constructor of the algorithm)` of a `Config`. Raises ValueError if they cannot be made or used.

    `path` is the folder of the run. If the run was created before, the run of `init_from` may be gone.
    """
    job = settings.job
    env, build = environments.make(job.env, job.backend, job.episode_length), registry.find_algorithm(job.algo).build
    algorithm_check.check_algorithm(job.algo, build, settings, env)
    loop.setup(settings.plan, build(settings.hyper, settings.plan, env), env)
    if path is None or run_folder.is_free(path):
        warm_start.check(settings, env, build)
    sinks.check_sinks(settings.keep.log)
    fitting.num_devices(settings, settings.num_runs)
    return env, build


def run(
    settings: Config,
    env: Environment,
    build: Constructor,
    path: Path,
    display: Display,
    *,
    share: Runs | None = None,
    until: int | None = None,
    listeners: Sequence[Listener] = (),
    longer: bool = False,
) -> RunOutcome:
    """Train what the run in the folder `path` has not trained yet. The folder is created if it does not exist.

    Args:
        settings: what is trained, from `purerl.settings.config.resolve`.
        env: the environment, from `prepare`.
        build: `(hyper, plan, env) -> algorithm`, from `prepare`.
        path: the folder of the run.
        display: shows progress.
        share: the `settings.runs` to train, all by default.
        until: the evaluation after which they stop, with a checkpoint, for `fork.fork`.
        listeners: called with an `events.Event` after every stretch of training and after every evaluation. If a
            listener returns the event with a reason to `stop`, the run ends there, with a checkpoint. If a listener
            raises, a checkpoint is written and the exception propagates.
        longer: whether `settings` have more steps than the run in `path`, which is made longer.

    The whole carry is saved every `checkpoint_every` evaluations (auto: every 15 minutes; 0: never), and when the run
    ends early. If every seed has diverged, the run ends at that evaluation.

    Returns the `RunOutcome`, also of a run that ended early. Raises Refused, before anything is trained, if the memory
    does not hold the runs or another process runs in `path`. Raises OSError if nothing more can be written.
    """
    order = Order(settings, env, build, path, display, share or settings.runs, until, listeners, longer)
    with Interrupt(settings.keep.time_limit) as interrupt, display, ThreadPoolExecutor(1) as worker:
        outcome = worker.submit(
            copy_context().run, _run, order, interrupt
        ).result()  # Jupyter's output is in the context.
    summary.show(display, settings, path, outcome)
    return outcome


def _run(order: Order, interrupt: Interrupt) -> RunOutcome:
    """Compile and train in the present thread, and return the `RunOutcome`."""
    clock = Clock()
    made = compiling.compile_runs(order, clock)
    with run_folder.locked(order.path):
        if run_folder.has_begun(order.path):
            if _ended_meanwhile(order, made.settings):
                return RunOutcome(run_folder.final(run_folder.read_curves(order.path)), None, None, clock)
            if order.longer:
                extending.record(order.path, made.settings)
        else:
            claims.create_run(
                order.path, made.settings, order.env, num_runs=len(order.share), environment=made.environment
            )
        session, trained = _trained(order, made, clock, interrupt)
        return conclude(session, order.env.name, trained)


def _ended_meanwhile(order: Order, settings: Config) -> bool:
    """Return whether another process has completed the run since it was claimed.

    Raises Refused if that process has written another run.
    """
    try:
        claims.check_same_run(order.path, settings, order.longer)
    except ValueError as error:
        raise Refused(f"another process has used the folder meanwhile: {error}") from None
    return claims.is_complete(order.path, settings, order.share)


def _trained(order: Order, made: Compiled, clock: Clock, interrupt: Interrupt) -> tuple[Session, TrainingResult]:
    """Train, and return `(session, epochs.TrainingResult)`."""
    settings, path, display = made.settings, order.path, order.display
    kept = checkpoints.manager(path)
    compiling.say_compiled(order, made, clock)
    with sinks.feed(path, settings.keep.log, settings.job.num_seeds) as feed:
        session = Session(
            settings=settings,
            path=path,
            display=display,
            clock=clock,
            interrupt=interrupt,
            programs=made.programs,
            env=order.env,
            build=order.build,
            checkpoints=kept,
            feed=feed,
            share=order.share,
            environment=made.environment,
            until=order.until,
            listeners=order.listeners,
        )
        display.total = settings.plan.total_steps * session.groups
        return session, epochs.train_groups(session)
