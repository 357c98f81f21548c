"""Statistics over runs. No JAX here."""

import numpy as np
from scipy import stats


def iqm(values):
    """Interquartile mean of `[..., R]` over R: the mean of the middle half (Agarwal et al. 2021, arXiv:2108.13264).

    NaN, a run that is not there or has diverged, is left out; of nothing but NaN it is NaN.
    """
    values = np.asarray(values, float)
    rows = values.reshape(int(np.prod(values.shape[:-1])), values.shape[-1])
    present = [row[~np.isnan(row)] for row in rows]
    means = [stats.trim_mean(row, 0.25) if len(row) else np.nan for row in present]
    return np.reshape(means, values.shape[:-1])
