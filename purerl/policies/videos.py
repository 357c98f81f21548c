"""Videos of the best seed during training, for the setting `log_video_every`."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from purerl.errors import attempt
from purerl.policies import film, hooks, rendering
from purerl.results import run_folder
from purerl.results.choice import choose
from purerl.runs import runner
from purerl.settings.schema import Config

if TYPE_CHECKING:
    from purerl.environments.base import Environment
    from purerl.runs.events import Event, Listener
    from purerl.types import Constructor

FOLDER = "videos"  # in the run folder
SERIES = "video/best"  # of Weights & Biases
SECONDS = 10.0  # of an episode

T = TypeVar("T")


def prepare(settings: Config, path: Path | None = None) -> "tuple[Environment, Constructor]":
    """Return `runner.prepare(settings, path)`. Raises ValueError, too, if videos are to be drawn and cannot be."""
    every = settings.keep.log_video_every
    if not every:
        return runner.prepare(settings, path)
    _checked(every, film.use_no_screen)
    env, build = runner.prepare(settings, path)
    scene = _checked(every, lambda: rendering.scene_of(env))
    _checked(every, lambda: film.draw_once(scene))
    return env, build


def _checked(every: int, check: Callable[[], T]) -> T:
    """Return `check()`. If it raises ValueError, the message names the setting."""
    try:
        return check()
    except ValueError as error:
        text = f"{error}".replace("leave the film out with --film none", "leave the videos out")
        raise ValueError(f"log_video_every is {every}, but {text}") from error


def listeners(settings: Config, env: "Environment") -> "list[Listener]":
    """Return the listeners that draw the videos of a run: one, or none."""
    every = settings.keep.log_video_every
    return [Videos(every, hooks.Players(env, settings), "wandb" in settings.keep.log)] if every else []


@dataclass
class Videos:
    """The listener that draws an episode of the best seed at evaluations 0, `every`, 2 · `every` ….

    A video that cannot be drawn or written is reported, and training goes on.
    """

    every: int
    players: hooks.Players
    in_wandb: bool

    def __call__(self, event: "Event") -> None:
        if event.metrics is None or event.at.index % self.every:
            return
        evaluation = hooks.evaluated(event, self.players)
        if evaluation.best is None:
            return
        event.session.display.stage("drawing")
        try:
            attempt("drawing it", lambda: self._write(evaluation))
        except ValueError as error:
            event.session.display.say(f"no video of step {evaluation.step}: {error}")

    def _write(self, evaluation: hooks.Evaluation) -> None:
        policies = evaluation.policies
        name = f"{FOLDER}/{policies.file_name(choose(policies, 'best'))}.gif"
        run_folder.write(evaluation.path, name, film.gif(*evaluation.film(seconds=SECONDS)))
        if self.in_wandb:
            import wandb

            if run := wandb.run:  # that of the logger, at the step of this evaluation
                run.log({SERIES: wandb.Video(str(evaluation.path / name), format="gif")}, step=run.step)
