"""The metric protocol: additive statistics per item, and a value as a function of their sum.

Because statistics add up, resampling, slicing and pairing never have to read a text twice.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import isfinite
from typing import Any, Literal, NamedTuple, Protocol, overload

import numpy as np
import numpy.typing as npt

from sizewise.records import ItemRow, Score
from sizewise.stats import MIN_CLUSTERS, interval, rule_of_three, wilson
from sizewise.text import language_name
from sizewise.text.languages import NAMES

FloatArray = npt.NDArray[np.float64]
ROUNDS = 2000
SCORING_VERSION = 1
"""Raised when totals or intervals of the same statistics change; part of an evaluation's id."""


class AnswerItem(NamedTuple):
    """An answer with its reference answers."""

    completion: str
    references: tuple[str, ...]
    prompt: str = ""
    """The prompt, including any passage it quotes."""
    schema: str = ""
    """JSON Schema that the answer must satisfy, as text."""


class ReferenceSet(Sequence[tuple[str, ...]]):
    """Reference answers of a test set, with what the rest of the data says about them.

    Attributes:
        references: Reference answers of each test example.
        labels: Classes that the data declares, of all splits; empty for data that isn't a classification.
        training: Reference answers of training examples, which show whether rare answers of the test set are labels.
        language: ISO 639-1 code of the language that most of the data is written in; empty if unknown.
    """

    def __init__(
        self,
        references: Sequence[tuple[str, ...]],
        *,
        labels: tuple[str, ...] = (),
        training: Sequence[tuple[str, ...]] = (),
        language: str = "",
    ) -> None:
        self.references, self.labels, self.training, self.language = references, labels, training, language

    @overload
    def __getitem__(self, index: int) -> tuple[str, ...]: ...

    @overload
    def __getitem__(self, index: slice) -> Sequence[tuple[str, ...]]: ...

    def __getitem__(self, index: int | slice) -> tuple[str, ...] | Sequence[tuple[str, ...]]:
        """Return the reference answers of one test example, or of several."""
        return self.references[index]

    def __len__(self) -> int:
        return len(self.references)


class LikelihoodItem(NamedTuple):
    """Log-likelihood of a piece of text."""

    nats: float
    tokens: int
    bytes: int
    words: int = 0
    """Words, split at whitespace; in scripts without spaces, characters."""
    min_k_logprob: float = float("nan")
    """Mean log-probability of the 20% least likely tokens, in nats."""


class ChoiceItem(NamedTuple):
    """Negative log-likelihood of each answer of a multiple-choice question."""

    nats: tuple[float, ...]
    bytes: tuple[int, ...]
    correct: int
    """Index of the correct answer."""


Needs = Literal["answers", "likelihood", "choices", "suite"]
Better = Literal["higher", "lower"]


class Metric(Protocol):
    """A metric of one model over many items."""

    name: str
    """Name on the command line."""
    title: str
    """Column heading."""
    needs: Needs
    """What the metric needs from a model, which also decides the type of an item."""
    unit: str
    """Unit of the value."""
    better: Better
    """Whether higher or lower values are better."""
    description: str
    """What it measures, which direction is better, and what it can't show."""
    version: int
    """Raised by hand when the values of the same answers change; part of an evaluation's id."""
    stands_for_quality: bool
    """Whether a better value means better answers or better knowledge of the text, comparable across models. False for
    length, refusals, format, calibration and bias."""

    def signature(self) -> str:
        """Describe how the value is computed."""
        ...

    def prepared(self, references: Sequence[tuple[str, ...]]) -> Metric:
        """Adapt the metric to the reference answers of a test set.

        Raises:
            CannotMeasure: the metric doesn't apply to this data.
        """
        ...

    def measure(self, item: Any) -> tuple[float, ...]:
        """Compute the additive statistics of an AnswerItem, LikelihoodItem or ChoiceItem, depending on `needs`."""
        ...

    def value(self, sums: FloatArray) -> FloatArray:
        """Turn sums of statistics, (..., k), into values, (...)."""
        ...


class CannotMeasure(ValueError):
    """The metric doesn't apply to this data; the message becomes the score's missing_reason."""


class Mean:
    """A metric whose value is the first statistic divided by the second; base class of most metrics and of plug-ins."""

    name = ""
    title = ""
    needs: Needs = "answers"
    unit = "share"
    better: Better = "higher"
    description = ""
    version = 1
    stands_for_quality = True
    languages: tuple[str, ...] = ()
    """ISO 639-1 codes of the languages that the metric is defined for; empty for every language."""
    needs_references = True
    """Whether answers are compared with reference answers; if so, examples without one are left out."""

    def signature(self) -> str:
        """Return the name."""
        return self.name

    def prepared(self, references: Sequence[tuple[str, ...]]) -> Metric:
        """Return the metric unchanged."""
        return self

    def measure(self, item: Any) -> tuple[float, ...]:
        """Return (amount, count)."""
        raise NotImplementedError

    def value(self, sums: FloatArray) -> FloatArray:
        """Divide the amount by the count."""
        with np.errstate(divide="ignore", invalid="ignore"):
            result: FloatArray = sums[..., 0] / sums[..., 1]
        return result


def check_language(metric: Metric, language: str) -> None:
    """Check that a metric is defined for the language of the data; plug-in metrics are, unless they list languages.

    Args:
        metric: the metric.
        language: ISO 639-1 code of the data's language; empty if unknown, which every metric accepts.

    Raises:
        CannotMeasure: the metric is defined for other languages.
    """
    defined: tuple[str, ...] = getattr(metric, "languages", ())
    if defined and language and language not in defined:
        names = " and ".join(NAMES.get(code, code) for code in defined)
        raise CannotMeasure(f"{metric.title} is defined for {names}; the data are in {language_name(language)}")


def stats_array(metric: Metric, rows: Sequence[ItemRow]) -> FloatArray:
    """Collect a metric's statistics as an array of shape (rows, k)."""
    return np.array([row.stats[metric.name] for row in rows], dtype=np.float64)


def _bounds_without_spread(share: float, documents: int) -> tuple[float, float]:
    """Compute an interval when every document has the same share; by the rule of three at 0 and 1."""
    if share in (0, 1):
        bound = rule_of_three(documents)
        return (0.0, bound) if share == 0 else (1 - bound, 1.0)
    return wilson(share * documents, documents)


def total(metric: Metric, rows: Sequence[ItemRow], *, name: str, signature: str, seed: int) -> Score:
    """Compute a metric's value and its 95% interval by resampling source documents.

    Args:
        metric: the metric.
        rows: measured items; rows without this metric are skipped.
        name: name of the score.
        signature: how the items were measured; the metric's signature is prepended.
        seed: seed of the resampling.
    """
    measured = [row for row in rows if metric.name in row.stats]
    full = "|".join(part for part in (metric.signature(), signature) if part)
    if not measured:
        return Score(metric=name, n=0, unit=metric.unit, signature=full, missing_reason="no items could be measured")
    found = interval(stats_array(metric, measured), [row.cluster for row in measured], metric.value, ROUNDS, seed)
    if metric.unit == "share" and found.ci_low == found.ci_high:
        # All documents agree, so resampling shows no spread although more documents might.
        # Documents count rather than items: items of one document may agree for a common reason.
        ci_low, ci_high = _bounds_without_spread(found.value, len({row.cluster for row in measured}))
        found = found._replace(ci_low=ci_low, ci_high=ci_high)
    elif found.ci_low == found.ci_high and len({row.cluster for row in measured}) < MIN_CLUSTERS:
        found = found._replace(ci_low=float("nan"), ci_high=float("nan"))
    if not isfinite(found.value):
        return Score(
            metric=name,
            n=len(measured),
            unit=metric.unit,
            signature=full,
            missing_reason="the items have no value in total (empty text?)",
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
