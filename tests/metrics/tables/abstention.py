"""Right answers of those that a model gives, and rightly declined questions."""

from __future__ import annotations

from sizewise.metrics import AnswerItem
from tests.metrics.tables.cases import NOT_MEASURED, Case, a

UNKNOWN = "The document doesn't say."
LONG = "one long reference answer that has far too many different content words, so nobody can match it exactly here"


def s(answer: str, reference: str, confidence: float | None) -> AnswerItem:
    """Make an item with the probability of its tokens."""
    return AnswerItem(answer, (reference,), confidence=confidence)


RIGHT, WRONG, NONE = s("Paris", "Paris", 0.9), s("Rome", "Paris", 0.5), s("I don't know.", "Paris", 0.99)
CASES = {
    "answered_accuracy": [
        Case([a("It is Paris.", "Paris")], 1, "right"),
        Case([a("It is Rome.", "Paris")], 0, "wrong"),
        Case([a("I don't know.", "Paris")], None, "declined"),
        Case([a("It is Paris.", "Paris"), a("I don't know.", "Paris")], 1, "declined questions don't count"),
        Case([a("Paris", "Paris"), a("Rome", "Paris"), a("I don't know.", "Paris")], 0.5, "one of two"),
        Case([a("It is Paris.", UNKNOWN)], 0, "an answer to an unanswerable question"),
        Case([a("The document doesn't mention it.", UNKNOWN)], None, "declined rightly"),
        Case([a("x", LONG)], NOT_MEASURED, "a long reference"),
        Case([a("It is Rome.", "Paris", "Rome")], 1, "the best reference"),
        Case([a("", "Paris")], 0, "an empty answer declines nothing"),
        Case([a("It is Paris.", UNKNOWN), a("It is Paris.", "Paris")], 0.5, "one of two"),
    ],
    "abstention_recall": [
        Case([a("I don't know.", UNKNOWN)], 1, "declined"),
        Case([a("It is Paris.", UNKNOWN)], 0, "answered"),
        Case([a("I don't know.", "Paris")], NOT_MEASURED, "an answerable question"),
        Case([a("I don't know.", UNKNOWN), a("I don't know.", "Paris")], 1, "answerable questions don't count"),
        Case([a("The document doesn't mention it.", UNKNOWN), a("Paris", UNKNOWN)], 0.5, "one of two"),
        Case([a("", UNKNOWN)], 0, "an empty answer declines nothing"),
        Case([a("Paris", UNKNOWN, "Paris"), a("Paris", UNKNOWN)], 0, "any answer makes it answerable"),
        Case([a("I'm sorry, but I can't help with that.", "I don't know.")], 1, "other words"),
    ],
    "risk_coverage_area": [
        Case([RIGHT], 0, "right"),
        Case([WRONG], 1, "wrong"),
        Case([RIGHT, WRONG], 0.25, "risk 0 at coverage 1/2 and 1/2 at coverage 1"),
        Case([s("Paris", "Paris", 0.5), s("Rome", "Paris", 0.9)], 0.75, "the wrong one is more confident"),
        Case([s("Paris", "Paris", 0.5), s("Rome", "Paris", 0.5)], 0.5, "a tie is one point"),
        Case([RIGHT, WRONG, NONE], 0.25, "declined questions don't count"),
        Case([NONE], None, "nothing is answered"),
        Case([s("Paris", "Paris", None)], NOT_MEASURED, "no probability"),
        Case([a("Paris", "Paris", p={"Paris": 0.7, "Rome": 0.3}), WRONG], 0.25, "the probability of a decision"),
        Case([RIGHT, s("Paris", "Paris", 0.8), WRONG, WRONG], 0.25, "risks 0, 0, 1/2, weights 1/4, 1/4, 1/2"),
        Case([s("x", LONG, 0.5)], NOT_MEASURED, "a long reference"),
    ],
}
