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
MIN_CLUSTERS = 10
"""Independent clusters (source documents) below which no claim is made, whatever the p-value."""


def sign_flip_p(left: FloatArray, right: FloatArray, value: Callable[[FloatArray], FloatArray]) -> float:
    """Compute the two-sided p-value of swapping the two systems cluster by cluster.

    Exact where at most EXACT_CLUSTERS clusters differ. With more it returns the least p-value that the exact test
    could have, 2 ** (1 - differing): a lower bound for p-values that are taken from elsewhere.

    Args:
        left: (clusters, k) sums of the first system.
        right: (clusters, k) sums of the second.
        value: turns sums (..., k) into values (...).
    """
    differing = (left != right).any(axis=1)
    count = int(differing.sum())
    if count == 0:
        return 1.0
    if count > EXACT_CLUSTERS:
        return float(2.0 ** (1 - count))
    # A flip of all clusters gives the same distance, so the first one stays where it is.
    flips = (np.arange(2 ** (count - 1))[:, None] >> np.arange(count)) & 1
    signs = 1.0 - 2.0 * flips
    centre, half = (left + right).sum(axis=0) / 2, (left - right)[differing] / 2
    moved = signs @ half
    apart = np.abs(value(centre + moved) - value(centre - moved))
    # A resample without a value counts against the claim.
    further = ~np.isfinite(apart) | (apart >= apart[0] * (1 - 1e-9))
    return float(further.mean())
