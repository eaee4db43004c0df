"""Scores and records in words, the same on every surface."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from sizewise.errors import SizewiseError
from sizewise.metrics import METRICS, find_metric
from sizewise.records import Comparison, Difference, Score
from sizewise.stats import MIN_CLUSTERS


class Measure(NamedTuple):
    """How a measure is shown."""

    title: str
    """Heading of its column."""
    description: str
    """What it is, which way is better, what it cannot tell."""
    divisor: float = 1.0
    """Divides the value for display."""
    unit: str = ""
    """Unit shown instead of the score's own."""
    digits: int = 3
    """Significant digits."""


FACTS = {
    "latency_s": Measure(
        "Time of an answer",
        "Median seconds for one answer to one user on this machine. Lower is better.",
        unit="s",
    ),
    "requests_per_s": Measure(
        "Answers a second", "Answers a second when many are asked at once on this machine. Higher is better."
    ),
    "memory_bytes": Measure("Memory", "Weights and one user's cache at 1,024 tokens. Lower is better.", 1e9, "GB"),
    "parameters": Measure("Parameters", "Number of weights, counted exactly.", 1e6, "million", 4),
    "usd_per_1000": Measure(
        "1,000 answers", "US dollars for 1,000 answers by list prices. Lower is better.", unit="USD"
    ),
    "prompt_tokens": Measure("Tokens asked", "Mean tokens of a question, in the model's own tokens."),
    "completion_tokens": Measure("Tokens answered", "Mean tokens of an answer, in the model's own tokens."),
    "disk_bytes": Measure("On disk", "Bytes of the weight files.", 1e9, "GB"),
}
PEOPLE = {
    "harm_in_pair": Measure(
        "Votes that saw harm",
        "Share of votes on pairs with its answer that saw harm in one of the two; votes do not say in which one. Lower "
        "is better.",
    ),
    "people": Measure(
        "People's preference",
        "Share of blind pairwise votes that it won, a tie counting one half. Higher is better; it says what these "
        "raters preferred, not what is right.",
    ),
    "judge_model": Measure(
        "A judge model's preference",
        "Share of blind pairs that a model preferred, a tie counting one half. Higher is better; it counts only where "
        "the model was shown to say what people say.",
    ),
}
MEASURES = {name: Measure(metric.title, metric.description) for name, metric in METRICS.items()} | FACTS | PEOPLE
BIAS = tuple(name for name, metric in METRICS.items() if metric.needs == "suite" and metric.better == "lower")
# Columns of the table of candidates, and what is left out where a metric made for the data is there.
COLUMNS = (
    "people",
    "judge_model",
    "harm_in_pair",
    *("accuracy", "macro_f1", "choice_accuracy", "choice_accuracy_by_byte", "json_valid", "json_f1"),
    *(metric.name for metric in METRICS.values() if metric.needs == "suite"),
    *("bleu", "chrf", "token_f1", "rouge_l", "exact_match", "bits_per_byte", "perplexity"),
    *("latency_s", "requests_per_s", "usd_per_1000", "memory_bytes", "parameters"),
)
INSTEAD = dict.fromkeys(("accuracy", "json_f1"), ("bleu", "chrf", "token_f1", "exact_match"))


def measure_of(name: str) -> Measure:
    """Say how a score is shown, a plug-in's too."""
    name, _, group = name.removesuffix("@all").partition("#")
    if group:
        measure = measure_of(name)
        return measure._replace(title=f"{measure.title}: {group}")
    if name in MEASURES:
        return MEASURES[name]
    try:
        metric = find_metric(name)
    except SizewiseError:
        return Measure(name, "")
    return Measure(metric.title, metric.description)


class Cell(NamedTuple):
    """One score in a table."""

    text: str
    """Value with its interval, or `missing`."""
    note: str
    """n, or why it is missing."""
    title: str
    """Unit and signature."""
    missing: bool
    full: str
    """The same on all items, clean or not, where that was measured."""
    best: bool
    """Whether no other candidate has a better value."""


def number(value: float, digits: int = 3) -> str:
    """Write a number with so many significant digits, never in scientific form."""
    if value == 0:
        return "0"
    text = f"{value:.{digits}g}"
    if "e" in text:
        text = f"{float(text):,.0f}" if abs(value) >= 1 else f"{value:.6f}".rstrip("0")
    return text


def value_text(score: Score) -> str:
    """Write value and interval without unit."""
    measure = measure_of(score.metric)
    if score.value is None:
        return "missing"
    text = number(score.value / measure.divisor, measure.digits)
    if score.ci_low is not None and score.ci_high is not None and score.ci_low != score.ci_high:
        ci_low, ci_high = (number(end / measure.divisor, measure.digits) for end in (score.ci_low, score.ci_high))
        text += f" [{ci_low}, {ci_high}]"
    return text


def difference_text(found: Difference) -> str:
    """Write a difference with its interval, and whether it is shown."""
    measure = measure_of(found.metric)
    ci_low, ci_high = found.ci_low, found.ci_high
    ends = "" if ci_low is None or ci_high is None else f" [{_plus(ci_low, measure)}, {_plus(ci_high, measure)}]"
    few = found.clusters < MIN_CLUSTERS
    shown = "" if found.better else f", too few documents ({found.clusters})" if few else ", not decisive"
    return f"{_plus(found.value, measure)}{ends}{shown}"


def _plus(value: float, measure: Measure) -> str:
    return f"{value / measure.divisor:+.3g}"


def score_text(score: Score) -> str:
    """Write a score whole: value, interval, unit and n, or why it is missing."""
    if score.value is None:
        return f"missing: {score.missing_reason}"
    measure = measure_of(score.metric)
    return f"{value_text(score)} {measure.unit or score.unit}, n = {score.n}"


class Row(NamedTuple):
    """One candidate in a table."""

    name: str
    cells: dict[str, Cell]


def shown_metrics(comparison: Comparison) -> list[str]:
    """Give the columns of the table: what was measured, without what says less on such data."""
    measured = [metric for metric in comparison.scores if not metric.endswith("@all")]
    others = [metric for metric in measured if metric not in MEASURES and "#" not in metric]  # of plug-ins
    left_out = {name for metric in measured for name in INSTEAD.get(metric, ())}
    return [metric for metric in (*COLUMNS, *others) if metric in measured and metric not in left_out]


def table_rows(comparison: Comparison) -> list[Row]:
    """Give the table of candidates and scores, baselines last."""
    metrics = shown_metrics(comparison)
    names = sorted(comparison.models, key=lambda name: comparison.models[name].role == "baseline")
    return [Row(name, {metric: _cell(comparison, metric, name) for metric in metrics}) for name in names]


def _cell(comparison: Comparison, metric: str, name: str) -> Cell:
    score = comparison.scores[metric].get(name)
    if score is None:
        return Cell("missing", "not measured", "", True, "", False)
    measure = measure_of(metric)
    full = comparison.scores.get(f"{metric}@all", {}).get(name)
    return Cell(
        text=value_text(score),
        note=f"n = {score.n}" if score.value is not None else str(score.missing_reason),
        title=f"{measure.unit or score.unit}; {score.signature}",
        missing=score.value is None,
        full=f"all {full.n}: {number(full.value, measure.digits)}" if full and full.value is not None else "",
        best=metric not in (*FACTS, *BIAS, "perplexity")
        and score.value is not None
        and score.value == _best(comparison, metric, comparison.scores[metric].values()),
    )


def _best(comparison: Comparison, metric: str, scores: Iterable[Score]) -> float | None:
    """Return the best value, None where all are the same: then nobody leads."""
    values = {score.value for score in scores if score.value is not None}
    if len(values) < 2:
        return None
    return max(values) if comparison.better.get(metric) == "higher" else min(values)
