"""Metrics by name: ours, and those that installed packages bring.

An entry point of the group `sizewise.metrics` names a callable that gives a Metric; its name is the metric's.
"""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches
from functools import cache
from importlib.metadata import entry_points

from sizewise.errors import SizewiseError, UsageError
from sizewise.metrics.base import Metric
from sizewise.metrics.bias import SUITE_METRICS
from sizewise.metrics.choices import ChoiceAccuracy, ChoiceAccuracyByByte, ChoiceCalibration
from sizewise.metrics.harness import PREFIX, HarnessMetric
from sizewise.metrics.labels import Accuracy, MacroF1
from sizewise.metrics.likelihood import BitsPerByte, BytePerplexity, Perplexity, WordPerplexity
from sizewise.metrics.manner import AnswerWords, Grounded, Refusals
from sizewise.metrics.match import ExactMatch, RougeL, TokenF1
from sizewise.metrics.overlap import Bleu, Chrf, Ter
from sizewise.metrics.structure import JsonF1, JsonValid

GROUP = "sizewise.metrics"


def _by_name(metrics: Iterable[Metric]) -> dict[str, Metric]:
    return {metric.name: metric for metric in metrics}


METRICS = _by_name(
    (
        *(Bleu(), Chrf(), Ter(), RougeL(), TokenF1(), ExactMatch()),
        *(Accuracy(), MacroF1(), ChoiceAccuracy(), ChoiceAccuracyByByte(), ChoiceCalibration()),
        *(JsonValid(), JsonF1(), Grounded(), Refusals(), AnswerWords()),
        *SUITE_METRICS,
        *(BitsPerByte(), Perplexity(), WordPerplexity(), BytePerplexity()),
    )
)


def metric_names() -> list[str]:
    """Give the names of all metrics, those of plug-ins last."""
    return list(dict.fromkeys([*METRICS, *sorted(point.name for point in entry_points(group=GROUP))]))


@cache
def stands_for_quality(name: str) -> bool:
    """Return whether a measure may stand for quality; a plug-in's does unless it says otherwise."""
    try:
        return getattr(find_metric(name), "stands_for_quality", True)
    except SizewiseError:
        return False


def find_metric(name: str) -> Metric:
    """Find a metric by its name.

    Raises:
        UsageError: there is none; the nearest name is given.
        SizewiseError: a plug-in's metric cannot be loaded, or is none.
    """
    if name in METRICS:
        return METRICS[name]
    if name.startswith(PREFIX):
        return HarnessMetric(name)
    for point in entry_points(group=GROUP, name=name):
        package = point.dist.name if point.dist else point.value
        try:
            metric: Metric = point.load()()
            _check(metric, name)
        except Exception as error:
            raise SizewiseError(
                f"The plug-in {package} gives no metric '{name}': {type(error).__name__}: {error}",
                "a callable that gives a metric (sizewise.metrics.Metric)",
                f"pip install --upgrade {package}, or pip uninstall {package}",
            ) from error
        return metric
    known = metric_names()
    near = get_close_matches(name, known, n=1, cutoff=0.3)
    hint = f"; did you mean {near[0]}?" if near else ""
    raise UsageError(f"There is no metric '{name}'{hint}", ", ".join(known), "")


def _check(metric: Metric, name: str) -> None:
    for field in ("title", "unit", "description"):
        if not getattr(metric, field):
            raise ValueError(f"it has no {field}")
    if metric.name != name:
        raise ValueError(f"it calls itself '{metric.name}'")
    if metric.needs not in ("answers", "likelihood", "choices"):
        raise ValueError(f"it needs '{metric.needs}'")
    if metric.better not in ("higher", "lower"):
        raise ValueError(f"better is '{metric.better}'")
    metric.signature()
