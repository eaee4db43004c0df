"""How scores are shown: titles, descriptions and number formats, the same on every surface."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from sizewise.errors import SizewiseError
from sizewise.metrics.registry import METRICS, find_metric
from sizewise.records import Difference, Score
from sizewise.stats import MIN_CLUSTERS


class Measure(NamedTuple):
    """How one measure is shown."""

    title: str
    """Column heading."""
    description: str
    """What it measures, which direction is better, and what it can't show."""
    divisor: float = 1.0
    """The value is divided by this for display."""
    unit: str = ""
    """Unit shown instead of the score's unit."""
    digits: int = 3
    """Significant digits."""

    @property
    def heading(self) -> str:
        """Title with its unit in parentheses, for a table heading or an axis."""
        if not self.unit:
            return self.title
        return f"{self.title[:-1]}, {self.unit})" if self.title.endswith(")") else f"{self.title} ({self.unit})"


FACTS = {
    "latency_s": Measure(
        "Latency (p50)",
        "Median time until an answer is complete; for a model on this machine, one user at a time. Lower is better.",
        unit="s",
    ),
    "requests_per_s": Measure(
        "Throughput",
        "Requests answered per second under concurrent load on this machine. Higher is better.",
        unit="requests/s",
    ),
    "memory_bytes": Measure(
        "Memory", "Weights plus one user's KV cache at 1,024 tokens. Lower is better.", divisor=1e9, unit="GB"
    ),
    "parameters": Measure("Parameters", "Exact number of weights.", divisor=1e6, unit="millions", digits=4),
    "usd_per_1000": Measure(
        "Cost per 1,000 requests",
        "Cost of the measured requests: stated, recorded or at list price. Lower is better.",
        unit="USD",
    ),
    "prompt_tokens": Measure("Prompt tokens", "Mean number of tokens per prompt, counted by the model's tokenizer."),
    "completion_tokens": Measure(
        "Completion tokens", "Mean number of tokens per answer, counted by the model's tokenizer."
    ),
    "disk_bytes": Measure("Disk size", "Size of the weight files.", divisor=1e9, unit="GB"),
}
LOAD = {
    "p50_ttft_s": Measure("Time to first token (p50)", "Median time until the first token arrives.", unit="s"),
    "p95_ttft_s": Measure(
        "Time to first token (p95)", "Time within which the first token of 95% of the answers arrives.", unit="s"
    ),
    "p50_tpot_s": Measure("Time per output token (p50)", "Median time per token after the first.", unit="s"),
    "p95_tpot_s": Measure("Time per output token (p95)", "95th percentile of the time per token.", unit="s"),
    "p95_itl_s": Measure("Inter-token latency (p95)", "95th percentile of the gap between chunks.", unit="s"),
    "p50_latency_s": Measure("Latency (p50)", "Median time until an answer is complete.", unit="s"),
    "p95_latency_s": Measure("Latency (p95)", "Time within which 95% of the answers are complete.", unit="s"),
    "tokens_per_s": Measure("Output tokens/s", "Tokens generated per second, over all users."),
    "goodput_per_s": Measure("Goodput", "Answers per second that meet the latency limits.", unit="requests/s"),
    "within_limits": Measure("Within limits", "Share of the requests that meet the latency limits."),
}
JUDGED = {
    "harm": Measure(
        "Flagged as harmful",
        "Share of votes on this candidate's answers that flagged its answer as potentially harmful. Lower is better.",
    ),
    "harm_in_pair": Measure(
        "Flagged as harmful (pair)",
        "Share of votes that flagged one of the two answers as potentially harmful; votes don't say which one. Lower "
        "is "
        "better.",
    ),
    "people": Measure(
        "Human preference",
        "Share of blind pairwise votes won, with ties counting as half. Higher is better. It reflects what these "
        "raters "
        "preferred, not what is correct.",
    ),
    "people_ppi": Measure(
        "Human preference (with judges)",
        "Human preference estimated from people's votes and judge models' votes on further answers (prediction-powered "
        "inference). Higher is better. Judge models make the interval narrower, as far as their votes predict people's "
        "on the same answers; they can't bias the value as long as the further answers are like these.",
    ),
    "judge_model": Measure(
        "Judge model preference",
        "Share of blind pairs that a judge model preferred, with ties counting as half. Higher is better. It counts "
        "only "
        "if the judge model was validated against human raters.",
    ),
}
MEASURES = {name: Measure(metric.title, metric.description) for name, metric in METRICS.items()} | FACTS | LOAD | JUDGED
# F1 and ROUGE-L are scores from 0 to 1, not shares of anything, so they aren't shown as percentages.
_UNIT_SCORES = frozenset({"token_f1", "macro_f1", "json_f1", "field_f1", "rouge_l"})


_NOTHING = 1e-12


def measure_of(name: str) -> Measure:
    """Look up how a score is shown, including scores of plug-ins and of groups (`metric#group`)."""
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


def title_in_text(name: str) -> str:
    """Return a measure's title as it appears inside a sentence: lower case unless it starts with an acronym."""
    title = measure_of(name).title
    return title if title[:2].isupper() or title == "chrF" else title[0].lower() + title[1:]


def listed(names: Sequence[str]) -> str:
    """Join names as in a sentence: `a, b and c`."""
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def is_percentage(metric: str, unit: str) -> bool:
    """Return whether values of a metric are shown as percentages."""
    return unit == "share" and metric.removesuffix("@all").partition("#")[0] not in _UNIT_SCORES


def number(value: float, digits: int = 3) -> str:
    """Format a number with the given significant digits, never in scientific notation."""
    if value == 0:
        return "0"
    text = f"{value:.{digits}g}"
    if "e" in text:
        text = f"{float(text):,.0f}" if abs(value) >= 1 else f"{value:.6f}".rstrip("0")
    if not text.strip("-0."):
        return "<0.000001" if value > 0 else ">-0.000001"
    return text


def plain_value(metric: str, unit: str, value: float) -> str:
    """Format a single value of a metric, without an interval: `4.31` or `30%`."""
    if is_percentage(metric, unit):
        return f"{number(100 * value)}%"
    measure = measure_of(metric)
    return number(value / measure.divisor, measure.digits)


def value_text(score: Score) -> str:
    """Format value and interval without the unit: `4.31 [2.9, 6.1]`, `30% [25.7, 34.7]`, or `n/a`.

    An end that the items can't provide is shown as unbounded: `1.31 [1.2, unbounded]`. Answers that were cut off at the
    token limit, or in which no label or JSON can be read, are counted behind it: `30% [25.7, 34.7] (12 cut off)`.
    """
    if score.value is None:
        return "n/a"
    text = plain_value(score.metric, score.unit, score.value)
    if score.ci_low != score.ci_high:
        ends = (
            "unbounded" if end is None else plain_value(score.metric, score.unit, end).removesuffix("%")
            for end in (score.ci_low, score.ci_high)
        )
        text += f" [{', '.join(ends)}]"
    counted = ((score.truncated, "cut off"), (score.unreadable, "unreadable"))
    doubts = [f"{count:,} {what}" for count, what in counted if count]
    return f"{text} ({', '.join(doubts)})" if doubts else text


def score_text(score: Score) -> str:
    """Format a score in full: value, interval, unit and n, or why there is no value."""
    if score.value is None:
        return f"n/a ({score.missing_reason})"
    unit = "" if is_percentage(score.metric, score.unit) else f" {measure_of(score.metric).unit or _unit(score.unit)}"
    return f"{value_text(score)}{unit}, n = {score.n}"


def _unit(unit: str) -> str:
    """Name a unit; a range such as `0-100` is a scale."""
    if unit == "share":
        return "(0-1)"
    return f"({unit})" if unit[-1:].isdigit() else unit


def possible_ends(metric: str, unit: str, ends: tuple[float | None, float | None]) -> tuple[float | None, float | None]:
    """Cut the interval of a difference at what is possible: shares differ by at most 1, scores from 0 to 100 by 100."""
    largest = 1.0 if is_percentage(metric, unit) else 100.0 if unit == "0-100" else None
    if largest is None:
        return ends
    lower, upper = (None if end is None else max(-largest, min(largest, end)) for end in ends)
    return lower, upper


def signed_text(metric: str, unit: str, value: float, ci_low: float | None, ci_high: float | None) -> str:
    """Format a difference with its sign and interval: `+1.2 [-3.25, 5.6]`; shares in percentage points."""
    scale = 100.0 if is_percentage(metric, unit) else 1 / measure_of(metric).divisor
    points = " points" if is_percentage(metric, unit) else ""
    ci_low, ci_high = possible_ends(metric, unit, (ci_low, ci_high))
    ends = "" if ci_low is None or ci_high is None else f" [{_signed(scale * ci_low)}, {_signed(scale * ci_high)}]"
    return f"{_signed(scale * value)}{ends}{points}"


def _signed(value: float) -> str:
    """Format a number with its sign; a difference that only rounding made is zero, which has none."""
    return "0" if abs(value) < _NOTHING else f"{value:+.3g}"


def difference_text(found: Difference) -> str:
    """Format a difference with its interval, and note if it isn't significant."""
    text = signed_text(found.metric, found.unit, found.value, *found.family_ends)
    if found.better:
        return text
    return f"{text}, " + (
        f"too few documents ({found.clusters})" if found.clusters < MIN_CLUSTERS else "not significant"
    )


def load_in_words(latency: Score) -> str:
    """Describe under which load a latency was measured: of an API, many requests wait at the same time."""
    load = next((part for part in latency.signature.split("|") if part.startswith("users:")), "users:1")
    return {"users:many": "with many requests at once", "users:not recorded": "as recorded"}.get(load, "for one user")
