"""Metrics by name."""

from __future__ import annotations

from difflib import get_close_matches

from sizewise.errors import UsageError
from sizewise.metrics.base import Metric
from sizewise.metrics.likelihood import BitsPerByte, Perplexity
from sizewise.metrics.match import ExactMatch
from sizewise.metrics.overlap import Bleu, Chrf

METRICS: dict[str, Metric] = {
    metric.name: metric for metric in (BitsPerByte(), Perplexity(), Bleu(), Chrf(), ExactMatch())
}


def find_metric(name: str) -> Metric:
    """Find a metric by its name.

    Raises:
        UsageError: there is none; the nearest name is given.
    """
    if name not in METRICS:
        near = get_close_matches(name, METRICS, n=1, cutoff=0.3)
        hint = f"; did you mean {near[0]}?" if near else ""
        raise UsageError(f"There is no metric '{name}'{hint}", ", ".join(METRICS), "")
    return METRICS[name]
