"""What a metric is: additive statistics of an item, and a value as a function of their sum.

That form makes resampling, slicing and pairing cheap: no text is looked at twice.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import isfinite
from typing import Literal, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from sizewise.inference import interval, wilson
from sizewise.records import ItemRow, Score

FloatArray = npt.NDArray[np.float64]
ROUNDS = 2000


class AnswerItem(NamedTuple):
    """An answer beside the right ones."""

    completion: str
    references: tuple[str, ...]


class LikelihoodItem(NamedTuple):
    """Log-likelihood of a piece of text."""

    nats: float
    tokens: int
    bytes: int


class Metric(Protocol):
    """A measure of one model on many items."""

    name: str
    """Name on the command line."""
    needs: Literal["answers", "likelihood"]
    """What must be measured of a model for it."""
    unit: str
    """Unit of the value."""
    better: Literal["higher", "lower"]
    """Which way is better."""
    sentence: str
    """What it is, in one plain sentence."""

    def signature(self) -> str:
        """Say how the value is computed."""
        ...

    def measure_answer(self, item: AnswerItem) -> tuple[float, ...]:
        """Give the additive statistics of an answer (only if it needs answers)."""
        ...

    def measure_likelihood(self, item: LikelihoodItem) -> tuple[float, ...]:
        """Give the additive statistics of a text (only if it needs likelihood)."""
        ...

    def value(self, sums: FloatArray) -> FloatArray:
        """Turn sums of statistics, (..., k), into values, (...)."""
        ...


def stats_array(metric: Metric, rows: Sequence[ItemRow]) -> FloatArray:
    """Collect a metric's statistics of rows, (rows, k)."""
    return np.array([row.stats[metric.name] for row in rows], dtype=np.float64)


def total(metric: Metric, rows: Sequence[ItemRow], *, name: str, signature: str, seed: int) -> Score:
    """Give a metric's value with its 95 % interval, source documents resampled.

    Args:
        metric: the metric.
        rows: measured items; those without this metric are left out.
        name: name of the score.
        signature: how the items were measured; the metric's own signature is put before it.
        seed: seed of the resampling.
    """
    measured = [row for row in rows if metric.name in row.stats]
    full = "|".join(part for part in (metric.signature(), signature) if part)
    if not measured:
        return Score(metric=name, n=0, unit=metric.unit, signature=full, missing="no item could be measured")
    found = interval(stats_array(metric, measured), [row.cluster for row in measured], metric.value, ROUNDS, seed)
    if metric.unit == "share" and found.low == found.high:
        # All alike: resampling shows no spread where there may well be some.
        hits = found.value * len(measured)
        low, high = wilson(hits, len(measured))
        found = found._replace(low=low, high=high)
    if not isfinite(found.value):
        return Score(
            metric=name,
            n=len(measured),
            unit=metric.unit,
            signature=full,
            missing="the sum over all items has no value (empty text?)",
        )
    return Score(
        metric=name,
        value=found.value,
        low=found.low if isfinite(found.low) else None,
        high=found.high if isfinite(found.high) else None,
        n=len(measured),
        unit=metric.unit,
        signature=full,
    )
