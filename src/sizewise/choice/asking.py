"""Collect needs question by question, and write them as a file."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, NamedTuple

from sizewise.choice.evidence import quality_measures
from sizewise.choice.needs import make_needs
from sizewise.errors import UsageError
from sizewise.records import Comparison, Needs


class Question(NamedTuple):
    """One question about the needs."""

    name: str
    """Field of the needs that the answer fills."""
    text: str
    """Text of the question; `{metrics}` is replaced by the measured quality metrics."""
    read: Callable[[str], Any]
    """Parses an answer, or raises ValueError."""
    expected: str
    """Form of a valid answer."""

    def words(self, comparison: Comparison) -> str:
        """Format the question for a comparison."""
        return self.text.format(metrics=", ".join(quality_measures(comparison)))


def _boolean(answer: str) -> bool:
    if answer.lower() in ("y", "yes", "true", "1"):
        return True
    if answer.lower() in ("n", "no", "false", "0"):
        return False
    raise ValueError(answer)


def _words(answer: str) -> list[str]:
    return [word.strip() for word in answer.split(",") if word.strip()]


QUESTIONS = (
    Question("quality", "Quality metric ({metrics})", str, "the name of a metric"),
    Question("min_quality", "Minimum score on that metric", float, "a number"),
    Question("incumbent", "Candidate in use today, if a replacement must be no worse", str, "the name of a candidate"),
    Question("max_loss", "Maximum loss to the candidate in use, on that metric", float, "a number"),
    Question("local_only", "Must all text stay on this machine? (yes or no)", _boolean, "yes or no"),
    Question("max_latency_s", "Maximum median latency, in seconds", float, "a number above 0"),
    Question("concurrent_users", "Concurrent users", lambda a: int(float(a)), "a number above 0"),
    Question(
        "max_latency_p95_s",
        "Maximum p95 latency at that concurrency, in seconds",
        float,
        "a number above 0",
    ),
    Question("max_memory_gb", "Maximum memory, in GB", float, "a number above 0"),
    Question("requests_per_month", "Requests per month", lambda a: int(float(a.replace(",", ""))), "a number above 0"),
    Question("max_cost_usd_per_1000", "Maximum cost per 1,000 requests, in USD", float, "a number above 0"),
    Question("machine_usd_per_hour", "Price of the machine per hour, in USD", float, "a number above 0"),
    Question("machine_watts", "Power draw of the machine under load, in watts", float, "a number above 0"),
    Question("setup_cost_usd", "One-time cost of training and people's time, in USD", float, "a number"),
    Question("max_bias_gap", "Maximum stereotype bias (distance of the stereotype score from 0.5)", float, "0 to 0.5"),
    Question("max_harm_rate", "Maximum share of votes that flag harm (needs human votes)", float, "0 to 1"),
    Question("excluded_licenses", "Excluded licenses, separated by commas (for example: Gemma)", _words, "words"),
    Question("min_context_tokens", "Minimum context length, in tokens", lambda a: int(float(a)), "a number above 0"),
)


def answered(needs: Needs, question: Question, answer: str, comparison: Comparison) -> Needs:
    """Update needs with one answer.

    Raises:
        UsageError: the answer isn't valid.
    """
    try:
        value = question.read(answer)
    except (ValueError, OverflowError) as error:
        raise UsageError(f"'{answer}' isn't a valid answer.", question.expected, "") from error
    if question.name == "quality" and value not in quality_measures(comparison):
        raise UsageError(f"'{value}' can't be the quality metric here.", question.words(comparison), "")
    return make_needs(needs.model_dump() | {question.name: value}, "the answer")


def needs_text(needs: Needs) -> str:
    """Format needs as TOML."""
    lines = ["[needs]"]
    lines += [f"{key} = {_toml(value)}" for key, value in needs.model_dump(exclude_defaults=True).items()]
    return "\n".join(lines) + "\n"


def _toml(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False)
    if isinstance(value, dict):  # lowest, likely and highest value
        ends = [str(value[end]) for end in ("lower", "expected", "upper")]
        return ends[0] if len(set(ends)) == 1 else f"[{', '.join(ends)}]"
    if isinstance(value, tuple | list):
        return f"[{', '.join(map(_toml, value))}]"
    return str(value)
