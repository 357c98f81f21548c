"""Show the progress of a run: a bar in a terminal and in a notebook, otherwise one line per evaluation."""

import html
import os
import sys
import time
from collections.abc import Iterable, Sequence
from datetime import timedelta
from typing import Any

import rich.console
from rich.progress import BarColumn, Progress, SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table

COMPILING = "compiling"  # the name of the stage


class Console(rich.console.Console):
    """A console that becomes silent when its reader is gone, as after `| head`. The run continues."""

    def on_broken_pipe(self) -> None:
        self.quiet = True
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _bar(console: rich.console.Console) -> Progress:
    """Return the bar of a terminal. In any other output, it is not shown."""
    return Progress(
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(bar_width=None),
        TextColumn("{task.fields[status]}"),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        console=console,
        disable=not console.is_terminal,
    )


def _plain() -> Console:
    """Return a console of plain text. In a notebook, rich would make a block of HTML of each line."""
    return Console(force_jupyter=False, force_terminal=False)


class NotebookBar:
    """A progress bar in the output of a notebook's cell, with the methods of `rich.progress.Progress` used here.

    It needs no widgets, so it is also in a saved notebook. Every change of text is shown, and the bar moves at most
    five times a second.
    """

    WIDTH = 40  # characters of the bar as plain text
    INTERVAL = 0.2  # seconds between two changes of the bar

    def __init__(self) -> None:
        self.shown: dict[str, Any] = {}
        self.handle: Any = None
        self.begun = self.drawn = time.monotonic()

    def add_task(self, description: str, total: int | None, status: str) -> TaskID:
        self.shown = {"description": description, "total": total, "completed": 0, "status": status}
        return TaskID(0)

    def update(self, task: TaskID, **changes: Any) -> None:
        is_text = any(self.shown[name] != changes.get(name, self.shown[name]) for name in ("description", "status"))
        self.shown |= changes
        if is_text or time.monotonic() - self.drawn >= self.INTERVAL:
            self._draw()

    def start(self) -> None:
        from IPython.display import display

        self.handle = display(self._content(), raw=True, display_id=True)

    def stop(self) -> None:
        self.shown["description"] = "ended"
        self._draw()

    def _draw(self) -> None:
        self.drawn = time.monotonic()
        if self.handle:
            self.handle.update(self._content(), raw=True)

    def _content(self) -> dict[str, str]:
        """Return the bar as `{MIME type: text}`."""
        done, total = self.shown["completed"], self.shown["total"]
        elapsed = timedelta(seconds=int(time.monotonic() - self.begun))
        words = "  ".join(filter(None, (self.shown["description"], self.shown["status"], str(elapsed))))
        value = f' value="{done}" max="{total}"' if total else ""  # Without a value, the bar moves back and forth.
        full = self.WIDTH * done // total if total else 0
        line = f"{'━' * full}{'─' * (self.WIDTH - full)}  {words}"
        return {
            "text/plain": line,
            "text/html": f'<progress{value} style="width: 20em"></progress> <code>{html.escape(words)}</code>',
        }


class Display:
    """The progress of a run. `total` is the environment steps of a run times the number of groups of seeds."""

    def __init__(self, console: rich.console.Console | None = None) -> None:
        self.console = console or Console()
        self.total = 0
        in_notebook = self.console.is_jupyter and not self.console.quiet
        self.has_bar = in_notebook or self.console.is_terminal
        self.bar = NotebookBar() if in_notebook else _bar(self.console)
        self.console = _plain() if in_notebook else self.console
        self.task = self.bar.add_task("starting", total=None, status="")

    def __enter__(self) -> "Display":
        self.bar.start()
        return self

    def __exit__(self, *error: object) -> None:
        self.bar.stop()

    def stage(self, name: str) -> None:
        """Show the present activity. Without a bar, print a line before compiling, which takes long."""
        self.bar.update(self.task, description=name)
        if name == COMPILING and not self.has_bar:
            self.say(f"{name} ...")

    def moved(self, env_step: int) -> None:
        """Advance the bar."""
        self.bar.update(self.task, total=self.total, completed=env_step)

    def evaluation(self, env_step: int, return_iqm: float, updates_per_s: float, diverged: int) -> None:
        """Advance the bar. If there is none, print a line."""
        speed = f"  {updates_per_s:,.0f} updates/s" if updates_per_s else ""
        lost = f"  {diverged} diverged" if diverged else ""
        status = f"{env_step:,}/{self.total:,} steps  return (IQM) {return_iqm:.1f}{speed}{lost}"
        self.bar.update(self.task, total=self.total, completed=env_step, status=status)
        if not self.has_bar:
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
