"""Sign-flip tests on clusters: how far two systems differ if whose answer is whose is drawn by lot.

Source: Fisher (1935), The Design of Experiments, section 21; by cluster after Canay, Santos and Shaikh (2018),
The wild bootstrap with a "small" number of "large" clusters.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]

EXACT_CLUSTERS = 13
"""Up to so many clusters that differ every assignment is tried (4,096 of them)."""
DRAWS = 5_000
"""Assignments that are drawn where there are more."""
DOMINANT = 0.02
"""Share of the squared influence of all clusters that the largest must have for draws to be worth their time."""
MIN_CLUSTERS = 10
"""Independent clusters (source documents) below which no claim is made, whatever the p-value."""


def sign_flip_p(left: FloatArray, right: FloatArray, value: Callable[[FloatArray], FloatArray], seed: int = 0) -> float:
    """Compute the two-sided p-value of swapping the two systems cluster by cluster.

    Exact where at most EXACT_CLUSTERS clusters differ. With more, assignments are drawn if a few clusters outweigh the
    others, where a t-test finds far too much. Where no draw is as far apart, or none outweighs, it returns the least
    p-value that the exact test could have, 2 ** (1 - differing): a lower bound for p-values taken from elsewhere, so
    that a correction for hundreds of claims is not held up by the number of draws.

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
    centre, half = (left + right).sum(axis=0) / 2, (left - right)[differing] / 2

    def difference(moved: FloatArray) -> FloatArray:
        return value(centre + moved) - value(centre - moved)

    whole = difference(half.sum(axis=0))
    least = float(2.0 ** (1 - count))
    if count <= EXACT_CLUSTERS:
        # A flip of all clusters gives the same distance, so the last one stays where it is.
        flips = (np.arange(2 ** (count - 1))[:, None] >> np.arange(count)) & 1
    else:
        influence = np.square(whole - difference(half.sum(axis=0) - 2 * half))
        if not influence.max() > DOMINANT * influence.sum():
            return least
        flips = np.random.default_rng(seed).integers(0, 2, (DRAWS, count), dtype=np.int8)
    apart = np.abs(difference((1.0 - 2.0 * flips) @ half))
    # A resample without a value counts against the claim.
    further = ~np.isfinite(apart) | (apart >= np.abs(whole) * (1 - 1e-9))
    if count <= EXACT_CLUSTERS:
        return float(further.mean())
    return float((1 + further.sum()) / (1 + DRAWS)) if further.any() else least
