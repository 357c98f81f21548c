"""Several processes, on one host or many, train one program: each has its share of the runs.

Nothing is said between them while they train: each lays its share out over its own devices and writes a run folder of
its own, shares/K-of-N, on a disk that all of them see. The first merges the folders when all are complete; what
`--log` asks for has a share of the runs until then. What was stopped goes on where the same number of processes is
started again.
"""

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import jax

from purerl.environments.base import Environment
from purerl.results import page, picture, run_folder
from purerl.runs import claims, runner, sinks
from purerl.runs.claims import Runs
from purerl.runs.display import Display
from purerl.settings.schema import Config
from purerl.types import Constructor

T = TypeVar("T")

PATIENCE = 30 * 24 * 3600 * 1000  # [ms] for the others to end; of one that died, jax.distributed tells sooner
READY = "ready"


@dataclass(frozen=True)
class Host:
    """This process among those of `jax.distributed`."""

    index: int
    count: int

    def agree(self, name: str, word: str) -> list[str]:
        """Wait for all processes; returns the words that they said under this name, which is used but once."""
        _store().key_value_set(f"{name}/{self.index}", word)
        return [_said(name, index) for index in range(self.count)]

    def in_turn(self, name: str, function: Callable[[], T]) -> T:
        """`function()`, called in the first process before it is in the others.

        Raises ValueError in all of them where one raises ValueError or OSError.
        """
        results: list[T] = []
        word = _said(name, 0) if self.index else READY
        if word == READY:
            try:
                results.append(function())
            except (ValueError, OSError) as error:
                word = str(error)
        for index, said in enumerate(self.agree(name, word)):
            if said != READY:
                raise ValueError(f"process {index}: {said}")
        return results[0]

    def share(self, runs: Runs) -> Runs:
        """This process's part of `runs`: as many as any other's, or one less."""
        first, end = (len(runs) * (self.index + i) // self.count for i in (0, 1))
        return runs[first:end]

    def folder(self, path: Path) -> Path:
        """Where this process's share of the program in the run folder `path` is trained."""
        return path / "shares" / f"{self.index}-of-{self.count}"


def _store() -> Any:
    """The coordinator's, of words by name."""
    from jax._src import distributed  # It has no public name.

    return distributed.global_state.client


def _said(name: str, index: int) -> str:
    return _store().blocking_key_value_get(f"{name}/{index}", PATIENCE)


def join(coordinator: str | None, num_processes: int | None, process_id: int | None) -> Host | None:
    """Start `jax.distributed`; `coordinator` "auto" leaves all to what the scheduler says. Raises ValueError.

    Returns the `Host` that this process is; None where there is no coordinator.
    """
    if coordinator is None:
        if num_processes is not None or process_id is not None:
            raise ValueError("num_processes and process_id need --coordinator HOST:PORT")
        return None
    if coordinator == "auto":
        address, num_processes, process_id = None, None, None
    elif num_processes is None or process_id is None or not 0 <= process_id < num_processes:
        raise ValueError(
            f"num_processes is {num_processes} and process_id {process_id}; with --coordinator ADDRESS say how many "
            "processes there are, and which this is, counted from 0; or --coordinator auto under a scheduler"
        )
    else:
        address = coordinator
    try:
        jax.distributed.initialize(address, num_processes, process_id)
    except (RuntimeError, ValueError) as error:
        raise ValueError(f"cannot join the coordinator {coordinator!r}: {str(error).splitlines()[0]}") from None
    return Host(jax.process_index(), jax.process_count())


def claim(path: Path, settings: Config) -> tuple[Config, bool]:
    """`claims.claim`, where several processes share the run: until it is merged, the folder `path` has but shares."""
    if (path / "shares").is_dir() and not (path / "run.toml").is_file():
        return settings, False
    return claims.claim(path, settings)


def run_share(
    settings: Config, env: Environment, build: Constructor, path: Path, display: Display, host: Host
) -> str | None:
    """Train this process's share of the program in the run folder `path`; the first process merges the shares.

    Returns why it ended early, in any of the processes, or None. Raises RuntimeError where another one failed.
    """
    early = _together(host, f"{path.name} trained", lambda: _trained(settings, env, build, path, display, host))
    if early:
        return early
    merged = partial(merge, path, settings, env, host.count) if host.index == 0 else lambda: None
    return _together(host, f"{path.name} merged", merged)


def _together(host: Host, name: str, function: Callable[[], str | None]) -> str | None:
    """`function()` in all processes, which know of each other's: the first reason that one returns, or None.

    Raises RuntimeError where it raised in another, after they heard of it.
    """
    word = "failed"
    try:
        word = function() or "complete"
    finally:
        words = host.agree(name, word)
    if early := [word for word in words if word not in ("complete", "failed")]:
        return early[0]
    if "failed" in words:
        raise RuntimeError(f"process {words.index('failed')} of {host.count} failed")
    return None


def _trained(
    settings: Config, env: Environment, build: Constructor, path: Path, display: Display, host: Host
) -> str | None:
    """Why training this process's share was to end early, or None."""
    share = host.share(settings.runs)
    if not share:
        return None
    folder = host.folder(path)
    settings, complete = claims.claim(folder, settings, share)
    if complete:
        return None
    return runner.run(settings, env, build, folder, display, share=share).asked


def merge(path: Path, settings: Config, env: Environment, count: int) -> None:
    """Make the run folder `path` of the complete shares of `count` processes, and delete them.

    Raises ValueError or OSError where one cannot be read.
    """
    hosts = (Host(index, count) for index in range(count))
    shares = [host.folder(path) for host in hosts if host.share(settings.runs)]
    claims.create_run(path, settings, env)
    for share in shares:
        run_folder.copy_rows(share, path)
    with sinks.feed(path, settings.keep.log, settings.job.num_seeds) as feed:
        feed()
    picture.write_picture(path, run_folder.read_curves(path), settings.job.algo, env.name, settings.swept)
    run_folder.write_policy(path, run_folder.joined([run_folder.read_policy(share) for share in shares]))
    shutil.rmtree(path / "shares")
    page.write_page(path)
