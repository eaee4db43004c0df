"""Calibration error of predicted probabilities, without bias from noise."""

from __future__ import annotations

import numpy as np

from sizewise.routing.labeled import Array, IntArray
from sizewise.stats.inference import FloatArray, Interval, estimate

BINS = 10
SIGNATURE = f"rms|unbiased|bins:{BINS} equal size"


def calibration_error(probabilities: Array, labels: Array, group: IntArray | None = None) -> Interval:
    """Compute the root mean square calibration error: the typical gap between predicted and observed proportions.

    The usual estimate is above 0 for perfectly calibrated probabilities, by more the fewer prompts there are. Here the
    squared gap of each bin is the mean product of the gaps of different prompts, in which noise cancels out.

    Args:
        probabilities: (rows,) predicted probabilities.
        labels: (rows,) 1 or 0.
        group: (rows,) distinct prompt of each row; None: all differ.

    Returns:
        The error with its 95% interval; NaN for the ends where there are too few prompts.

    Source: Broecker (2012), Estimating reliability and resolution of probability forecasts through decomposition of the
    empirical score; Kumar, Liang and Ma (2019), Verified uncertainty calibration. Bins of equal size.
    """
    if group is None:
        group = np.arange(len(labels), dtype=np.int64)
    prompts = int(group.max()) + 1
    bins = np.empty(len(labels), dtype=np.int64)
    for number, rows in enumerate(np.array_split(np.argsort(probabilities, kind="stable"), BINS)):
        bins[rows] = number
    cell = group * BINS + bins
    count = np.bincount(cell, minlength=prompts * BINS).reshape(prompts, BINS).astype(np.float64)
    gap = np.bincount(cell, probabilities - labels, minlength=prompts * BINS).reshape(prompts, BINS)
    stats = np.concatenate([count, gap, count**2, gap**2], axis=1)
    squared = estimate(stats, np.arange(prompts).astype(str).tolist(), _squared_error)
    return Interval(*(float(np.sqrt(np.maximum(value, 0.0))) for value in squared))


def _squared_error(sums: FloatArray) -> FloatArray:
    """Average the products of gaps of different prompts within each bin, weighted by the bin's rows."""
    count, gap, squared_count, squared_gap = np.split(sums, 4, axis=-1)
    pairs = count**2 - squared_count
    with np.errstate(divide="ignore", invalid="ignore"):
        each = np.where(pairs > 0, (gap**2 - squared_gap) / pairs, 0.0)
        result: FloatArray = (count * each).sum(axis=-1) / np.where(pairs > 0, count, 0.0).sum(axis=-1)
    return result
