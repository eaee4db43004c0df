"""Correction for multiple comparisons."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from scipy.stats import false_discovery_control


def holm(p_values: Sequence[float]) -> list[float]:
    """Adjust p-values so that the family-wise error rate stays below the level.

    Source: Holm (1979), A simple sequentially rejective multiple test procedure.

    Returns:
        Adjusted p-values in the given order. NaN stays NaN and counts as a claim.
    """
    order = sorted(range(len(p_values)), key=lambda i: (p_values[i] != p_values[i], p_values[i]))
    adjusted = [float("nan")] * len(p_values)
    running = 0.0
    for rank, i in enumerate(order):
        if p_values[i] == p_values[i]:
            running = max(running, min(1.0, (len(p_values) - rank) * p_values[i]))
            adjusted[i] = running
    return adjusted


def false_discovery(p_values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Adjust p-values so that, at most, the level's share of all discoveries is false.

    Source: Benjamini and Hochberg (1995), Controlling the false discovery rate.
    """
    return np.asarray(false_discovery_control(np.asarray(p_values, dtype=np.float64)), dtype=np.float64)
