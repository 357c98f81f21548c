"""Names of the folders of new runs."""

import re
from contextlib import suppress
from datetime import datetime
from pathlib import Path

from purerl.settings.schema import Job


def named(out: str) -> Path:
    """Return the folder `out` of the user. Raises ValueError if it cannot be a folder."""
    if not out:
        raise ValueError("out is empty; name a folder")
    path = Path(out).expanduser()
    try:
        taken = (path.exists() and not path.is_dir()) or (path.is_symlink() and not path.exists())
    except OSError as error:
        raise ValueError(f"out {out!r} cannot be read: {error.strerror}; name another folder") from None
    if taken:
        raise ValueError(f"out {out!r} exists and is not a folder; name another")
    return path


def default(job: Job) -> Path:
    """Return the default folder of a run: runs/ALGO-ENV-TIME."""
    name = re.sub(r"[^\w-]+", "-", Path(job.env.rpartition(":")[2]).stem)
    return Path("runs") / f"{job.algo.rpartition(':')[2]}-{name}-{datetime.now():%Y%m%d-%H%M%S}"


def fresh(path: Path) -> Path:
    """Create the folder `path` and return it. If it exists already, create `path`-2, `path`-3 and so on instead."""
    number, free = 1, path
    while True:
        with suppress(FileExistsError):
            free.mkdir(parents=True)
            return free
        number += 1
        free = path.with_name(f"{path.name}-{number}")
