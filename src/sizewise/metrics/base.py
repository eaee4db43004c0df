"""The metric protocol: additive statistics per item, and a value as a function of their sum.

Because statistics add up, resampling, slicing and pairing never have to read a text twice.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from math import isfinite
from typing import Any, Literal, NamedTuple, Protocol, overload

import numpy as np
import numpy.typing as npt

from sizewise.records import ItemRow, Score
from sizewise.stats import MIN_CLUSTERS, Systems
from sizewise.stats.inference import UNBOUNDED, Bounds, Interval
from sizewise.text import language_name
from sizewise.text.languages import NAMES

FloatArray = npt.NDArray[np.float64]
SCORING_VERSION = 3
"""Raised when totals or intervals of the same statistics change; part of an evaluation's id."""


class AnswerItem(NamedTuple):
    """An answer with its reference answers."""

    completion: str
    references: tuple[str, ...]
    prompt: str = ""
    """The prompt, including any passage it quotes."""
    schema: str = ""
    """JSON Schema that the answer must satisfy, as text."""
    probabilities: Mapping[str, float] | None = None
    """Option -> probability, where the answer is a decision."""
    grade: float | None = None
    """Grade that people gave to the answer, if any."""
    passages: tuple[str, ...] = ()
    """Passages that the answer should rest on, if they aren't part of the prompt."""
    confidence: float | None = None
    """Geometric mean of the probabilities of the answer's tokens, if the model reports them."""


class ReferenceSet(Sequence[tuple[str, ...]]):
    """Reference answers of a test set, with what the rest of the data says about them.

    Attributes:
        references: Reference answers of each test example.
        labels: Classes that the data declares, of all splits; empty for data that isn't a classification.
        training: Reference answers of training examples, which show whether rare answers of the test set are labels.
        language: ISO 639-1 code of the language that most of the data is written in; empty if unknown.
        several: Whether several labels may apply to an example.
    """

    def __init__(
        self,
        references: Sequence[tuple[str, ...]],
        *,
        labels: tuple[str, ...] = (),
        training: Sequence[tuple[str, ...]] = (),
        language: str = "",
        several: bool = False,
    ) -> None:
        self.references, self.labels, self.training, self.language = references, labels, training, language
        self.several = several

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


Needs = Literal["answers", "likelihood", "choices", "suite", "judge"]
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
        names = f"{len(defined)} languages" if len(defined) > 3 else " and ".join(NAMES.get(c, c) for c in defined)
        raise CannotMeasure(f"{metric.title} is defined for {names}; the data are in {language_name(language)}")


def stats_array(metric: Metric, rows: Sequence[ItemRow]) -> FloatArray:
    """Collect a metric's statistics as an array of shape (rows, k)."""
    return np.array([row.stats[metric.name] for row in rows], dtype=np.float64)


MAX_MISSING_SHARE = 0.05
"""Share of items that a candidate may lack; with more, those it lacks may be the hard ones."""
RANGES: dict[str, Bounds] = {"share": (0.0, 1.0), "0-100": (0.0, 100.0), "-1 to 1": (-1.0, 1.0)}
"""Unit -> smallest and largest value; other units have no limits."""


def bounds_of(metric: Metric) -> Bounds:
    """Return the smallest and largest value of a metric; signed shares, such as gaps, declare their own `bounds`."""
    declared: Bounds | None = getattr(metric, "bounds", None)
    return declared or RANGES.get(metric.unit, UNBOUNDED)


def needs_items(metric: Metric) -> bool:
    """Check whether a metric estimates its value from the items, by its method `estimate`, not from their sum."""
    return hasattr(metric, "estimate")


def total(metric: Metric, rows: Sequence[ItemRow], *, name: str, signature: str) -> Score:
    """Compute a metric's value and its 95% interval over source documents.

    Below MIN_CLUSTERS documents there is no interval, because how much documents differ is unknown.

    Args:
        metric: the metric.
        rows: measured items; rows without this metric are skipped.
        name: name of the score.
        signature: how the items were measured; the metric's signature is prepended.
    """
    measured = [row for row in rows if metric.name in row.stats]
    stats = stats_array(metric, measured) if measured else np.empty((0, 2))
    found = total_of(metric, stats, [row.cluster for row in measured], name=name, signature=signature)
    if found.value is None:
        return found
    cut = sum(row.finish == "length" for row in measured)
    return found.model_copy(update={"truncated": cut, "unreadable": sum(map(find_unreadable(metric), measured))})


def total_of(metric: Metric, stats: FloatArray, clusters: Sequence[str], *, name: str, signature: str) -> Score:
    """Compute a metric's value and its 95% interval from the statistics of the measured items.

    Args:
        metric: the metric.
        stats: (items, k) statistics.
        clusters: source document of each item.
        name: name of the score.
        signature: how the items were measured; the metric's signature is prepended.
    """
    full = "|".join(part for part in (metric.signature(), signature) if part)
    if not len(stats):
        return Score(metric=name, n=0, unit=metric.unit, signature=full, missing_reason="no items could be measured")
    if needs_items(metric):
        found: Interval = metric.estimate(stats, clusters)  # type: ignore[attr-defined]
    else:
        found = Systems(stats[:, None, :], clusters, metric.value, bounds_of(metric)).score()
    documents = len(set(clusters))
    if not isfinite(found.value):
        return Score(
            metric=name,
            n=len(stats),
            unit=metric.unit,
            signature=full,
            missing_reason="the items have no value in total (empty text?)",
        )
    known = isfinite(found.ci_low) and isfinite(found.ci_high)
    return Score(
        metric=name,
        value=found.value,
        ci_low=found.ci_low if known else None,
        ci_high=found.ci_high if known else None,
        ci_missing_reason="" if known else _without_interval(documents),
        n=len(stats),
        unit=metric.unit,
        signature=full,
        clusters=documents,
    )


def find_unreadable(metric: Metric) -> Callable[[ItemRow], bool]:
    """Return a check of whether a metric can't read an item's answer; empty answers, which are seen, don't count."""
    check: Callable[[str], bool] | None = getattr(metric, "is_unreadable", None)
    if check is None:
        return lambda row: False
    return lambda row: bool(row.completion and row.completion.strip()) and check(str(row.completion))


def _without_interval(clusters: int) -> str:
    if clusters >= MIN_CLUSTERS:
        return "all source documents have the same value, or the metric has none without one of them"
    return f"too few source documents: {clusters} of at least {MIN_CLUSTERS}"
