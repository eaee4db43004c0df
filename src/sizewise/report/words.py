"""The table of candidates and their scores, for pages, Markdown and the terminal."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from sizewise.metrics import METRICS
from sizewise.metrics.display import (
    FACTS,
    MEASURES,
    Measure,
    difference_text,
    measure_of,
    number,
    plain_value,
    score_text,
    signed_text,
    value_text,
)
from sizewise.records import Comparison, Score

__all__ = [
    "BIAS",
    "Cell",
    "Measure",
    "Row",
    "difference_text",
    "measure_of",
    "number",
    "score_text",
    "shown_metrics",
    "signed_text",
    "table_rows",
    "value_text",
]

BIAS = tuple(name for name, metric in METRICS.items() if metric.needs == "suite" and metric.better == "lower")
COLUMNS = (
    "people",
    "people_ppi",
    "judge_model",
    *("harm", "harm_in_pair"),
    *("accuracy", "macro_f1", "choice_accuracy", "choice_accuracy_by_byte", "json_valid", "json_f1"),
    *(metric.name for metric in METRICS.values() if metric.needs == "suite"),
    *("bleu", "chrf", "token_f1", "rouge_l", "exact_match", "bits_per_byte", "perplexity"),
    *("latency_s", "requests_per_s", "usd_per_1000", "memory_bytes", "parameters"),
)
"""Order of the columns."""
REPLACES = dict.fromkeys(("accuracy", "json_f1"), ("bleu", "chrf", "token_f1", "exact_match"))
"""Specialized metric -> general metrics that the table omits when it is present."""


class Cell(NamedTuple):
    """One score in a table."""

    text: str
    """Value with its interval, or `n/a`."""
    note: str
    """n, or why there is no value."""
    title: str
    """Unit and signature."""
    empty: bool
    """Whether there is no value."""
    full: str
    """The same score on all items, contaminated or not, if it was measured."""
    best: bool
    """Whether no other candidate has a better value."""


class Row(NamedTuple):
    """One candidate in a table."""

    name: str
    cells: dict[str, Cell]


def shown_metrics(comparison: Comparison) -> list[str]:
    """List the columns of the table: measured metrics, without general ones that a more specific metric replaces."""
    measured = [metric for metric in comparison.scores if not metric.endswith("@all")]
    from_plugins = [metric for metric in measured if metric not in MEASURES and "#" not in metric]
    replaced = {name for metric in measured for name in REPLACES.get(metric, ())}
    return [metric for metric in (*COLUMNS, *from_plugins) if metric in measured and metric not in replaced]


def table_rows(comparison: Comparison) -> list[Row]:
    """Build the table of candidates and scores, baselines last."""
    metrics = shown_metrics(comparison)
    names = sorted(comparison.models, key=lambda name: comparison.models[name].role == "baseline")
    return [Row(name, {metric: _cell(comparison, metric, name) for metric in metrics}) for name in names]


def _cell(comparison: Comparison, metric: str, name: str) -> Cell:
    score = comparison.scores[metric].get(name)
    if score is None:
        return Cell(text="n/a", note="not measured", title="", empty=True, full="", best=False)
    full = comparison.scores.get(f"{metric}@all", {}).get(name)
    return Cell(
        text=value_text(score),
        note=f"n = {score.n}" if score.value is not None else str(score.missing_reason),
        title=f"{measure_of(metric).unit or score.unit}; {score.signature}",
        empty=score.value is None,
        full=f"all {full.n}: {plain_value(metric, full.unit, full.value)}" if full and full.value is not None else "",
        best=metric not in (*FACTS, *BIAS, "perplexity")
        and score.value is not None
        and score.value == _best(comparison, metric, comparison.scores[metric].values()),
    )


def _best(comparison: Comparison, metric: str, scores: Iterable[Score]) -> float | None:
    """Return the best value, or None if all values are equal."""
    values = {score.value for score in scores if score.value is not None}
    if len(values) < 2:
        return None
    return max(values) if comparison.better.get(metric) == "higher" else min(values)
