"""Hooks: functions of a user that are called after each evaluation of a run.

A hook gets an `Evaluation`, which holds arrays of the host only. Hooks are called between two stretches of work on the
device, so they do not slow the compiled loop. Training waits while a hook works.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float, Int

from purerl.policies import film, rendering
from purerl.policies.kept import Policies, Sizes
from purerl.policies.layers import Function
from purerl.results.choice import choose
from purerl.settings.schema import Config

if TYPE_CHECKING:
    from purerl.environments.base import Environment
    from purerl.policies.rendering import Player
    from purerl.runs.events import Event, Listener


@dataclass
class Evaluation:
    """An evaluation that just ended. All arrays are copies, so changing them does not change the training.

    Attributes:
        step: the environment step.
        index: the number of the evaluation, from 0; 0 is before training.
        seeds: the seed of each run, `[R]`.
        settings: the number of its setting in a sweep, `[R]`; all 0 without a sweep.
        metrics: `{name: [R]}`, the columns that curves.csv gets, for example `return_mean` and `critic_loss`.
        config: all settings of the run.
        path: the folder of the run.
        stopped: why a hook has asked the run to end, or None.

    With `seeds_per_batch`, the R runs are those that train at the moment.
    """

    step: int
    index: int
    seeds: Int[np.ndarray, " R"]
    settings: Int[np.ndarray, " R"]
    metrics: dict[str, Float[np.ndarray, " R"]]
    config: Config
    path: Path
    stopped: str | None = None
    _fetch: Callable[[], Policies] | None = field(default=None, repr=False)
    _players: "Players | None" = field(default=None, repr=False)
    _policies: Policies | None = field(default=None, repr=False)

    @property
    def returns(self) -> Float[np.ndarray, " R"]:
        """The mean return of each run, `[R]`; NaN for runs that have diverged."""
        return np.where(np.isnan(self.metrics["diverged"]), self.metrics["return_mean"], np.nan)

    @property
    def best(self) -> int | None:
        """The seed with the highest return, or None if all runs have diverged."""
        returns = self.returns
        return None if np.isnan(returns).all() else int(self.seeds[np.nanargmax(returns)])

    @property
    def policies(self) -> Policies:
        """The policies of all R runs at this evaluation. The first use copies them from the device.

        Raises RuntimeError if they are first used after the hook has returned, because training has changed them.
        """
        if self._policies is None:
            if self._fetch is None:
                raise RuntimeError(f"the policies of step {self.step} are gone; take them while the hook runs")
            self._policies = self._fetch()
        return self._policies

    def policy(self, seed: str | int = "best", setting: int | None = None) -> Function:
        """Return a policy at this evaluation as a NumPy function: observation `[..., obs_size]` -> action.

        `seed` is a number, or `best`, `median` or `worst` by the returns of this evaluation. `setting` restricts the
        choice to one setting of a sweep. Actions are in the environment's units. The function stays valid.

        Raises ValueError if there is no such policy.
        """
        return self.policies.function(choose(self.policies, seed, setting))

    def film(
        self, seed: str | int = "best", setting: int | None = None, seconds: float = 10.0, episode: int = 0
    ) -> "tuple[film.Images, float]":
        """Play an episode and return `(frames [n, height, width, 3] uint8, seconds between two frames)`.

        `seed` and `setting` select the policy, as in `policy`. `episode` is the number of the random start. The frames
        are of the first `seconds`. The first call compiles the episode.

        Raises ValueError if the environment has no bodies, or if no library can draw.
        """
        if self._players is None:
            raise RuntimeError("this evaluation belongs to no run, so it has no environment to draw")
        film.use_no_screen()
        index = choose(self.policies, seed, setting)
        poses, _ = rendering.episode(self._players.env, self.policies, index, episode, self._players.get(self.policies))
        return film.frames(rendering.scene_of(self._players.env), poses, seconds)

    def stop(self, reason: str = "a hook") -> None:
        """End the run after this evaluation, with a checkpoint from which it can be resumed."""
        if not isinstance(reason, str) or not reason:
            raise TypeError(f"the reason to stop should be a text that is not empty, not {reason!r}")
        self.stopped = self.stopped or reason


Hook = Callable[[Evaluation], None]


class Players:
    """The function that plays episodes of a run, compiled when it is first used."""

    def __init__(self, env: "Environment", settings: Config) -> None:
        from purerl.training import loop

        self.env = env._replace(episode_length=loop.longest(settings.plan, env))
        self.play: Player | None = None

    def get(self, policies: Policies) -> "Player":
        self.play = self.play or rendering.player(self.env, policies)
        return self.play


def of(value: Any) -> list[Hook]:
    """Return a list of hooks for one hook, several, or None. Raises TypeError for anything that cannot be called."""
    hooks = [] if value is None else [value] if callable(value) else value
    if isinstance(hooks, str) or not isinstance(hooks, Sequence):
        raise TypeError(f"on_evaluation is {value!r}; it should be a function of an Evaluation, or a list of them")
    for hook in hooks:
        if not callable(hook):
            raise TypeError(f"on_evaluation has {hook!r}; it should be a function of an Evaluation")
    return list(hooks)


def listener(hooks: Sequence[Hook], env: "Environment", settings: Config) -> "Listener":
    """Return the listener of a run that calls `hooks`, in order, after every evaluation of a run with `settings`.

    All hooks of an evaluation are called, also after one has asked the run to end.
    """
    players = Players(env, settings)

    def hear(event: "Event") -> "Event | None":
        if event.metrics is None:
            return None
        evaluation = evaluated(event, players)
        for hook in hooks:
            if (said := hook(evaluation)) is not None:
                name = getattr(hook, "__name__", type(hook).__name__)
                raise TypeError(
                    f"the hook {name} returned a value of {type(said).__name__}; it should return None, and end the "
                    "run with evaluation.stop(reason)"
                )
        evaluation._fetch = None
        return event._replace(stop=evaluation.stopped) if evaluation.stopped else None

    return hear


def evaluated(event: "Event", players: Players) -> Evaluation:
    """Return the `Evaluation` of an event that follows an evaluation."""
    from purerl.training import loop

    session, metrics = event.session, event.metrics or {}
    settings, seeds = np.array(session.runs(event.group)).T
    return Evaluation(
        loop.env_steps(session.plan, event.at.index),
        event.at.index,
        seeds,
        settings,
        {name: np.array(values, float) for name, values in metrics.items()},
        session.settings,
        session.path,
        _fetch=lambda: policies_of(event, players.env),
        _players=players,
    )


def policies_of(event: "Event", env: "Environment") -> Policies:
    """Return copies of the policies of an event that follows an evaluation."""
    import jax

    from purerl.runs import epochs

    kept, metrics = jax.tree.map(np.array, epochs.policy_of(event)), event.metrics or {}
    final = {name: np.array(values, float) for name, values in metrics.items()}
    final |= {name: kept[name].astype(float) for name in ("setting", "seed", "env_step")}
    low, high = (np.broadcast_to(np.asarray(x, np.float32), env.action_size) for x in env.action_range)
    return Policies(
        event.session.path,
        event.session.settings,
        kept["actor"],
        kept["observation"],
        kept["env_step"],
        final,
        (low, high),
        Sizes(env.obs_size, env.action_size, env.actor_obs_size),
        int(kept["env_step"][0]),
    )
