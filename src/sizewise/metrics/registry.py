"""Metrics by name: built-in ones, and plug-ins from installed packages.

A plug-in registers an entry point in the group `sizewise.metrics`: a callable that returns a Metric of the same name.
"""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches
from functools import cache
from importlib.metadata import entry_points

from sizewise.errors import SizewiseError, UsageError
from sizewise.metrics.abstention import AbstentionRecall, AnsweredAccuracy, RiskCoverageArea
from sizewise.metrics.base import SCORING_VERSION, Metric
from sizewise.metrics.bias import SUITE_METRICS
from sizewise.metrics.choices import ChoiceAccuracy, ChoiceAccuracyByByte, ChoiceCalibration
from sizewise.metrics.content import ContainsReference, NumericMatch, ReferenceMatch, ReferenceRecall
from sizewise.metrics.embedding import EMBEDDING_SIMILARITY, EmbeddingSimilarity
from sizewise.metrics.extraction import FIELD_METRICS, JsonContradictory, JsonRepaired, ValueInSource
from sizewise.metrics.facts import FactPrecision, FactRecall
from sizewise.metrics.grades import HumanGrade
from sizewise.metrics.groundedness import CitationPrecision, CitationRecall, Groundedness, QuotesVerbatim
from sizewise.metrics.harness import PREFIX, HarnessMetric
from sizewise.metrics.labels import Accuracy, MacroF1
from sizewise.metrics.likelihood import BitsPerByte, BytePerplexity, MinKPercent, Perplexity, WordPerplexity
from sizewise.metrics.manner import AnswerLanguage, AnswerWords, LexicalGrounding, Refusals, Repetition
from sizewise.metrics.match import ExactMatch, RougeL, TokenF1
from sizewise.metrics.overlap import Bleu, Chrf, Ter
from sizewise.metrics.pass_rates import PassAt, pass_at_parts
from sizewise.metrics.probabilities import Brier, CalibrationError, LogLoss
from sizewise.metrics.rubric import RUBRIC_GRADE, RubricGrade
from sizewise.metrics.structure import JsonF1, JsonValid
from sizewise.metrics.voice import Voice
from sizewise.records.upgrades import METRICS_2

GROUP = "sizewise.metrics"


def _by_name(metrics: Iterable[Metric]) -> dict[str, Metric]:
    return {metric.name: metric for metric in metrics}


METRICS = _by_name(
    (
        *(Bleu(), Chrf(), Ter(), RougeL(), TokenF1(), ExactMatch()),
        *(ReferenceMatch(), ContainsReference(), NumericMatch(), ReferenceRecall(), HumanGrade()),
        *(FactRecall(), FactPrecision()),
        *(
            Accuracy(),
            MacroF1(),
            LogLoss(),
            Brier(),
            CalibrationError(),
            ChoiceAccuracy(),
            ChoiceAccuracyByByte(),
            ChoiceCalibration(),
        ),
        *(JsonValid(), JsonRepaired(), JsonContradictory(), JsonF1(), *FIELD_METRICS.values(), ValueInSource()),
        *(Groundedness(), QuotesVerbatim(), CitationPrecision(), CitationRecall()),
        *(LexicalGrounding(), Refusals(), AnswerWords(), Repetition(), AnswerLanguage(), Voice()),
        *(AnsweredAccuracy(), AbstentionRecall(), RiskCoverageArea()),
        *SUITE_METRICS,
        *(BitsPerByte(), Perplexity(), WordPerplexity(), BytePerplexity(), MinKPercent()),
    )
)


def metric_names() -> list[str]:
    """List the names of all metrics, plug-ins last."""
    return list(
        dict.fromkeys([*METRICS, EMBEDDING_SIMILARITY, *sorted(point.name for point in entry_points(group=GROUP))])
    )


def metric_versions(names: Iterable[str]) -> list[object]:
    """Return the metric versions that enter an evaluation's id: only those that differ from the first."""
    raised = {name: version for name in names if (version := getattr(find_metric(name), "version", 1)) != 1}
    scoring = [SCORING_VERSION] if SCORING_VERSION != 1 else []
    return [*([raised] if raised else []), *scoring]


@cache
def stands_for_quality(name: str) -> bool:
    """Return whether a metric may rank candidates by quality; plug-in metrics may unless they opt out."""
    try:
        return getattr(find_metric(name), "stands_for_quality", True)
    except SizewiseError:
        return False


def compares_references(metric: Metric) -> bool:
    """Check whether a metric compares answers with reference answers, as plug-ins do unless they say otherwise."""
    return metric.needs == "answers" and bool(getattr(metric, "needs_references", True))


def find_metric(name: str) -> Metric:
    """Find a metric by name.

    Raises:
        UsageError: the name is unknown; the message suggests the closest one.
        SizewiseError: a plug-in's metric can't be loaded or is invalid.
    """
    if name in METRICS:
        return METRICS[name]
    if name.startswith(PREFIX):
        return HarnessMetric(name)
    if name == EMBEDDING_SIMILARITY:
        return EmbeddingSimilarity()
    if name == RUBRIC_GRADE or name.startswith(f"{RUBRIC_GRADE}:"):
        return RubricGrade(name.partition(":")[2])
    if parts := pass_at_parts(name):
        return PassAt(find_metric(parts[0]), parts[1])
    for point in entry_points(group=GROUP, name=name):
        package = point.dist.name if point.dist else point.value
        try:
            metric: Metric = point.load()()
            _check(metric, name)
        except Exception as error:
            raise SizewiseError(
                f"The plug-in {package} failed to provide the metric '{name}': {type(error).__name__}: {error}",
                "an entry point that returns a metric (sizewise.metrics.Metric)",
                f"pip install --upgrade {package}, or pip uninstall {package}",
            ) from error
        return metric
    known = metric_names()
    if name in METRICS_2:
        new = METRICS_2[name]
        raise UsageError(f"The metric '{name}' is now '{new}'.", new, f"write {new}")
    closest = get_close_matches(name, known, n=1, cutoff=0.3)
    hint = f" Did you mean '{closest[0]}'?" if closest else ""
    raise UsageError(
        f"Unknown metric '{name}'.{hint}", ", ".join(known), f"write {closest[0] if closest else 'one of these names'}"
    )


def _check(metric: Metric, name: str) -> None:
    for field in ("title", "unit", "description"):
        if not getattr(metric, field):
            raise ValueError(f"its {field} is empty")
    if metric.name != name:
        raise ValueError(f"its name is '{metric.name}'")
    if metric.needs not in ("answers", "likelihood", "choices"):
        raise ValueError(f"its needs are '{metric.needs}', not answers, likelihood or choices")
    if metric.better not in ("higher", "lower"):
        raise ValueError(f"its better is '{metric.better}', not higher or lower")
    metric.signature()
