"""Names for the folders of new runs."""

import re
from contextlib import suppress
from datetime import datetime
from pathlib import Path

from purerl.settings.schema import Job


def named(out: str) -> Path:
    """The folder that the user calls `out`. Raises ValueError where it can be none."""
    if not out:
        raise ValueError("out is empty; name a folder")
    path = Path(out).expanduser()
    try:
        taken = (path.exists() and not path.is_dir()) or (path.is_symlink() and not path.exists())
    except OSError as error:
        raise ValueError(f"out {out!r} cannot be read: {error.strerror}; name another folder") from None
    if taken:
        raise ValueError(f"out {out!r} exists already and is no folder; name another")
    return path


def default(job: Job) -> Path:
    """The folder of a run for which the user named none: runs/ALGO-ENV-TIME."""
    name = re.sub(r"[^\w-]+", "-", Path(job.env.rpartition(":")[2]).stem)
    return Path("runs") / f"{job.algo.rpartition(':')[2]}-{name}-{datetime.now():%Y%m%d-%H%M%S}"


def fresh(path: Path) -> Path:
    """Make the folder `path`; where another process has made it in the same second, `path`-2, and so on."""
    number, free = 1, path
    while True:
        with suppress(FileExistsError):
            free.mkdir(parents=True)
            return free
        number += 1
        free = path.with_name(f"{path.name}-{number}")
