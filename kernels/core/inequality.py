"""Measures of inequality on batches of distributions."""
from kernels.core.arrays import Array, namespace


def gini(x: Array) -> Array:
    """Gini coefficient sum_i (2i - n - 1) x_(i) / (n sum x) along the last axis, 0 for a zero total; values below zero count as zero."""
    xp = namespace(x)
    ranked = xp.sort(xp.maximum(x, 0), -1)
    n = x.shape[-1]
    weights = (2 * xp.arange(1, n + 1) - n - 1).astype(x.dtype)
    total = ranked.sum(-1)
    return (ranked * weights).sum(-1) / xp.where(total > 0, n * total, 1)
