"""Export a trained policy to one file, and compare the file with the trained policy."""

from pathlib import Path

import numpy as np
from jaxtyping import Float

from purerl.policies import acting
from purerl.policies.formats import OF_LAYERS, READERS, WRITERS, Exported, check_layers
from purerl.policies.kept import Policies, about, is_purerls_own
from purerl.results import run_folder

TOLERANCE = 1e-5  # in units of half the action's range


def file(kept: Policies, index: int, format: str) -> Path:
    """Return the default path of the exported policy number `index`."""
    return (kept.path / run_folder.POLICY).with_name(f"{kept.file_name(index)}.{format}")


def export(kept: Policies, index: int, format: str, out: Path) -> float:
    """Write policy number `index` of `kept` to the file `out`.

    Returns the largest difference between an action of the file and that of the trained policy, over 1024 random
    observations. The unit is half the action range. If the difference is more than 1e-5, nothing is written and
    ValueError is raised.
    """
    policy = Exported(
        kept.layers(index), acting.trained(kept, index), kept.obs_size, kept.action_size, about(kept, index)
    )
    content, observation = WRITERS[format](policy), observations(kept, index)
    low, high = kept.action_range
    error = np.abs(READERS[format](content)(observation) - policy.function(observation)) * 2 / (high - low)
    if not error.max() <= TOLERANCE:
        if format in OF_LAYERS and not is_purerls_own(kept.path):
            check_layers(policy._replace(layers=None), format)  # The parameters only look like those of known layers.
        raise ValueError(
            f"actions of the {format} file differ by {error.max():.1e} from the trained policy, more than {TOLERANCE}"
        )
    run_folder.write(out.parent, out.name, content)
    return float(error.max())


def observations(kept: Policies, index: int, count: int = 1024) -> Float[np.ndarray, "count obs"]:
    """Return random observations `[count, obs_size]`, with mean and scale of the training observations if known."""
    noise = 3 * np.random.default_rng(0).normal(size=(count, kept.obs_size)).astype(np.float32)
    _, statistics = acting.one(kept, index)
    if statistics:
        return statistics["mean"] + np.sqrt(statistics["variance"]) * noise
    first, *_ = kept.layers(index) or [{"kind": None}]
    return first["mean"] + first["std"] * noise if first["kind"] == "normalize" else noise
