"""Student's t-test and its form corrected for skewness, each with the interval that it leaves."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.special import stdtr, stdtrit

FloatArray = npt.NDArray[np.float64]
LEVEL = 0.05
"""Significance level of a claim; intervals are at 1 - LEVEL."""
TIE = 1e-9
"""Relative distance below which two values are equal."""


class TTest(NamedTuple):
    """P-value of zero, and the ends of the interval that the same test leaves."""

    p: float
    lower: float
    upper: float


def t_isf(level: float, df: float) -> float:
    """Return what a t-distributed value exceeds with probability `level`; without the overhead of scipy.stats."""
    return float(-stdtrit(df, level))


def t_sf(value: float, df: float) -> float:
    """Return how likely a t-distributed value exceeds this one."""
    return float(stdtr(df, -value))


def t_test(value: float, error: float, df: float) -> TTest:
    """Test whether a value with a standard error is zero."""
    if error <= TIE * abs(value):
        return TTest(0.0 if value else 1.0, value, value)
    half = t_isf(LEVEL / 2, df) * error
    return TTest(float(2 * t_sf(abs(value) / error, df)), value - half, value + half)


def skewed_t_test(value: float, pseudo: FloatArray, df: float) -> TTest:
    """Test with a t-statistic that a cubic transformation freed of the skewness of the clusters (Hall, 1992)."""
    count = len(pseudo)
    spread = float(pseudo.std(ddof=1))
    if spread == 0:
        return TTest(0.0 if value else 1.0, value, value)
    skewness = float(((pseudo - pseudo.mean()) ** 3).mean() / pseudo.std() ** 3)
    third = skewness / 3

    def transformed(w: float) -> float:
        return w + third * w**2 + third**2 * w**3 / 3 + skewness / (6 * count)

    def inverse(z: float) -> float:
        z -= skewness / (6 * count)
        return z if abs(third) < 1e-9 else (float(np.cbrt(1 + 3 * third * z)) - 1) / third

    half = t_isf(LEVEL / 2, df) / np.sqrt(count)
    p = float(2 * t_sf(abs(transformed(value / spread)) * np.sqrt(count), df))
    return TTest(p, value - spread * inverse(half), value - spread * inverse(-half))
