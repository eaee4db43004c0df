"""Percentile intervals of resampled values, for statistics without a closed form.

Source: Efron and Tibshirani, An Introduction to the Bootstrap (1993).
"""

from __future__ import annotations

import numpy as np

from sizewise.stats.inference import FloatArray


def percentile_interval(values: FloatArray, level: float = 0.95) -> tuple[float, float]:
    """Compute the percentile interval of resampled values, ignoring resamples without a value."""
    values = values[np.isfinite(values)]
    if len(values) == 0:
        return float("nan"), float("nan")
    tail = (1 - level) / 2
    ci_low, ci_high = np.quantile(values, [tail, 1 - tail])
    return float(ci_low), float(ci_high)
