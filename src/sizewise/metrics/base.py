"""What a metric is: additive statistics of an item, and a value as a function of their sum.

That form makes resampling, slicing and pairing cheap: no text is looked at twice.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import isfinite
from typing import Any, Literal, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from sizewise.records import ItemRow, Score
from sizewise.stats import MIN_CLUSTERS, interval, rule_of_three, wilson

FloatArray = npt.NDArray[np.float64]
ROUNDS = 2000


class AnswerItem(NamedTuple):
    """An answer beside the right ones."""

    completion: str
    references: tuple[str, ...]
    prompt: str = ""
    """What was asked, with any passage that was given."""
    schema: str = ""
    """JSON Schema that the answer must keep, as text."""


class LikelihoodItem(NamedTuple):
    """Log-likelihood of a piece of text."""

    nats: float
    tokens: int
    bytes: int
    words: int = 0
    """Words between white space."""


class ChoiceItem(NamedTuple):
    """Log-likelihood of each answer that could be chosen."""

    nats: tuple[float, ...]
    bytes: tuple[int, ...]
    right: int
    """Which one is right."""


Needs = Literal["answers", "likelihood", "choices", "suite"]
Better = Literal["higher", "lower"]


class Metric(Protocol):
    """A measure of one model on many items."""

    name: str
    """Name on the command line."""
    title: str
    """Heading of its column."""
    needs: Needs
    """What must be measured of a model for it, and so what an item is."""
    unit: str
    """Unit of the value."""
    better: Better
    """Which way is better."""
    description: str
    """What it is, which way is better, what it cannot tell."""
    stands_for_quality: bool
    """Whether a better value means a better answer or knowledge of the text, comparable between models. Length,
    refusals, form alone, calibration and bias do not."""

    def signature(self) -> str:
        """Say how the value is computed."""
        ...

    def prepared(self, references: Sequence[tuple[str, ...]]) -> Metric:
        """Give the metric for a test set, of which all right answers are known.

        Raises:
            CannotMeasure: it makes no sense on this data.
        """
        ...

    def measure(self, item: Any) -> tuple[float, ...]:
        """Give the additive statistics of an AnswerItem, LikelihoodItem or ChoiceItem, as `needs` says."""
        ...

    def value(self, sums: FloatArray) -> FloatArray:
        """Turn sums of statistics, (..., k), into values, (...)."""
        ...


class CannotMeasure(ValueError):
    """A metric makes no sense on this data; the message becomes the reason why its score is missing."""


class Mean:
    """A metric whose value is first statistic over second: the base of most of ours, and of plug-ins."""

    name = ""
    title = ""
    needs: Needs = "answers"
    unit = "share"
    better: Better = "higher"
    description = ""
    stands_for_quality = True

    def signature(self) -> str:
        """Give the name."""
        return self.name

    def prepared(self, references: Sequence[tuple[str, ...]]) -> Metric:
        """Give the metric itself."""
        return self

    def measure(self, item: Any) -> tuple[float, ...]:
        """Give (amount, count)."""
        raise NotImplementedError

    def value(self, sums: FloatArray) -> FloatArray:
        """Divide amount by count."""
        with np.errstate(divide="ignore", invalid="ignore"):
            result: FloatArray = sums[..., 0] / sums[..., 1]
        return result


def stats_array(metric: Metric, rows: Sequence[ItemRow]) -> FloatArray:
    """Collect a metric's statistics of rows, (rows, k)."""
    return np.array([row.stats[metric.name] for row in rows], dtype=np.float64)


def _bounds_of_alike(share: float, documents: int) -> tuple[float, float]:
    """Give an interval where all documents have the same share: by the rule of three where it is none or all."""
    if share in (0, 1):
        most = rule_of_three(documents)
        return (0.0, most) if share == 0 else (1 - most, 1.0)
    return wilson(share * documents, documents)


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
        return Score(metric=name, n=0, unit=metric.unit, signature=full, missing_reason="no item could be measured")
    found = interval(stats_array(metric, measured), [row.cluster for row in measured], metric.value, ROUNDS, seed)
    if metric.unit == "share" and found.ci_low == found.ci_high:
        # All alike: resampling shows no spread where there may well be some.
        # Documents are counted, not items: those of one document may all be alike for the same reason.
        ci_low, ci_high = _bounds_of_alike(found.value, len({row.cluster for row in measured}))
        found = found._replace(ci_low=ci_low, ci_high=ci_high)
    elif found.ci_low == found.ci_high and len({row.cluster for row in measured}) < MIN_CLUSTERS:
        found = found._replace(ci_low=float("nan"), ci_high=float("nan"))
    if not isfinite(found.value):
        return Score(
            metric=name,
            n=len(measured),
            unit=metric.unit,
            signature=full,
            missing_reason="the sum over all items has no value (empty text?)",
        )
    return Score(
        metric=name,
        value=found.value,
        ci_low=found.ci_low if isfinite(found.ci_low) else None,
        ci_high=found.ci_high if isfinite(found.ci_high) else None,
        n=len(measured),
        unit=metric.unit,
        signature=full,
        clusters=len({row.cluster for row in measured}),
    )
