"""Levels of a score in their order: by the number that each contains, or as words of a usual scale."""

from __future__ import annotations

import re
from collections.abc import Sequence

_SCALES = (
    ("none", "very low", "low", "medium low", "medium", "medium high", "high", "very high"),
    ("none", "low", "moderate", "high", "severe", "critical"),
    ("informational", "low", "medium", "high", "critical"),
    ("info", "low", "medium", "high", "critical"),
    ("low", "normal", "high", "urgent"),
    ("trivial", "minor", "major", "critical", "blocker"),
    ("none", "very mild", "mild", "moderate", "severe", "very severe"),
    ("very small", "small", "medium", "large", "very large"),
    ("very bad", "bad", "ok", "good", "very good"),
    ("terrible", "bad", "okay", "good", "great"),
    ("very poor", "poor", "fair", "good", "very good", "excellent"),
    ("poor", "average", "good", "excellent"),
    ("very negative", "negative", "neutral", "positive", "very positive"),
    ("never", "rarely", "sometimes", "often", "always"),
    ("strongly disagree", "disagree", "neutral", "agree", "strongly agree"),
    ("very dissatisfied", "dissatisfied", "neutral", "satisfied", "very satisfied"),
    ("very unlikely", "unlikely", "neutral", "likely", "very likely"),
    ("beginner", "intermediate", "advanced", "expert"),
    ("sehr niedrig", "niedrig", "mittel", "hoch", "sehr hoch", "kritisch"),
    ("gering", "mittel", "hoch", "sehr hoch"),
    ("ungenügend", "mangelhaft", "ausreichend", "befriedigend", "gut", "sehr gut"),
    ("sehr schlecht", "schlecht", "mittel", "gut", "sehr gut"),
    ("nie", "selten", "manchmal", "oft", "immer"),
    ("faible", "moyen", "élevé", "très élevé"),
    ("faible", "moyenne", "élevée", "très élevée"),
    ("bajo", "medio", "alto", "muy alto"),
    ("baja", "media", "alta", "muy alta"),
    ("basso", "medio", "alto"),
    ("baixo", "médio", "alto"),
    ("niski", "średni", "wysoki"),
    ("низкий", "средний", "высокий"),
    ("低", "中", "高"),
)
"""Words from the least to the greatest. Scales of other words aren't guessed."""
_FIRST_NUMBER = re.compile(r"(\D*?)([-+]?\d+(?:[.,]\d+)?)")
_THOUSANDS = re.compile(r"\d[.,]\d{3}(?!\d)")


def ordered_levels(labels: Sequence[str]) -> list[str] | None:
    """Order levels from the least to the greatest; None if their order isn't known.

    The number in each decides if all have the same text in front of it (`P1`, `10 - best`); otherwise, all have to be
    words of one usual scale.
    """
    matches = [_FIRST_NUMBER.match(label.strip()) for label in labels]
    found = [one for one in matches if one is not None]
    if len(found) == len(labels) and not any(map(_THOUSANDS.search, labels)):
        sizes = [float(one[2].replace(",", ".")) for one in found]
        if len({one[1].casefold() for one in found}) == 1 and len(set(sizes)) == len(sizes):
            return [label for _, label in sorted(zip(sizes, labels, strict=True))]
    words = {label: " ".join(re.split(r"[\s_-]+", label.strip().casefold())) for label in labels}
    for scale in _SCALES:
        if len(set(words.values())) == len(labels) and set(words.values()) <= set(scale):
            return sorted(labels, key=lambda label: scale.index(words[label]))
    return None
