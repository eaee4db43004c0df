"""Labels that are opposites: yes and no, or a class and its negation, in several languages."""

from __future__ import annotations

import re
from collections.abc import Sequence

_POSITIVE = ("yes", "true", "1", "y", "t", "ja", "oui", "si", "sí", "sim", "tak", "да", "是", "はい", "예", "positive")
_NEGATIVE = (*("no", "false", "0", "n", "f", "nein", "non", "não", "nie", "нет", "否", "いいえ", "아니요", "negative"),)
_PAIRS = (("spam", "ham"), ("pos", "neg"), ("fraud", "legit"), ("fraud", "legitimate"), ("unsafe", "safe"))
_NOT = r"(?:(?:not?|non|un|in|kein|nicht)[\s_-]*|(?:pas|sin)[\s_-]+)"
_OTHER_WORDS = frozenset(
    (
        *("inbound", "inbox", "income", "incoming", "indoor", "indoors", "inflight", "inflow", "inform", "inland"),
        *("inlet", "inpatient", "input", "inside", "insight", "install", "instore", "intake", "intend", "intent"),
        *("invent", "invest", "invoice", "invoices", "invoicing", "notable", "notice", "union", "unit", "units"),
    )
)
"""Words that begin like a negation of another word: an invoice is no opposite of a voice."""


def positive_first(labels: Sequence[str]) -> list[str] | None:
    """Order two labels that are yes and no, or a class and its opposite, the positive one first; None for others."""
    for one, other in (labels, labels[::-1]):
        a, b = one.casefold(), other.casefold()
        opposite = b not in _OTHER_WORDS and re.fullmatch(_NOT + re.escape(a), b)
        if (a in _POSITIVE and b in _NEGATIVE) or (a, b) in _PAIRS or opposite:
            return [one, other]
    return None


def same_answers(labels: Sequence[str]) -> list[list[str]]:
    """List the labels that all mean yes, and those that all mean no, if there are several of either."""
    groups = [[one for one in labels if one.casefold() in words] for words in (_POSITIVE, _NEGATIVE)]
    return [group for group in groups if len(group) > 1]
