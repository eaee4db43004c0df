"""Needs by questions, and needs as a file."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from sizewise.choice.evidence import quality_measures
from sizewise.choice.needs import make_needs
from sizewise.errors import UsageError
from sizewise.records import Comparison, Needs


class Question(NamedTuple):
    """One question."""

    name: str
    """Field of the needs that it fills."""
    text: str
    """What is asked; `{metrics}` stands for what was measured."""
    read: Callable[[str], Any]
    """Turns an answer into a value, or raises ValueError."""
    expected: str
    """What an answer looks like."""

    def words(self, comparison: Comparison) -> str:
        """Give the question for a comparison."""
        return self.text.format(metrics=", ".join(quality_measures(comparison)))


def _yes(answer: str) -> bool:
    if answer.lower() in ("y", "yes", "true", "1"):
        return True
    if answer.lower() in ("n", "no", "false", "0"):
        return False
    raise ValueError(answer)


def _words(answer: str) -> list[str]:
    return [word.strip() for word in answer.split(",") if word.strip()]


QUESTIONS = (
    Question("quality", "Which measure stands for quality ({metrics})", str, "the name of a measure"),
    Question("min_quality", "Worst acceptable value of it", float, "a number"),
    Question("local_only", "Must all text stay on this machine (yes or no)", _yes, "yes or no"),
    Question("max_latency_s", "Longest acceptable time of an answer, in seconds", float, "a number above 0"),
    Question("concurrent_users", "Users at once", lambda a: int(float(a)), "a number above 0"),
    Question(
        "max_latency_p95_s",
        "Longest time in which 95 % of their answers must be whole, in seconds",
        float,
        "a number above 0",
    ),
    Question("max_memory_gb", "Most memory, in GB", float, "a number above 0"),
    Question("requests_per_month", "Requests a month", lambda a: int(float(a.replace(",", ""))), "a number above 0"),
    Question("max_cost_usd_per_1000", "Most US dollars for 1,000 answers", float, "a number above 0"),
    Question("machine_usd_per_hour", "US dollars an hour of the own machine", float, "a number above 0"),
    Question("machine_watts", "Watts that it draws while it answers", float, "a number above 0"),
    Question("setup_cost_usd", "US dollars that training and people's time cost once", float, "a number"),
    Question("max_bias_gap", "Farthest that preferred stereotypes may stand from one half", float, "0 to 0.5"),
    Question("max_harm_rate", "Greatest share of votes that saw harm in a pair (people must vote)", float, "0 to 1"),
    Question("excluded_licenses", "Licences that are refused, words with commas (for example Gemma)", _words, "words"),
    Question("min_context_tokens", "Tokens that must be read at once", lambda a: int(float(a)), "a number above 0"),
)


def answered(needs: Needs, question: Question, answer: str, comparison: Comparison) -> Needs:
    """Put one answer into needs.

    Raises:
        UsageError: it is not understood.
    """
    try:
        value = question.read(answer)
    except ValueError as error:
        raise UsageError(f"'{answer}' is not understood.", question.expected, "") from error
    if question.name == "quality" and value not in quality_measures(comparison):
        raise UsageError(f"'{value}' cannot stand for quality here.", question.words(comparison), "")
    return make_needs(needs.model_dump() | {question.name: value}, "the answer")


def needs_text(needs: Needs) -> str:
    """Write needs as a TOML file."""
    lines = ["[needs]"]
    for key, value in needs.model_dump(exclude_defaults=True).items():
        if isinstance(value, bool):
            said = str(value).lower()
        elif isinstance(value, str):
            said = f'"{value}"'
        elif isinstance(value, tuple | list):
            said = "[" + ", ".join(f'"{one}"' for one in value) + "]"
        else:
            said = str(value)
        lines.append(f"{key} = {said}")
    return "\n".join(lines) + "\n"
