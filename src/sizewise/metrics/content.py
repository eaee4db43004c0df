"""Whether an answer contains what the reference answer says, in whatever words around it: phrases, numbers, yes or no.

Overlap measures such as token F1 compare an answer with the reference as a whole, so a correct sentence around a short
reference counts as mostly wrong. These measures only look for the reference's content.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache

from sizewise.metrics.base import AnswerItem, CannotMeasure, Mean
from sizewise.metrics.figures import has_numbers, main_quantities, plain_numbers
from sizewise.metrics.manner import refuses
from sizewise.metrics.polarity import expected_polarity, stated_polarity
from sizewise.text import fold_text, phrase_pattern, words_of
from sizewise.text.number_words import digits_for_words
from sizewise.text.quantities import Quantity
from sizewise.text.words import content_terms

MAX_TERMS = 10
"""Content words of a reference up to which it counts as a short one, whose content an answer has or lacks."""
_EDGES = " .,;:!?\"'()[]\u3002\uff0c\uff01\uff1f\u061f\u0964"
_FUNCTION_WORDS = frozenset(
    {
        *("a", "an", "the", "of", "in", "on", "at", "to", "and", "or", "for", "by", "with", "from", "as"),
        *("is", "was", "were", "are", "be", "been", "it", "its", "that", "this", "these", "those", "there"),
        *("he", "she", "they", "his", "her", "their"),
    }
)
_NEGATIONS = frozenset(
    {
        *("not", "no", "never", "none", "neither", "nor", "cannot", "without", "nicht", "kein", "keine", "keinen"),
        *("ohne", "pas", "jamais", "sans", "sin", "nunca", "non", "senza", "mai", "não", "sem", "niet", "geen"),
        *("nie", "bez", "не"),
    }
)
_DENIED = re.compile(
    r"(?:\b(?:not|never|nor|neither|without|cannot|\w+n't|nicht|kein\w*|ohne|non(?: è| e)?|não(?: é)?|niet|geen|не|"
    r"nie jest|n'\w+ pas|ne \w+ pas|no (?:es|era|fue|son|está)|(?:is|are|was|were|has|have|had|with|shows?) no)"
    r"\s+(?:be\s+)?)(?:(?:the|an?|in|at|by|der|die|das|den|le|la|les|el|los|in|het|de)\s+){0,2}$"
)
"""A denial of the words right after it."""


def _trim(text: str) -> str:
    return fold_text(text).strip(_EDGES)


def contains_phrase(answer: str, phrase: str) -> bool:
    """Check whether an answer contains a phrase as whole words, whatever case, Unicode form or width they have."""
    wanted, said = _trim(phrase), fold_text(answer)
    return bool(wanted) and wanted in said and _whole(wanted).search(said) is not None


@lru_cache(maxsize=4_096)
def _whole(phrase: str) -> re.Pattern[str]:
    return phrase_pattern(phrase)


class ContainsReference(Mean):
    """Share of answers that contain a reference answer word for word."""

    name, title = "contains_reference", "Contains the reference"
    description = (
        "Share of answers that contain a reference answer word for word, ignoring case and Unicode form. Higher is "
        "better. Meant for references of a few words; a longer answer has more chances, and a denial of the reference "
        "counts as well."
    )

    def signature(self) -> str:
        """Describe how a reference is looked for."""
        return "contains|words:whole|case:folded|unicode:folded|references:any"

    def measure(self, item: AnswerItem) -> tuple[float, ...]:
        """Return (1 or 0, 1)."""
        return float(any(contains_phrase(item.completion, one) for one in item.references)), 1.0


# -- numbers -------------------------------------------------------------------------------------------------------


class NumericMatch(Mean):
    """Share of answers that contain the number of the reference answer, by value and unit."""

    name, title, version = "numeric_match", "Numeric match", 4
    description = (
        "Share of answers that contain every number or date of a reference answer, however it is written: 1,577.0, "
        "1577 and 1.577 thousand are compared by value, 15% equals 0.15, and a unit must agree where both name one. "
        "English number words and fractions count by value, too: fifty-five, three quarters, 1/2. "
        "Rounding to three digits or more is accepted; signs, magnitudes and the order of a range count. A stated "
        "answer or correction goes before other numbers. Higher is better."
    )

    def __init__(self, tolerance: float = 0.0) -> None:
        self.tolerance = tolerance

    def signature(self) -> str:
        """Describe when numbers are equal."""
        return f"numeric_match|tolerance:{self.tolerance:g}|rounding:3 digits|units:where both name one"

    def measure(self, item: AnswerItem) -> tuple[float, ...]:
        """Return (1 or 0, 1).

        Raises:
            CannotMeasure: no reference answer has a number.
        """
        wanted = [plain for one in item.references if main_quantities(plain := plain_numbers(one))]
        if not wanted:
            raise CannotMeasure("the reference answer has no number")
        given = plain_numbers(item.completion)
        found = any(has_numbers(given, one, self.tolerance, item.prompt) for one in wanted)
        return float(found and not refuses(item.completion)), 1.0


# -- content -------------------------------------------------------------------------------------------------------


def content_of(text: str) -> list[str]:
    """List the words of a text that carry its content; in scripts without spaces, n-grams."""
    return [term for term, _ in content_terms(words_of(digits_for_words(text))) if term not in _FUNCTION_WORDS]


def content_match(answer: str, reference: str, prompt: str = "") -> float:
    """Compute how far an answer contains a short reference: 1 for the phrase, else the share of its content words.

    Numbers and dates count by value: without all of them the match is 0. A reference that is yes or no is matched by
    the yes or no that the answer states, and by nothing else. A refusal that doesn't contain the reference, and an
    answer that only denies it, match nothing.
    """
    said = expected_polarity(reference)
    if said is not None:
        return float(not refuses(answer) and stated_polarity(answer) is said)
    answer, reference = plain_numbers(answer), plain_numbers(reference)
    numbers = main_quantities(reference)
    if numbers and not has_numbers(answer, reference, prompt=prompt):
        return 0.0
    wanted = _trim(reference)
    if contains_phrase(answer, reference):
        return float(_affirmed(answer, wanted))
    if refuses(answer) or (_denies(reference) and not _denies(answer)):
        return 0.0
    words = [word for word in content_of(_without(reference, numbers)) if not any(map(str.isdigit, word))]
    words = [word for word in words if word not in _NEGATIONS]
    if not words:
        return float(bool(numbers))
    known = set(content_of(answer))
    share = sum(word in known and (_denies(reference) or _affirmed(answer, word)) for word in words) / len(words)
    return max(share, 0.5) if numbers else share  # the number is the point, its unit and label are words around it


def _denies(text: str) -> bool:
    return any(word in _NEGATIONS or word.endswith("n't") for word in words_of(text.replace("\u2019", "'")))


def _affirmed(answer: str, phrase: str) -> bool:
    """Check whether a phrase of an answer stands there without a denial right before it, at least once."""
    said = fold_text(answer).replace("\u2019", "'")
    places = list(_whole(phrase).finditer(said))
    return not places or any(not _DENIED.search(said[max(0, one.start() - 40) : one.start()]) for one in places)


def _without(text: str, quantities: Sequence[Quantity]) -> str:
    for one in reversed(quantities):
        text = f"{text[: one.start]} {text[one.end :]}"
    return text


class ReferenceMatch(Mean):
    """How far answers contain the content of short reference answers."""

    name, title, version = "reference_match", "Reference match", 4
    description = (
        "How far an answer contains what a short reference answer says, from 0 to 1, whatever stands around it: the "
        "phrase or the share of its content words, every number and date by value, sign and unit, or a yes or no that "
        "the answer states itself. Refusals "
        "count as 0. Higher is better. It doesn't see further false statements."
    )

    def signature(self) -> str:
        """Describe what is looked for."""
        return f"reference_match|terms:{MAX_TERMS}|numbers:by value|yes-no:stated|refusals:0|references:best"

    def measure(self, item: AnswerItem) -> tuple[float, ...]:
        """Return (match, 1).

        Raises:
            CannotMeasure: every reference answer is long.
        """
        short = [one for one in item.references if is_short(one)]
        if not short:
            raise CannotMeasure(f"the reference answer has more than {MAX_TERMS} content words")
        return max(content_match(item.completion, one, item.prompt) for one in short), 1.0


@lru_cache(maxsize=65_536)
def is_short(reference: str) -> bool:
    """Check whether a reference is short, or begins with yes or no, so that an answer has its content or lacks it."""
    return 0 < len(content_of(reference)) <= MAX_TERMS or expected_polarity(reference) is not None


class ReferenceRecall(Mean):
    """Share of the reference answer's content words that occur in the answer."""

    name, title, version = "reference_recall", "Reference recall", 4
    stands_for_quality = False
    description = (
        "Share of the reference answer's content words and numbers that occur in the answer, from 0 to 1. Higher is "
        "better when the reference lists what must be said. Longer answers score higher by chance, so it never decides "
        "alone."
    )

    def signature(self) -> str:
        """Describe what is looked for."""
        return "reference_recall|words:content|references:best"

    def measure(self, item: AnswerItem) -> tuple[float, ...]:
        """Return (share, 1)."""
        known = set(content_of(item.completion))
        shares = [
            sum(term in known for term in terms) / len(terms) for terms in map(content_of, item.references) if terms
        ]
        return max(shares, default=0.0), 1.0
