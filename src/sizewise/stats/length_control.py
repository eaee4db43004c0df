"""Length-controlled win rate.

People, and judge models even more, prefer the longer of two answers. The win rate is regressed on the difference in
length and evaluated at zero difference: a logistic regression of shares (Papke and Wooldridge, 1996, Econometric
methods for fractional response variables), as Dubois et al. (2024), Length-controlled AlpacaEval, do for judge models.
"""

from __future__ import annotations

import numpy as np
from scipy.special import expit

from sizewise.stats.crossed import PSEUDO, IntArray, Reading, crossed, quantile
from sizewise.stats.inference import FloatArray, Interval

NEWTON_STEPS = 25
RIDGE = 1e-2  # in votes; keeps the slope finite if length alone decides


def length_controlled_rate(
    share: FloatArray,
    longer_by: FloatArray,
    documents: IntArray,
    raters: IntArray | None = None,
    reading: Reading = "once",
) -> Interval:
    """Estimate the left answer's win rate at equal length, with an interval over raters and documents.

    Args:
        share: (votes,) 1 if left won, 0 if it lost, 0.5 for a tie.
        longer_by: (votes,) length of left minus length of right.
        documents: (votes,) source document of each vote.
        raters: (votes,) rater of each vote; None if raters are not a sample.
        reading: how often the interval is read, see `stats.crossed`.
    """
    spread = float(np.std(longer_by)) or 1.0
    factors = np.column_stack([np.ones(len(share)), np.tanh(longer_by / spread)])
    coefficients, information = _fit(share, factors)
    rate = float(expit(coefficients[0]))
    count = len(np.unique(documents))
    if count < 2:
        return Interval(rate, float("nan"), float("nan"))
    typical = len(share) / count
    imagined = np.diag([PSEUDO * typical**2 * (rate**2 + (1 - rate) ** 2), 0.0])
    found = crossed(factors * (share - expit(factors @ coefficients))[:, None], raters, documents, imagined)
    variance, freedom = found.variance(np.asarray(np.linalg.inv(information)[:1], dtype=np.float64))
    half = float(quantile(found, freedom, reading).errors[0] * np.sqrt(variance[0]))
    return Interval(rate, float(expit(coefficients[0] - half)), float(expit(coefficients[0] + half)))


def _fit(share: FloatArray, factors: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Fit the regression with Newton steps; return its coefficients (2,) and information (2, 2)."""
    coefficients, information = np.zeros(2), np.eye(2)
    for _ in range(NEWTON_STEPS):
        expected = expit(factors @ coefficients)
        weights = np.maximum(expected * (1 - expected), 1e-6)
        information = (factors * weights[:, None]).T @ factors + RIDGE * np.eye(2)
        step = np.linalg.solve(information, factors.T @ (share - expected) - RIDGE * coefficients)
        coefficients = coefficients + step / max(1.0, float(np.abs(step).max()) / 2)
    return coefficients, information
