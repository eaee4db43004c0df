"""A win rate at even length.

People, and models still more, lean to the longer of two answers. The win rate is regressed on the difference in length
and read off where there is none: a logistic regression of shares (Papke and Wooldridge, 1996, Econometric methods for
fractional response variables), as Dubois et al. (2024), Length-controlled AlpacaEval, do for judge models.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.special import expit

from sizewise.stats.bootstrap import FloatArray, Interval, percentile_interval

STEPS = 25
RIDGE = 1e-2  # of the slope, in votes: finite where length alone decides


def even_length_rate(
    share: FloatArray, longer_by: FloatArray, clusters: Sequence[str], rounds: int = 1_000, seed: int = 0
) -> Interval:
    """Give the win rate of the left one, were both of one length, with its interval over clusters.

    Args:
        share: (votes,) 1 where the left one won, 0 where it lost, one half for a tie.
        longer_by: (votes,) length of the left one less that of the right one.
        clusters: one cluster name a vote; clusters are resampled.
        rounds: bootstrap rounds.
        seed: seed of the resampling.
    """
    spread = float(np.std(longer_by)) or 1.0
    slope = np.tanh(longer_by / spread)
    names, index = np.unique(np.asarray(clusters), return_inverse=True)
    value = float(_even(share, slope, np.ones((1, len(share))))[0])
    if len(names) < 2:
        return Interval(value, float("nan"), float("nan"))
    random = np.random.default_rng(seed)
    weights = random.multinomial(len(names), np.full(len(names), 1 / len(names)), size=rounds)[:, index]
    ci_low, ci_high = percentile_interval(_even(share, slope, weights.astype(np.float64)))
    return Interval(value, ci_low, ci_high)


def _even(share: FloatArray, slope: FloatArray, weights: FloatArray) -> FloatArray:
    """Fit the regression of each row of weights by Newton's steps; give the share at slope zero, (rounds,)."""
    constant, factor = np.zeros(len(weights)), np.zeros(len(weights))
    for _ in range(STEPS):
        expected = expit(constant[:, None] + factor[:, None] * slope)
        off = weights * (share - expected)
        spread = weights * np.maximum(expected * (1 - expected), 1e-6)
        g0, g1 = off.sum(axis=1) - RIDGE * constant, off @ slope - RIDGE * factor
        h00, h01 = spread.sum(axis=1) + RIDGE, spread @ slope
        h11 = spread @ slope**2 + RIDGE
        det = h00 * h11 - h01**2
        step0, step1 = (h11 * g0 - h01 * g1) / det, (h00 * g1 - h01 * g0) / det
        size = np.maximum(1.0, np.maximum(np.abs(step0), np.abs(step1)) / 2)
        constant, factor = constant + step0 / size, factor + step1 / size
    return np.asarray(expit(constant), dtype=np.float64)
