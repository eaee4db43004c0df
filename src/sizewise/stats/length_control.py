"""Length-controlled win rate.

People, and judge models even more, prefer the longer of two answers. The win rate is regressed on the difference in
length and evaluated at zero difference: a logistic regression of shares (Papke and Wooldridge, 1996, Econometric
methods for fractional response variables), as Dubois et al. (2024), Length-controlled AlpacaEval, do for judge models.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.special import expit

from sizewise.stats.bootstrap import FloatArray, Interval, percentile_interval

NEWTON_STEPS = 25
RIDGE = 1e-2  # in votes; keeps the slope finite if length alone decides


def length_controlled_rate(
    share: FloatArray, longer_by: FloatArray, clusters: Sequence[str], rounds: int = 1_000, seed: int = 0
) -> Interval:
    """Estimate the left answer's win rate at equal length, with an interval over clusters.

    Args:
        share: (votes,) 1 if left won, 0 if it lost, 0.5 for a tie.
        longer_by: (votes,) length of left minus length of right.
        clusters: cluster name of each vote; clusters are resampled.
        rounds: bootstrap rounds.
        seed: seed of the resampling.
    """
    spread = float(np.std(longer_by)) or 1.0
    slope = np.tanh(longer_by / spread)
    names, index = np.unique(np.asarray(clusters), return_inverse=True)
    value = float(_rate_at_equal_length(share, slope, np.ones((1, len(share))))[0])
    if len(names) < 2:
        return Interval(value, float("nan"), float("nan"))
    random = np.random.default_rng(seed)
    weights = random.multinomial(len(names), np.full(len(names), 1 / len(names)), size=rounds)[:, index]
    ci_low, ci_high = percentile_interval(_rate_at_equal_length(share, slope, weights.astype(np.float64)))
    return Interval(value, ci_low, ci_high)


def _rate_at_equal_length(share: FloatArray, slope: FloatArray, weights: FloatArray) -> FloatArray:
    """Fit the regression for each row of weights with Newton steps; return the share at zero difference, (rounds,)."""
    constant, factor = np.zeros(len(weights)), np.zeros(len(weights))
    for _ in range(NEWTON_STEPS):
        expected = expit(constant[:, None] + factor[:, None] * slope)
        residual = weights * (share - expected)
        spread = weights * np.maximum(expected * (1 - expected), 1e-6)
        g0, g1 = residual.sum(axis=1) - RIDGE * constant, residual @ slope - RIDGE * factor
        h00, h01 = spread.sum(axis=1) + RIDGE, spread @ slope
        h11 = spread @ slope**2 + RIDGE
        det = h00 * h11 - h01**2
        step0, step1 = (h11 * g0 - h01 * g1) / det, (h00 * g1 - h01 * g0) / det
        size = np.maximum(1.0, np.maximum(np.abs(step0), np.abs(step1)) / 2)
        constant, factor = constant + step0 / size, factor + step1 / size
    return np.asarray(expit(constant), dtype=np.float64)
