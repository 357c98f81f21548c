"""curve.png: the learning curves of a run folder."""

import io
from pathlib import Path

import numpy as np

from purerl.results import comparison, figures, run_folder
from purerl.settings import registry


def write_picture(path: Path, curves: dict[str, np.ndarray], algo: str, env: str, swept: dict) -> None:
    """Write curve.png into the folder `path` of a run of `algo` on `env`.

    `curves` are its curves.csv, `{column: [rows]}`. What a seed returned after it diverged is left out. Where
    hyperparameters are `swept`, every setting has a line.
    """
    if swept:
        figure = comparison.figure(comparison.lines(path, env))
    else:
        title = f"{registry.display_name(algo)} on {env}"
        figure = figures.seeds_of_a_run(*comparison.returns_until_divergence(curves), title)
    picture = io.BytesIO()
    figure.savefig(picture, format="png")
    run_folder.write(path, "curve.png", picture.getvalue())
