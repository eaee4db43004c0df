"""The verdict as a headline with a status, and the sentences below it."""

from __future__ import annotations

import re
from typing import Literal, NamedTuple

from sizewise.choice.summary import CHECK_LABELS
from sizewise.records import Recommendation

Tone = Literal["good", "open", "bad"]

OUTCOME_LABELS = {
    "pick": "Recommended",
    "none_good_enough": "No suitable candidate",
    "inconclusive": "Inconclusive",
    "keep_large": "Keep the large model",
    "do_not_train": "Don't train",
    "fall_back": "Small model with fallback",
}
_ICONS: dict[Tone, str] = {"good": "✓", "open": "≈", "bad": "✕"}
_TITLES = {
    "pick": "Use {}",
    "do_not_train": "Don't train: use {} off the shelf",
    "keep_large": "Use {}",
    "fall_back": "Use {} first, the large model when needed",
}
_OPENINGS = (
    "Too close to call. ",
    "Inconclusive. ",
    "No language model needed at this threshold. ",
    "Don't train, and don't use a language model for this. ",
)
"""First sentences that the status and the headline replace."""
BASELINE = " (baseline)"
"""End of a baseline's name."""
UNMEASURED = "No candidate could be measured"
"""Start of a verdict without any score of quality."""
_SENTENCE_END = re.compile(r"(?<=[.!?])\s+(?=[A-Z\d])")
_PARAMETERS = re.compile(r"\(([^()]* parameters)[^()]*\)")


class Headline(NamedTuple):
    """The verdict at a glance."""

    tone: Tone
    icon: str
    """A sign for the tone, for readers who don't see colors."""
    status: str
    """How sure the verdict is, in a few words."""
    title: str
    """The verdict in one line."""
    rest: str
    """The other sentences of the verdict."""


def first_headline() -> Headline:
    """Write the headline of a study that has measured only rules so far."""
    rest = "The plot has the rules without a language model, which are measured first."
    return Headline("open", "…", "No result yet", "No candidate is measured yet", rest)


def headline_of(recommendation: Recommendation, baseline: str | None = None) -> Headline:
    """Write the headline of a recommendation.

    Args:
        recommendation: the recommendation.
        baseline: rule that is enough, or that no candidate beats.
    """
    pick, outcome = recommendation.pick, recommendation.outcome
    first, rest = _split(recommendation.summary)
    if outcome == "none_good_enough":
        status = "Not measured" if first.startswith(UNMEASURED) else "None is good enough"
        return Headline("bad", _ICONS["bad"], status, first.rstrip("."), rest)
    if pick is None and outcome != "do_not_train":
        return _open_headline(recommendation, first, rest, baseline)
    tone: Tone = "good" if recommendation.decisive else "open"
    status = "Decided" if recommendation.decisive else "Likely, not certain"
    if pick is None:
        title = f"No language model needed: {baseline} is enough" if baseline else first.rstrip(".")
        return Headline(tone, _ICONS[tone], status, title, rest)
    size = _PARAMETERS.search(first)
    larger = "Keep the larger model. " if first.startswith("Keep the larger") else ""
    parameters = f" It has {size[1]}." if size else ""
    return Headline(tone, _ICONS[tone], status, _TITLES[outcome].format(pick), f"{larger}{rest}{parameters}".strip())


def _open_headline(recommendation: Recommendation, first: str, rest: str, baseline: str | None) -> Headline:
    """Write the headline of a verdict that the evidence doesn't decide."""
    provisional = recommendation.provisional
    few = first.startswith("Not enough data")
    status = "Not enough data" if few else "Too close to call"
    title = f"For now, use {provisional}" if provisional else "No clear winner"
    if provisional and CHECK_LABELS in rest:
        status, title = "Not decided", f"Keep {provisional}: no candidate beats a simple rule"
    elif provisional is None and baseline:
        usable = " that you can use" if f"is significantly better than {baseline} (" in rest else ""
        title = f"No candidate{usable} beats a simple rule: {baseline.removesuffix(BASELINE)}"
    if few:
        rest = f"{first.partition(': ')[2]} {rest}"
        rest = rest[:1].upper() + rest[1:]
    if provisional:
        rest = re.sub(
            rf"Provisional pick: {re.escape(provisional)}(?: \(([^()]+)\))?\.",
            lambda found: f"{provisional} is {found[1]}." if found[1] else "",
            rest,
        )
    return Headline("open", _ICONS["open"], status, title, rest.strip())


def _split(summary: str) -> tuple[str, str]:
    """Split off the first sentence of a summary."""
    for opening in _OPENINGS:
        if summary.startswith(opening):
            return opening.strip(), summary[len(opening) :]
    end = _SENTENCE_END.search(summary)
    return (summary, "") if end is None else (summary[: end.start()], summary[end.end() :])
