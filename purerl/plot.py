"""The picture of a run: its learning curve."""

import numpy as np
from matplotlib.figure import Figure

from purerl.curves import iqm

BLUE = "#0072b2"  # of the colour-blind safe palette of Okabe & Ito


def learning_curve(env_step, returns, title):
    """A Figure: the return of every seed, thin, and their interquartile mean, thick.

    `env_step` `[evaluations]`, `returns` `[evaluations, R]`, NaN where a seed has diverged or is not there yet.
    """
    figure = Figure(figsize=(5.2, 3.4), dpi=160, layout="constrained")
    axes = figure.add_subplot()
    thousands = np.asarray(env_step) / 1e3
    axes.plot(thousands, returns, color=BLUE, alpha=0.25, linewidth=0.6)
    missing = int(np.isnan(returns[-1]).sum())
    label = f"IQM of {returns.shape[1] - missing} seeds" + (f", {missing} left out" if missing else "")
    axes.plot(thousands, iqm(returns), color=BLUE, linewidth=2, label=label)
    axes.set(title=title, xlabel="environment steps [thousands]", ylabel="return of an episode")
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(alpha=0.25)
    axes.legend(frameon=False)
    return figure
