"""Compile the programs of a run, for as many runs at once as the memory holds."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from purerl.environments.base import Environment
from purerl.results import run_folder
from purerl.runs import claims, fingerprint, fitting, garbage_collection, memory
from purerl.runs.clock import Clock
from purerl.runs.display import COMPILING, Display
from purerl.runs.events import Listener
from purerl.runs.fingerprint import Fingerprint
from purerl.runs.fitting import Runs
from purerl.settings.schema import Config
from purerl.training import loop
from purerl.training.mapping import Programs
from purerl.types import Constructor


@dataclass(frozen=True)
class Order:
    """The arguments of `runner.run`, in which `share` has a value."""

    settings: Config
    env: Environment
    build: Constructor
    path: Path
    display: Display
    share: Runs
    until: int | None
    listeners: Sequence[Listener]
    longer: bool = False


class Compiled(NamedTuple):
    """What is known of a run as soon as its programs are compiled.

    Attributes:
        settings: those of the order, with a number for `seeds_per_batch`.
        programs: the compiled programs, for the runs of one group.
        needs: the memory that they need.
        free: the memory that is available on each device, in bytes.
        environment: the fingerprint of the environment.
    """

    settings: Config
    programs: Programs
    needs: memory.Needs
    free: int
    environment: Fingerprint


def compile_runs(order: Order, clock: Clock) -> Compiled:
    """Compile the programs of an order. Raises Refused if the memory is too small or a checkpoint does not fit."""
    settings, env, num_runs = order.settings, order.env, len(order.share)
    free = memory.available(fitting.num_devices(settings, num_runs))
    programs = fitting.programs_of(settings, env, order.build, num_runs)
    order.display.stage(COMPILING)
    with clock.on("compile"), garbage_collection.paused():
        size = 1 if settings.job.seeds_per_batch == "auto" else min(settings.group_size, num_runs)
        fitting.check_fits(settings, fitting.at_least(settings, programs, size), free)
        environment = fingerprint.of(env)
        claims.check_fit(order.path, settings, programs, order.share, environment)
        settings, fitted, needs = fitting.fit(settings, programs, free, num_runs)
        fitting.check_fits(settings, needs, free)
    return Compiled(settings, fitted, needs, free, environment)


def say_compiled(order: Order, made: Compiled, clock: Clock) -> None:
    """Log and print how long compiling took and how much memory the runs need."""
    seconds, total, plan = round(clock.compile, 3), made.needs.total, made.settings.plan
    run_folder.log(order.path, "compiled", seconds=seconds, bytes_needed=total, bytes_free=made.free)
    order.display.say(f"compiled in {clock.compile:.1f} s; {memory.line(made.needs, made.free)}")
    if loop.longest(plan, order.env) < order.env.episode_length and plan.eval_length is None:
        order.display.say(
            f"evaluation episodes end after {loop.LONGEST_EVALUATION:,} steps; --eval-length sets another limit"
        )
