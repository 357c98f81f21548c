"""Show the progress of a run: a bar on a terminal, otherwise one line per evaluation."""

import os
import sys
from collections.abc import Iterable, Sequence

import rich.console
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table


class Console(rich.console.Console):
    """A console that becomes silent when its reader is gone, as after `| head`. The run continues."""

    def on_broken_pipe(self) -> None:
        self.quiet = True
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


class Display:
    """The progress of a run. `total` is the environment steps of a run times the number of groups of seeds."""

    def __init__(self, console: rich.console.Console | None = None) -> None:
        self.console = console or Console()
        self.total = 0
        self.bar = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(bar_width=None),
            TextColumn("{task.fields[status]}"),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            console=self.console,
            disable=not self.console.is_terminal,
        )
        self.task = self.bar.add_task("starting", total=None, status="")

    def __enter__(self) -> "Display":
        self.bar.start()
        return self

    def __exit__(self, *error: object) -> None:
        self.bar.stop()

    def stage(self, name: str) -> None:
        """Show the present activity."""
        self.bar.update(self.task, description=name)

    def moved(self, env_step: int) -> None:
        """Advance the bar."""
        self.bar.update(self.task, total=self.total, completed=env_step)

    def evaluation(self, env_step: int, return_iqm: float, updates_per_s: float, diverged: int) -> None:
        """Advance the bar. If the output is not a terminal, print a line."""
        speed = f"  {updates_per_s:,.0f} updates/s" if updates_per_s else ""
        lost = f"  {diverged} diverged" if diverged else ""
        status = f"{env_step:,}/{self.total:,} steps  return (IQM) {return_iqm:.1f}{speed}{lost}"
        self.bar.update(self.task, total=self.total, completed=env_step, status=status)
        if not self.console.is_terminal:
            self.console.print(status, highlight=False, soft_wrap=True)

    def say(self, message: str) -> None:
        self.console.print(message, highlight=False, soft_wrap=True)

    def table(self, title: str, rows: Iterable[tuple[str, str]]) -> None:
        """Print a two-column table of `(name, value)` rows."""
        table = Table(title=title, show_header=False, title_justify="left")
        for _ in range(2):
            table.add_column(overflow="fold")
        for row in rows:
            table.add_row(*row)
        self.console.print(table)

    def columns(self, title: str, names: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
        """Print a table with named columns. All but the first are aligned to the right."""
        table = Table(title=title, title_justify="left")
        for name in names:
            table.add_column(name, justify="right" if name != names[0] else "left", overflow="fold")
        for row in rows:
            table.add_row(*row)
        self.console.print(table)
