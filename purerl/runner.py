"""The host's side of a run: compile, train chunk by chunk, and leave everything on disk as it comes."""

import io
import signal
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jax
import numpy as np
import tomli_w

from purerl import batch, checkpoints, config, ddpg, environments, loop, plot, results, sac, td3
from purerl.curves import iqm
from purerl.record import record

ALGORITHMS = {"ddpg": ddpg.ddpg, "td3": td3.td3, "sac": sac.sac}


@dataclass
class Clock:
    """Seconds spent, and where."""

    compile: float = 0.0
    train: float = 0.0
    evaluate: float = 0.0
    begun: float = field(default_factory=time.perf_counter)

    @contextmanager
    def on(self, name):
        begun = time.perf_counter()
        yield
        setattr(self, name, getattr(self, name) + time.perf_counter() - begun)

    @property
    def wall(self):
        return time.perf_counter() - self.begun


@dataclass
class Outcome:
    """What a run came to: the last return of each seed `[R]`, at which evaluation, whether it is the end, the time."""

    final_return: Any
    index: int
    complete: bool
    clock: Clock


class Interrupt:
    """SIGINT and SIGTERM ask for an end at the next evaluation; a second one ends at once."""

    def __init__(self):
        self.asked = False

    def __enter__(self):
        self.before = {number: signal.signal(number, self.ask) for number in (signal.SIGINT, signal.SIGTERM)}
        return self

    def __exit__(self, *error):
        for number, handler in self.before.items():
            signal.signal(number, handler)

    def ask(self, number, frame):
        if self.asked:
            raise KeyboardInterrupt
        self.asked = True


def prepare(settings):
    """`(env, constructor of the algorithm)` of a `Config`. Raises ValueError where there is no such environment."""
    job = settings.job
    return environments.make(job.env, job.backend, job.episode_length), ALGORITHMS[job.algo]


@dataclass(frozen=True)
class Place:
    """Where a run is kept, and how it starts."""

    path: Path
    checkpoint_every: int = 0
    checkpoint_keep: int = 3
    resumed: bool = False


def run(settings, env, build, place, display):
    """Train, and write into the folder of `place`. Returns the `Outcome`, also of a run that was interrupted.

    A checkpoint is written every `checkpoint_every` evaluations (0: never), and where the run is interrupted.
    """
    job, plan, path = settings.job, settings.plan, place.path
    jax.config.update("jax_default_matmul_precision", job.matmul_precision)
    if not place.resumed:
        results.write(path, "run.toml", config.to_toml(settings) + "\n" + tomli_w.dumps({config.RECORD: record()}))
    results.log(path, "resume" if place.resumed else "start", seeds=job.num_seeds)
    programs = batch.programs(plan, build, env, settings.hyper)
    numbers, keys = batch.flowing(settings.hyper), batch.keys(job.seed, job.num_seeds)
    kept = checkpoints.manager(path, place.checkpoint_keep)
    clock = Clock()

    with Interrupt() as interrupt, display:
        display.stage("compiling")
        with clock.on("compile"):
            abstract = jax.eval_shape(programs.begin, numbers, keys)
            evaluate = programs.evaluate.lower(numbers, abstract, 0).compile()
            epoch = programs.epoch.lower(numbers, abstract, 0).compile()
            begin = None if place.resumed else programs.begin.lower(numbers, keys).compile()
        results.log(path, "compiled", seconds=round(clock.compile, 3))
        display.say(f"compiled in {clock.compile:.1f} s")

        def evaluation(index, carry, metrics):
            display.stage("evaluating")
            with clock.on("evaluate"):
                values = jax.device_get(evaluate(numbers, carry, index))
            _keep(settings, path, index, clock, values | metrics)
            done = loop.updates(plan, index) - loop.updates(plan, first)
            speed = done * job.num_seeds / clock.train if done else 0.0
            display.evaluation(loop.env_steps(plan, index), iqm(values["return_mean"]), speed)

        if place.resumed:
            first = index = kept.latest_step()
            carry = checkpoints.restore(kept, index, abstract)
            clock.begun -= results.truncate(path, loop.env_steps(plan, index))
            display.say(f"resumed after {loop.env_steps(plan, index):,} steps")
        else:
            first = index = 0
            display.stage("warming up")
            with clock.on("train"):
                carry = jax.block_until_ready(begin(numbers, keys))
            evaluation(0, carry, {})
        while index < plan.num_epochs and not interrupt.asked:
            display.stage("training")
            with clock.on("train"):
                carry, metrics = epoch(numbers, carry, index)
                metrics = jax.device_get(metrics)
            index += 1
            evaluation(index, carry, metrics)
            if place.checkpoint_every and index % place.checkpoint_every == 0:
                _checkpoint(kept, index, carry, path)
        if index < plan.num_epochs and kept.latest_step() != index:
            _checkpoint(kept, index, carry, path)
        _finish(settings, env, build, path, carry)
        outcome = Outcome(_final_returns(path), index, index == plan.num_epochs, clock)
        results.log(path, "end", complete=outcome.complete, index=index, return_iqm=float(iqm(outcome.final_return)))
    _report(settings, first, outcome, path, display)
    return outcome


def _checkpoint(kept, index, carry, path):
    begun = time.perf_counter()
    checkpoints.save(kept, index, carry)
    size = sum(x.nbytes for x in jax.tree.leaves(carry))
    results.log(path, "checkpoint", index=index, bytes=size, seconds=round(time.perf_counter() - begun, 3))


def _final_returns(path):
    _, returns = results.per_seed(results.read_curves(path))
    return returns[-1]


def _keep(settings, path, index, clock, values):
    """Write one evaluation of all seeds."""
    job, plan = settings.job, settings.plan
    common = {
        "setting": 0,
        "env_step": loop.env_steps(plan, index),
        "update": loop.updates(plan, index),
        "wall_s": round(clock.wall, 3),
    }
    results.append_evaluation(path, range(job.seed, job.seed + job.num_seeds), common, values)
    results.log(path, "evaluation", index=index, return_iqm=float(iqm(values["return_mean"])), **common)


def _finish(settings, env, build, path, carry):
    """Write the actors and the picture."""
    algorithm = build(settings.hyper, settings.plan, env)
    kept = {"actor": algorithm.policy(carry.agent), "observation": _statistics(carry.statistics)}
    results.write_policy(path, jax.device_get(kept))
    steps, returns = results.per_seed(results.read_curves(path))
    picture = io.BytesIO()
    title = f"{settings.job.algo.upper()} on {env.name}"
    plot.learning_curve(steps, returns, title).savefig(picture, format="png")
    results.write(path, "curve.png", picture.getvalue())


def _statistics(statistics):
    return statistics._asdict() if statistics else {}


def _report(settings, first, outcome, path, display):
    """The table at the end. Speed counts what was done since evaluation `first`."""
    job, plan, clock, index = settings.job, settings.plan, outcome.clock, outcome.index
    final = np.sort(outcome.final_return)
    steps, updates = (
        (count(plan, index) - count(plan, first)) * job.num_seeds for count in (loop.env_steps, loop.updates)
    )
    display.table(
        f"{job.algo} on {job.env}, {job.num_seeds} seeds, {loop.env_steps(plan, index):,} steps each"
        + ("" if outcome.complete else " (interrupted)"),
        [
            ("final return: min / IQM / max", f"{final[0]:.1f} / {iqm(final):.1f} / {final[-1]:.1f}"),
            ("wall time, seconds", f"{clock.wall:.1f}"),
            ("  compile / train / evaluate", f"{clock.compile:.1f} / {clock.train:.1f} / {clock.evaluate:.1f}"),
            ("training, all seeds", f"{_rate(steps, clock)} env steps/s, {_rate(updates, clock)} updates/s"),
            ("kept in", str(path)),
        ],
    )


def _rate(number, clock):
    return f"{number / clock.train:,.0f}" if clock.train else "no"
