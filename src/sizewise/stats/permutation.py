"""Sign-flip tests on clusters: how much two systems differ when their answers are swapped at random.

Source: Fisher (1935), The Design of Experiments, section 21; by cluster after Canay, Santos and Shaikh (2018),
The wild bootstrap with a "small" number of "large" clusters.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]

EXACT_CLUSTERS = 13
"""Maximum number of differing clusters for which all assignments are enumerated (4,096 of them)."""
DRAWS = 5_000
"""Number of random assignments for more clusters."""
DOMINANT = 0.02
"""Minimum share of the largest cluster in the total squared influence for random assignments to matter."""


def sign_flip_p(left: FloatArray, right: FloatArray, value: Callable[[FloatArray], FloatArray], seed: int = 0) -> float:
    """Compute the two-sided p-value of swapping the two systems cluster by cluster.

    The test is exact if at most EXACT_CLUSTERS clusters differ. With more, random assignments are drawn only if a few
    clusters dominate, because a t-test then reports far too many differences. If no cluster dominates, or no draw
    reaches the observed difference, the result is the smallest p-value of the exact test, 2 ** (1 - differing). It
    serves as a lower bound, so that correcting for hundreds of claims isn't limited by the number of draws.

    Args:
        left: (clusters, k) sums of the first system.
        right: (clusters, k) sums of the second.
        value: turns sums (..., k) into values (...).
        seed: seed of the draws.
    """
    differing = (left != right).any(axis=1)
    count = int(differing.sum())
    if count == 0:
        return 1.0
    center, half = (left + right).sum(axis=0) / 2, (left - right)[differing] / 2

    def difference(shift: FloatArray) -> FloatArray:
        return value(center + shift) - value(center - shift)

    observed = difference(half.sum(axis=0))
    min_p = float(2.0 ** (1 - count))
    if count <= EXACT_CLUSTERS:
        # Flipping all clusters gives the same distance, so the last one stays fixed.
        flips = (np.arange(2 ** (count - 1))[:, None] >> np.arange(count)) & 1
    else:
        influence = np.square(observed - difference(half.sum(axis=0) - 2 * half))
        if not influence.max() > DOMINANT * influence.sum():
            return min_p
        flips = np.random.default_rng(seed).integers(0, 2, (DRAWS, count), dtype=np.int8)
    distances = np.abs(difference((1.0 - 2.0 * flips) @ half))
    # An assignment without a value counts against the claim.
    exceeding = ~np.isfinite(distances) | (distances >= np.abs(observed) * (1 - 1e-9))
    if count <= EXACT_CLUSTERS:
        return float(exceeding.mean())
    return float((1 + exceeding.sum()) / (1 + DRAWS)) if exceeding.any() else min_p
