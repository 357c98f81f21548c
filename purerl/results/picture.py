"""Write curve.png, the learning curves of a run folder."""

import io
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from purerl.results import comparison, figures, run_folder
from purerl.settings import registry

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def write_picture(path: Path, curves: run_folder.Curves, algo: str, env: str, swept: Mapping[str, Any]) -> None:
    """Write curve.png into the folder `path` of a run of `algo` on `env`.

    `curves` is its curves.csv, `{column: [rows]}`. Returns of a seed after it diverged are left out. If hyperparameters
    are `swept`, every setting has a line.
    """
    picture = io.BytesIO()
    draw(path, curves, algo, env, swept).savefig(picture, format="png")
    run_folder.write(path, "curve.png", picture.getvalue())


def draw(path: Path, curves: run_folder.Curves, algo: str, env: str, swept: Mapping[str, Any]) -> "Figure":
    """Return the figure of curve.png."""
    if swept:
        return comparison.figure(comparison.lines(path, env))
    title = f"{registry.display_name(algo)} on {env}"
    return figures.seeds_of_a_run(*comparison.returns_until_divergence(curves), title)
