"""The record of what stays the same while one process trains a run."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp

from purerl.environments.base import Environment
from purerl.results import run_folder
from purerl.runs import fitting, numbering, pbt
from purerl.runs.clock import Clock, Interrupt, Pace
from purerl.runs.display import Display
from purerl.runs.fingerprint import Fingerprint
from purerl.runs.fitting import Runs
from purerl.runs.numbering import Numbering
from purerl.runs.position import Position
from purerl.settings.schema import Config, Plan
from purerl.training import loop, mapping
from purerl.training.mapping import Numbers
from purerl.types import Agent, Constructor, Policy

if TYPE_CHECKING:
    from purerl.runs.events import Listener

PACED = ("warm_up", "cycles", "refill", "play_on")  # the programs that run in stretches


@dataclass(frozen=True)
class Session:
    """What stays the same while a process trains. Only `paces` change, which are measured during training.

    Attributes:
        settings: the settings of the run; `seeds_per_batch` is a number.
        path: the folder of the run.
        display: shows progress and messages.
        clock: where the time goes.
        interrupt: why the run should end early.
        programs: compiled, for the runs of one group.
        env: the environment.
        build: the constructor of the algorithm.
        checkpoints: writes and reads the checkpoints of the run.
        feed: `() -> None`, passes new rows of curves.csv to the loggers.
        share: the runs that this process trains.
        environment: the fingerprint of the environment.
        until: the evaluation after which the run stops; None: after the last.
        listeners: called after purerl's own, with the same events.
        paces: how many turns a stretch of each program takes.
    """

    settings: Config
    path: Path
    display: Display
    clock: Clock
    interrupt: Interrupt
    programs: mapping.Programs
    env: Environment
    build: Constructor
    checkpoints: ocp.CheckpointManager
    feed: Callable[[], None]
    share: Runs
    environment: Fingerprint
    until: int | None = None
    listeners: "Sequence[Listener]" = ()
    paces: dict[str, Pace] = field(default_factory=lambda: {name: Pace() for name in PACED})

    @property
    def plan(self) -> Plan:
        return self.settings.plan

    @cached_property
    def policy(self) -> Callable[[Agent], Policy]:
        """`(agent) -> policy`, the part of the algorithm's state that selects actions."""
        return self.build(self.settings.hyper, self.plan, self.env).policy

    @cached_property
    def numbering(self) -> Numbering:
        """The numbers of the checkpoints."""
        return numbering.of_run(self.path, self.plan)

    @property
    def groups(self) -> int:
        """The number of groups of runs that are trained, one after another."""
        return -(-len(self.share) // self.group_size)

    @property
    def group_size(self) -> int:
        return min(self.settings.group_size, len(self.share))

    def runs(self, group: int) -> Runs:
        return self.share[group * self.group_size : (group + 1) * self.group_size]

    def rows(self, group: int) -> Runs:
        """Return the runs of a group. The last run is repeated to fill the rows of the program."""
        runs = self.runs(group)
        return runs + runs[-1:] * (len(self.programs.known_carry.diverged) - len(runs))

    def numbers(self, group: int, index: int = 0) -> Numbers:
        """Return the hyperparameters of a group that are traced arrays, after evaluation `index`."""
        numbers = fitting.numbers_of(self.settings, self.rows(group))
        if self.settings.pbt:
            now = pbt.numbers_at(self.path, self.settings, index)
            numbers |= {name: jnp.asarray(self.repeated(group, values)) for name, values in now.items()}
        return mapping.laid_out(self.programs.mesh, numbers)

    def due(self, evaluations: int) -> int:
        """Return the row at which evaluation number `evaluations` is made."""
        return loop.row_of(self.plan, self.programs.cycle, evaluations)

    def env_steps(self, at: Position) -> int:
        """Return the environment step to which the agents of a `Position` were trained."""
        return at.row * self.plan.num_envs if at.row > self.plan.warmup_rows else 0

    def without_copies(self, group: int, tree: Any) -> Any:
        """Return `tree` with an axis over the runs of a group, without the copies of the last run."""
        runs, rows = len(self.runs(group)), len(self.rows(group))
        return tree if runs == rows else jax.tree.map(lambda x: x[:runs], tree)

    def with_copies(self, group: int, tree: Any) -> Any:
        """Return `tree` with an axis over the rows of the program, distributed over its devices."""
        return mapping.laid_out(self.programs.mesh, jax.tree.map(lambda x: self.repeated(group, x), tree))

    def repeated(self, group: int, x: Any) -> Any:
        """Return `x` `[runs, ...]` with the copies of the last run that fill the rows of the program."""
        runs, rows = len(self.runs(group)), len(self.rows(group))
        return x if runs == rows else x[np.minimum(np.arange(rows), runs - 1)]

    def log(self, event: str, **facts: Any) -> None:
        """Append a line to log.jsonl."""
        run_folder.log(self.path, event, **facts)
