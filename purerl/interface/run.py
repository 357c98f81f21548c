"""`Run`: the folder of a run as an object."""

import html
import json
import sys
from collections.abc import Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float

if TYPE_CHECKING:
    import pandas
    from matplotlib.figure import Figure

    from purerl.interface.launch import Claimed
    from purerl.policies.hooks import Hook
    from purerl.policies.layers import Function
    from purerl.settings.schema import Config


class Run:
    """A run of `purerl.train`, or of the command line: its folder, and what can be done with it.

    `purerl.train` and `purerl.load` return it. Everything is read from the folder when it is asked for, so a `Run` also
    shows how far a run of another process has come.

    Attributes:
        path: the folder.
    """

    def __init__(self, path: Path, given: dict[tuple[str, str], Any] | None = None) -> None:
        self.path = path
        self._given = given or {}

    @property
    def settings(self) -> "Config":
        """All settings, as the run resolved them."""
        from purerl.settings import config

        with self._objects():
            return config.resolve({}, self.path / "run.toml")

    @property
    def curves(self) -> "pandas.DataFrame":
        """The learning curves: one row per evaluation, setting and seed, from `purerl.results.curves.load`.

        Raises ValueError before the first evaluation.
        """
        from purerl.results import curves

        return curves.load(self.path)

    @property
    def final(self) -> "pandas.DataFrame":
        """The last evaluation of each seed: the last row of `curves` for each setting and seed."""
        frame = self.curves.sort_values("env_step", kind="stable")
        return frame.groupby(["setting", "seed"]).tail(1).sort_values(["setting", "seed"]).reset_index(drop=True)

    @property
    def returns(self) -> "pandas.Series":
        """The last return of each seed, by its number; in a sweep by setting and seed. NaN for diverged seeds."""
        import pandas

        final = self.final
        index = ["setting", "seed"] if len(np.unique(final["setting"])) > 1 else ["seed"]
        values = np.where(np.isnan(final["diverged"]), final["return_mean"], np.nan)
        return pandas.Series(values, final.set_index(index).index, name="return_mean")

    @property
    def complete(self) -> bool:
        """Whether the run has reached its end."""
        from purerl.runs import claims

        return claims.is_complete(self.path, self.settings)

    @property
    def interrupted(self) -> str | None:
        """Why the run ended early, for example "SIGINT", "time limit" or what a hook said; None if it is complete.

        A run that is still training, or whose process was killed, is "not finished".
        """
        if self.complete:
            return None
        with open(self.path / "log.jsonl") as file:
            events = [json.loads(line) for line in file if line.endswith("\n")]
        last = next((each for each in reversed(events) if each["event"] in ("end", "compiled")), {})
        return last.get("interrupted") or "not finished"

    def policy(self, seed: str | int = "best", *, setting: int | None = None, at: int | None = None) -> "Function":
        """Return a trained policy as a NumPy function: observation `[..., obs_size]` -> action `[..., action_size]`.

        The arguments are those of `purerl.load_policy`: `seed` is a number, or "best", "median" or "worst" by final
        return. `setting` restricts the choice to one setting of a sweep. `at` is the environment step of a checkpoint.
        """
        from purerl.policies.load import load_policy

        with self._objects():
            return load_policy(self.path, seed, setting, at)

    def evaluate(
        self,
        seed: str | int = "all",
        *,
        episodes: int = 100,
        setting: int | None = None,
        at: int | None = None,
        env: Any = None,
    ) -> Float[np.ndarray, "policies episodes"]:
        """Play whole episodes without exploration noise and return their returns, `[policies, episodes]`.

        `seed`, `setting` and `at` select the policies as in `policy`; "all" selects all, in the order of `final`. `env`
        is another environment of the same sizes. All policies start from the same random states.

        Raises ValueError if there is no such policy, or if the environment has other sizes.
        """
        from purerl import objects
        from purerl.interface import given
        from purerl.policies import evaluation, load
        from purerl.results import choice

        if isinstance(episodes, bool) or not isinstance(episodes, int | np.integer) or episodes < 1:
            raise ValueError(f"episodes is {episodes!r}; it should be a whole number of at least 1")
        name, found = (None, {}) if env is None else given.named_env(env)
        with self._objects(), objects.using(found):
            kept = load.read_policies(self.path, at)
            chosen = choice.several(kept, seed, setting)
            return evaluation.returns(evaluation.environment(kept, name), kept, chosen, int(episodes))["purerl"]

    def plot(self) -> "Figure":
        """Return the figure of the learning curves, as in curve.png. A notebook shows it if it ends a cell.

        Raises ValueError before the first evaluation.
        """
        from purerl.results import picture, run_folder

        _show_figures()
        self.curves  # noqa: B018  # Raises ValueError if there are none.
        curves, settings = run_folder.read_curves(self.path), self.settings
        return picture.draw(self.path, curves, settings.job.algo, settings.job.env, settings.swept)

    def resume(
        self,
        *,
        total_steps: int | float | str | None = None,
        rescale_schedules: bool = False,
        on_evaluation: "Hook | Sequence[Hook] | None" = None,
        progress: bool = True,
        **settings: Any,
    ) -> "Run":
        """Continue an unfinished run, or make any run longer, and return it. The arguments are those of `purerl.train`.

        Besides `total_steps`, only settings of `Keep` may be given, for example `time_limit`, because the others
        determine the results. Functions of `on_evaluation` must be given again.

        Args:
            total_steps: the new length of the run. Without schedules, the result is bit-identical to a run that was
                longer from its start.
            rescale_schedules: whether schedules may follow the new length. Without it, a run with schedules is refused.

        Raises ValueError if another setting is given, if the length does not fit, or if the run is complete.
        """
        from purerl.interface import launch
        from purerl.interface.training import _plain
        from purerl.policies import hooks
        from purerl.settings import config
        from purerl.settings.kinds import checked, fields
        from purerl.settings.schema import Keep, Plan

        if said := [name for name in settings if name not in fields(Keep)]:
            known = config.all_settings(self.settings.job.algo)
            raise ValueError(
                f"a resumed run keeps its settings; leave out {', '.join(said)}"
                if said[0] in known
                else config.why_unknown(said[0], self.settings.job.algo)
            )
        if rescale_schedules and total_steps is None:
            raise ValueError("rescale_schedules needs total_steps, the new length of the run")
        called = hooks.of(on_evaluation)
        with self._objects():
            resolved = config.resolve(_plain(settings), self.path / "run.toml")
            length = None if total_steps is None else checked(Plan, "total_steps", _plain(total_steps))
            claimed = launch.claimed(
                resolved, self.path, resumes=True, total_steps=length, rescale_schedules=rescale_schedules
            )
            self._carry_out(claimed, called, progress)
        return self

    def _carry_out(self, claimed: "Claimed", called: "Sequence[Hook]", progress: bool) -> None:
        """Train, calling the hooks."""
        import rich.console

        from purerl.interface import launch
        from purerl.policies import hooks
        from purerl.runs.display import Display

        display = Display() if progress else Display(rich.console.Console(quiet=True))
        listeners = [hooks.listener(called, claimed.env, claimed.settings)] if called else []
        launch.carried_out(claimed, self.path, display, listeners)

    def _objects(self) -> AbstractContextManager[None]:
        """Let names mean the objects of this run in a `with` block."""
        from purerl import objects

        return objects.using(self._given)

    def _facts(self) -> dict[str, str]:
        """Return `{name: text}` of what the representations show."""
        from purerl.results import run_folder
        from purerl.results.statistics import iqm, present
        from purerl.runs import summary

        settings = self.settings
        state = "complete" if self.complete else f"ended early: {self.interrupted}"
        facts = {"algo": settings.job.algo, "env": settings.job.env, "runs": summary.size(settings), "state": state}
        curves = run_folder.read_curves(self.path)
        if len(curves["env_step"]):
            returns = present(self.returns.to_numpy(float))
            facts["step"] = f"{int(curves['env_step'].max()):,} of {settings.plan.total_steps:,}"
            facts["return (IQM)"] = f"{float(iqm(returns)):.1f}" if len(returns) else "none"
        return facts | {"path": str(self.path)}

    def __repr__(self) -> str:
        facts = self._facts()
        first = f"{facts.pop('algo')} on {facts.pop('env')}, {facts.pop('runs')}, {facts.pop('state')}"
        return f"<Run {first}, " + ", ".join(f"{name} {text}" for name, text in facts.items()) + ">"

    def _repr_html_(self) -> str:
        cells = (f"<tr><th>{name}</th><td>{html.escape(text)}</td></tr>" for name, text in self._facts().items())
        return f"<table>{''.join(cells)}</table>"


def _show_figures() -> None:
    """Let a notebook show figures that were not made by pyplot, unless it does already."""
    if "IPython" not in sys.modules:
        return
    from IPython import get_ipython
    from IPython.core.pylabtools import select_figure_formats
    from matplotlib.figure import Figure

    formatters = getattr(getattr(get_ipython(), "display_formatter", None), "formatters", {})
    if formatters and not any(Figure in each.type_printers for each in formatters.values()):
        select_figure_formats(get_ipython(), {"png"})
