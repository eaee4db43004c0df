"""Signs that a text tries to give a model orders that are not its user's: counted and shown, never proof.

A few rules of our own for what is known from public reports (Perez and Ribeiro, 2022, Ignore previous prompt; Greshake
et al., 2023, Not what you've signed up for; OWASP Top 10 for LLM applications, LLM01). Letters that do not show,
look-alike widths and letters set apart are made plain first, and a conversation is read as one text, so that an order
split over messages is still seen. New wordings pass: words alone do not tell all orders from all quotations.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from sizewise.guard.plain import plain_copies
from sizewise.guard.rules import rules_of

SIGNALS = ("override", "persona", "prompt_leak", "markup", "hidden", "exfiltration")
MOST_LETTERS = 400_000  # of longer texts the beginning and the end are read
LEAST_HIDDEN = 3  # one or two joiners belong to names and emoji
_LEET = str.maketrans("013457@$!", "oieastasi")
_HIDDEN = re.compile("[\u200b-\u200f\u2060-\u2064\ufeff\u00ad\u202a-\u202e\u2066-\u2069\U000e0000-\U000e007f]")


def signals_in(texts: Sequence[str]) -> tuple[str, ...]:
    """Give the kinds of signs in texts that somebody else wrote, in the order of `SIGNALS`.

    Args:
        texts: messages and documents, read as one; of very long ones the middle is not read.
    """
    raw = "\n".join(texts)
    if len(raw) > MOST_LETTERS:
        raw = raw[: MOST_LETTERS // 2] + "\n" + raw[-MOST_LETTERS // 2 :]
    plain = [copy.text.lower() for copy in plain_copies(raw)]
    found = {
        kind
        for kind, rules in rules_of("signals").items()
        if any(rule.search(text) for text in plain for rule in rules)
    }
    squeezed = re.sub(r"[^a-z]", "", plain[0].translate(_LEET))
    found |= {kind for kind, (rule,) in rules_of("squeezed").items() if rule.search(squeezed)}
    if len(_HIDDEN.findall(raw)) >= LEAST_HIDDEN:
        found.add("hidden")
    return tuple(kind for kind in SIGNALS if kind in found)
