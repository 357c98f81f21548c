"""A trained policy, written as one file and compared with what was trained."""

from pathlib import Path

import numpy as np
from jaxtyping import Float

from purerl.policies import acting
from purerl.policies.formats import READERS, WRITERS, Exported
from purerl.policies.kept import Policies, about
from purerl.results import run_folder

TOLERANCE = 1e-5  # in units of half the action's range


def file(kept: Policies, index: int, format: str) -> Path:
    """Where policy number `index` is written unless the user says where."""
    return (kept.path / run_folder.POLICY).with_name(f"{kept.file_name(index)}.{format}")


def export(kept: Policies, index: int, format: str, out: Path) -> float:
    """Write policy number `index` of `kept`, a `Policies`, to the file `out`.

    Returns the largest difference of an action from the trained policy's, in units of half its range, over 1024 random
    observations. Raises ValueError where it is more than 1e-5; then nothing is written.
    """
    policy = Exported(
        kept.layers(index), acting.trained(kept, index), kept.obs_size, kept.action_size, about(kept, index)
    )
    content, observation = WRITERS[format](policy), observations(kept, index)
    low, high = kept.action_range
    error = np.abs(READERS[format](content)(observation) - policy.function(observation)) * 2 / (high - low)
    if not error.max() <= TOLERANCE:
        raise ValueError(
            f"as {format}, actions differ by {error.max():.1e} from the trained policy's, more than {TOLERANCE}"
        )
    run_folder.write(out.parent, out.name, content)
    return float(error.max())


def observations(kept: Policies, index: int, count: int = 1024) -> Float[np.ndarray, "count obs"]:
    """Random observations `[count, obs_size]`, around those that were met where the normaliser knows them."""
    noise = 3 * np.random.default_rng(0).normal(size=(count, kept.obs_size)).astype(np.float32)
    _, statistics = acting.one(kept, index)
    return statistics["mean"] + np.sqrt(statistics["variance"]) * noise if statistics else noise
