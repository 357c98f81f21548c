"""Statistics over runs. No JAX here."""

from scipy import stats


def iqm(values, axis=0):
    """Interquartile mean over `axis`: the mean of the middle half (Agarwal et al. 2021, arXiv:2108.13264)."""
    return stats.trim_mean(values, 0.25, axis=axis)
