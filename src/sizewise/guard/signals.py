"""Detect signs of prompt injection. They are counted and shown, but are not proof.

A few rules cover attacks known from public reports (Perez and Ribeiro, 2022, Ignore previous prompt; Greshake et al.,
2023, Not what you've signed up for; OWASP Top 10 for LLM applications, LLM01). Invisible characters, full-width letters
and spaced-out letters are normalized first. A conversation is scanned as one text, so that an instruction split over
messages is detected. New wordings are missed, and quotations of an attack are reported as well.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Protocol

from sizewise.guard.plain import plain_copies
from sizewise.guard.rules import rules_of

CLASSIFIER = "classifier"
SIGNALS = ("override", "persona", "prompt_leak", "markup", "hidden", "exfiltration", CLASSIFIER)
MAX_CHARACTERS = 400_000  # of longer texts, the beginning and the end are scanned
MIN_HIDDEN = 3  # one or two joiners are normal in names and emoji
_LEET = str.maketrans("013457@$!", "oieastasi")
_HIDDEN = re.compile("[\u200b-\u200f\u2060-\u2064\ufeff\u00ad\u202a-\u202e\u2066-\u2069\U000e0000-\U000e007f]")


class SignalDetector(Protocol):
    """Recognizes attacks beside the rules."""

    def finds(self, texts: Sequence[str]) -> bool:
        """Return whether messages and documents, in order, are signs of an attack. Threads may call it together."""
        ...


def signals_in(texts: Sequence[str], detectors: Sequence[SignalDetector] = ()) -> tuple[str, ...]:
    """Return the kinds of injection signs in untrusted texts, in the order of `SIGNALS`.

    Args:
        texts: Messages and documents, scanned as one text; the middle of very long texts is skipped.
        detectors: Trained detectors; what they find is a sign of the kind `classifier`.
    """
    raw = "\n".join(texts)
    if len(raw) > MAX_CHARACTERS:
        raw = raw[: MAX_CHARACTERS // 2] + "\n" + raw[-MAX_CHARACTERS // 2 :]
    plain = [copy.text.lower() for copy in plain_copies(raw)]
    found = {
        kind
        for kind, rules in rules_of("signals").items()
        if any(rule.search(text) for text in plain for rule in rules)
    }
    letters = re.sub(r"[^a-z]", "", plain[0].translate(_LEET))
    found |= {kind for kind, (rule,) in rules_of("letters_only").items() if rule.search(letters)}
    if len(_HIDDEN.findall(raw)) >= MIN_HIDDEN:
        found.add("hidden")
    if any(detector.finds(texts) for detector in detectors):
        found.add(CLASSIFIER)
    return tuple(kind for kind in SIGNALS if kind in found)
