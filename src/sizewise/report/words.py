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
from sizewise.records import Comparison, DecisionAnalysis, Explanation, Score

__all__ = [
    "BIAS",
    "RATES",
    "Cell",
    "Measure",
    "Row",
    "claim_text",
    "difference_text",
    "explanation_text",
    "measure_of",
    "number",
    "rate_title",
    "score_text",
    "sentence",
    "shown_metrics",
    "signed_text",
    "table_rows",
    "value_text",
]

BIAS = tuple(name for name, metric in METRICS.items() if metric.needs == "suite" and metric.better == "lower")
COLUMNS = (
    "people",
    "people_ppi",
    "human_grade",
    "judge_model",
    *("harm", "harm_in_pair"),
    *("accuracy", "macro_f1", "choice_accuracy", "choice_accuracy_by_byte", "json_valid", "json_f1"),
    *("field_f1", "field_precision", "field_recall", "value_in_source", "json_repaired", "json_contradictory"),
    *(metric.name for metric in METRICS.values() if metric.needs == "suite"),
    *("reference_match", "contains_reference", "numeric_match", "reference_recall", "voice"),
    *("bleu", "chrf", "token_f1", "rouge_l", "exact_match", "bits_per_byte", "perplexity"),
    *("latency_s", "requests_per_s", "usd_per_1000", "memory_bytes", "parameters"),
)
"""Order of the columns."""
REPLACES = dict.fromkeys(("accuracy", "json_f1", "field_f1"), ("bleu", "chrf", "token_f1", "exact_match"))
"""Specialized metric -> general metrics that the table omits when it is present."""


RATES = {
    "selection_rate": "Selected",
    "false_positive_rate": "False positives",
    "false_negative_rate": "False negatives",
    "error_rate": "Errors",
    "calibration_gap": "Calibration gap",
    "hand_over_rate": "Handed over",
}
"""Rate of decisions about a group -> its name."""


def rate_title(rate: str) -> str:
    """Return the name of a rate in words."""
    return RATES.get(rate, rate.replace("_", " ").capitalize())


def claim_text(found: DecisionAnalysis) -> str:
    """Summarize decisions in one sentence: how many are made, at which accuracy, with which bound."""
    if "subset_accuracy" in found.scores:
        whole, each = found.scores["subset_accuracy"], found.scores["hamming_loss"]
        return (
            f"All labels are right in {value_text(whole)} of {found.n:,} cases; {value_text(each)} of the single "
            "decisions about a label are wrong."
        )
    claims = [one for one in found.claims if one.threshold is not None and one.coverage.value]
    if not claims:
        return f"No share of the cases can be decided at a stated risk: {found.n} cases are too few, or too hard."
    one = claims[0]
    shares = 100 * (one.coverage.value or 0), 100 * (one.accuracy.value or 0)
    bound = "" if one.risk_bound is None else f"; with 95% confidence, at most {100 * one.risk_bound:.1f}% are wrong"
    return (
        f"Decides {shares[0]:.1f}% of the cases at {shares[1]:.1f}% accuracy and hands over the rest "
        f"(stated risk {100 * one.max_risk:g}%{bound})."
    )


def explanation_text(found: Explanation) -> str:
    """Describe how an explanation was made, and whether its passages matter more than random ones."""
    if found.method == "weights":
        how = "Exact: the weights of the linear model times the values of its features."
    else:
        how = f"Measured by removing each of {found.parts} {found.unit}."
    if found.without is None:
        return how
    shares = f"{100 * found.probability:.1f}% becomes {100 * found.without:.1f}%"
    chance = "" if found.without_random is None else f" ({100 * found.without_random:.1f}% without as many random ones)"
    return f"{how} Without the {found.unit} that speak for {found.option}, {shares}{chance}."


def sentence(text: str) -> str:
    """Turn a fragment into a sentence: capital letter first, full stop last."""
    return f"{text[:1].upper()}{text[1:]}".rstrip(".") + "."


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
