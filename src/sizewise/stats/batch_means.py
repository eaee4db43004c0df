"""Intervals of rates over time, such as requests per second, from batches of consecutive events."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from scipy.stats import t as student_t

MAX_BATCHES = 10
MIN_BATCHES = 4


def rate_interval(
    amounts: Sequence[float] | npt.NDArray[np.float64],
    ends_s: Sequence[float] | npt.NDArray[np.float64],
    per_batch: int = 1,
    level: float = 0.95,
    seconds: float | None = None,
) -> tuple[float, float] | None:
    """Compute the interval of a rate (amount per second) from up to ten batches of consecutive events.

    Events close in time depend on each other: they share an engine, and users who start together finish together.
    Batches of consecutive events are nearly independent. The rate is the ratio of two sums over batches.

    Args:
        amounts: what each event contributes; 0 for a failed request.
        ends_s: when each event ended, in seconds from the beginning.
        per_batch: smallest number of events of a batch, such as the number of concurrent users.
        level: confidence level.
        seconds: time from the beginning to the end of the measurement, idle time after the last event included; by
            default it ends with the last event.

    Returns:
        Lower and upper end; None if there are fewer than four batches.

    Source: Law and Kelton (2000), Simulation modeling and analysis, section 9.5 (batch means); Cochran (1977), Sampling
    techniques, section 6.3 (variance of a ratio).
    """
    ends = np.asarray(ends_s, dtype=np.float64)
    batches = min(MAX_BATCHES, len(ends) // max(1, per_batch))
    if batches < MIN_BATCHES:
        return None
    order = np.argsort(ends, kind="stable")
    # Whole multiples of per_batch, so that a round of all users is never split.
    starts = np.arange(batches) * (len(ends) // max(1, per_batch)) // batches * max(1, per_batch)
    sums = np.add.reduceat(np.asarray(amounts, dtype=np.float64)[order], starts)
    until = ends[order][np.r_[starts[1:], len(ends)] - 1]
    until[-1] = max(until[-1], seconds or 0.0)
    times = np.diff(np.r_[0.0, until])
    total = float(times.sum())
    if total <= 0:
        return None
    rate = float(sums.sum()) / total
    error = float(np.sqrt(batches / (batches - 1) * np.square(sums - rate * times).sum())) / total
    half = float(student_t.ppf(0.5 + level / 2, batches - 1)) * error
    return max(0.0, rate - half), rate + half
