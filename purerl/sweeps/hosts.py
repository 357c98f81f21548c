"""Several processes, on one host or many, train one program. Each process has its share of the runs.

The processes do not communicate while they train. Each one distributes its share over its own devices and writes its
own run folder, shares/K-of-N, on a disk that all processes can access. When all shares are complete, the first process
merges the folders. Until then, the files of `--log` hold only a share of the runs. To resume, start the same number of
processes again.
"""

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import jax

from purerl.environments.base import Environment
from purerl.policies import videos
from purerl.results import page, picture, run_folder
from purerl.runs import claims, runner, sinks, warm_start
from purerl.runs.claims import Runs
from purerl.runs.display import Display
from purerl.settings.schema import Config
from purerl.types import Constructor

T = TypeVar("T")

PATIENCE = 30 * 24 * 3600 * 1000  # [ms] to wait for the others; if one dies, jax.distributed reports it sooner
READY = "ready"


@dataclass(frozen=True)
class Host:
    """This process among those of `jax.distributed`."""

    index: int
    count: int

    def agree(self, name: str, word: str) -> list[str]:
        """Wait for all processes. Returns the words that they gave under `name`, which must be used only once."""
        _store().key_value_set(f"{name}/{self.index}", word)
        return [_said(name, index) for index in range(self.count)]

    def in_turn(self, name: str, function: Callable[[], T]) -> T:
        """Call `function()` in the first process, and then in the others. Returns its result.

        Raises ValueError in all processes if one of them raises ValueError or OSError.
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
        """Return this process's part of `runs`. The sizes of the parts differ by at most one."""
        first, end = (len(runs) * (self.index + i) // self.count for i in (0, 1))
        return runs[first:end]

    def folder(self, path: Path) -> Path:
        """Return the folder in which this process's share of the program in the run folder `path` is trained."""
        return path / "shares" / f"{self.index}-of-{self.count}"


def _store() -> Any:
    """Return the coordinator's store of words by name."""
    from jax._src import distributed  # There is no public name for it.

    return distributed.global_state.client


def _said(name: str, index: int) -> str:
    return _store().blocking_key_value_get(f"{name}/{index}", PATIENCE)


def join(coordinator: str | None, num_processes: int | None, process_id: int | None) -> Host | None:
    """Start `jax.distributed`. Returns the `Host` of this process, or None if there is no coordinator.

    If `coordinator` is "auto", all values come from the scheduler. Raises ValueError if the values do not fit together
    or the coordinator cannot be joined.
    """
    if coordinator is None:
        if num_processes is not None or process_id is not None:
            raise ValueError("num_processes and process_id need --coordinator HOST:PORT")
        return None
    if coordinator == "auto":
        address, num_processes, process_id = None, None, None
    elif num_processes is None or process_id is None or not 0 <= process_id < num_processes:
        raise ValueError(
            f"num_processes is {num_processes} and process_id {process_id}; with --coordinator ADDRESS give the "
            "number of processes and the index of this one, from 0; or use --coordinator auto under a scheduler"
        )
    else:
        address = coordinator
    try:
        jax.distributed.initialize(address, num_processes, process_id)
    except (RuntimeError, ValueError) as error:
        raise ValueError(f"cannot join the coordinator {coordinator!r}: {str(error).splitlines()[0]}") from None
    return Host(jax.process_index(), jax.process_count())


def claim(path: Path, settings: Config) -> tuple[Config, bool]:
    """Do what `claims.claim` does for a run that several processes share.

    Until the run is merged, the folder `path` holds only shares.
    """
    if (path / "shares").is_dir() and not (path / "run.toml").is_file():
        return settings, False
    return claims.claim(path, settings)


def run_share(
    settings: Config, env: Environment, build: Constructor, path: Path, display: Display, host: Host
) -> str | None:
    """Train this process's share of the program in the run folder `path`. The first process merges the shares.

    Returns why training ended early in any of the processes, or None. Raises RuntimeError if another process failed.
    """
    early = _together(host, f"{path.name} trained", lambda: _trained(settings, env, build, path, display, host))
    if early:
        return early
    merged = partial(merge, path, settings, env, host.count) if host.index == 0 else lambda: None
    return _together(host, f"{path.name} merged", merged)


def _together(host: Host, name: str, function: Callable[[], str | None]) -> str | None:
    """Call `function()` in all processes. Returns the first reason to end early that one of them returns, or None.

    An error in one process propagates there after the others have heard of it, and raises RuntimeError in them.
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
    """Train this process's share. Returns why it was asked to end early, or None."""
    share = host.share(settings.runs)
    if not share:
        return None
    folder = host.folder(path)
    settings, complete = claims.claim(folder, settings, share)
    if complete:
        return None
    drawn = videos.listeners(settings, env)
    return runner.run(settings, env, build, folder, display, share=share, listeners=drawn).asked


def merge(path: Path, settings: Config, env: Environment, count: int) -> None:
    """Make the run folder `path` from the complete shares of `count` processes, and delete the shares.

    Raises ValueError or OSError if a share cannot be read.
    """
    hosts = (Host(index, count) for index in range(count))
    shares = [host.folder(path) for host in hosts if host.share(settings.runs)]
    claims.create_run(path, settings, env, init=warm_start.recorded(shares[0]))
    for share in shares:
        run_folder.copy_rows(share, path)
        if (share / videos.FOLDER).is_dir():
            shutil.copytree(share / videos.FOLDER, path / videos.FOLDER, dirs_exist_ok=True)
    with sinks.feed(path, settings.keep.log, settings.job.num_seeds) as feed:
        feed()
    picture.write_picture(path, run_folder.read_curves(path), settings.job.algo, env.name, settings.swept)
    run_folder.write_policy(path, run_folder.joined([run_folder.read_policy(share) for share in shares]))
    shutil.rmtree(path / "shares")
    page.write_page(path)
