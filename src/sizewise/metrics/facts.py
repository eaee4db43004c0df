"""Facts of a summary: which ones of the reference it keeps, and which of its own the source doesn't have.

A fact is a content word (by its stem), or a number or date with its unit. A word that one text denies ("denies chest
pain", "no fever") and the other doesn't is another fact. This compares words and isn't entailment: other words for the
same thing count as absent.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import lru_cache
from typing import NamedTuple

from sizewise.metrics.base import AnswerItem, Mean
from sizewise.metrics.figures import absent_numbers
from sizewise.metrics.style_masking import function_words
from sizewise.retrieval.terms import terms_of
from sizewise.text import detect_language, fold_text, sentences_of
from sizewise.text.negation import denial_pattern
from sizewise.text.number_words import digits_for_words

_PART = re.compile(r"([,;:()]|\s(?:but|although|though|while|and|or)\s)")
_ENDS_DENIAL = re.compile(r"\s(?:but|although|though|while)\s|[;:()]")
_DENIED = re.compile(r"\b(?:den(?:y|ies|ied|ying)|negative for|lacks?|absen(?:t|ce) of|without)\b")
_DENYING_WORDS = frozenset(
    (
        "no",
        "not",
        "never",
        "none",
        "nor",
        "neither",
        "cannot",
        "without",
        "deny",
        "denies",
        "denied",
        "denying",
        "lacks",
    )
)


class Facts(NamedTuple):
    """Facts of a text, or those of one text that another lacks."""

    words: frozenset[str]
    """Stems of content words."""
    numbers: tuple[str, ...]
    """Numbers and dates as written."""

    @property
    def total(self) -> int:
        """Number of facts."""
        return len(self.words) + len(self.numbers)


def facts_of(text: str) -> Facts:
    """List the facts of a text."""
    return Facts(frozenset(_words(text)), tuple(absent_numbers(text, "")))


def absent_facts(text: str, source: str, denials: bool) -> Facts:
    """List the facts of a text that a source doesn't state.

    Args:
        text: the text.
        source: the text that should have its facts.
        denials: also list words that one of them denies and the other states.
    """
    given, wanted = _words(source), _words(text)
    absent = frozenset(
        word for word, polarity in wanted.items() if word not in given or (denials and not polarity & given[word])
    )
    return Facts(absent, tuple(absent_numbers(text, source)))


@lru_cache(maxsize=512)
def _words(text: str) -> dict[str, frozenset[bool]]:
    """Return the stems of a text's content words, each with whether it is denied; both if it is in some places only."""
    kept = function_words()
    ignored = kept.get(detect_language(text), kept["en"]) | _DENYING_WORDS
    found: dict[str, set[bool]] = {}
    for part, denied in _parts(text):
        for word in terms_of(part, ignored):
            if not word.isdecimal():
                found.setdefault(word, set()).add(denied)
    return {word: frozenset(polarity) for word, polarity in found.items()}


def _parts(text: str) -> Iterator[tuple[str, bool]]:
    """Split a text into parts of sentences; a denial holds for the rest of a list, up to a word such as `but`."""
    for sentence in sentences_of(digits_for_words(text)):
        denied = False
        for part in _PART.split(fold_text(sentence)):
            if _ENDS_DENIAL.fullmatch(part):
                denied = False
            elif denial_pattern().search(part) or _DENIED.search(part):
                denied = True
            yield part, denied


class FactRecall(Mean):
    """Share of the reference's facts that the answer states."""

    name, title, version = "fact_recall", "Facts kept", 2
    stands_for_quality = False
    description = (
        "Share of the reference's facts (content words, numbers and dates with units) that the answer states; the rest "
        "is omitted. Higher is better for summaries. Longer answers score higher, so it never decides alone. On 400 "
        "summaries of mts_dialog it follows the omissions that people counted (rank correlation -0.66)."
    )

    def signature(self) -> str:
        """Describe what counts as a fact."""
        return "fact_recall|facts:content stems, numbers|references:best"

    def measure(self, item: AnswerItem) -> tuple[float, ...]:
        """Return (share of the facts, 1) of the best reference; (0, 0) if no reference has a fact."""
        shares = [
            1 - absent_facts(reference, item.completion, denials=False).total / count
            for reference in item.references
            if (count := facts_of(reference).total)
        ]
        return (max(shares), 1.0) if shares else (0.0, 0.0)


class FactPrecision(Mean):
    """Share of the answer's facts that the source or a reference states."""

    name, title, version = "fact_precision", "Facts supported", 2
    stands_for_quality = False
    needs_references = False
    description = (
        "Share of the answer's facts (content words, denied or not, numbers and dates with their units) that the "
        "prompt, its passages or a reference states; the rest may be invented. Higher is better for summaries. It "
        "misses most inventions: on four sets of summaries its rank correlation with people's view of their facts is "
        "0.20 to 0.31. Have a person read a sample."
    )

    def signature(self) -> str:
        """Describe what counts as a fact."""
        return "fact_precision|facts:content stems, denials, numbers|in:prompt, passages, references"

    def measure(self, item: AnswerItem) -> tuple[float, ...]:
        """Return (share of the facts, 1); (0, 0) if the answer has none."""
        count = facts_of(item.completion).total
        if not count:
            return 0.0, 0.0
        source = "\n".join((item.prompt, *item.passages, *item.references))
        return 1 - absent_facts(item.completion, source, denials=True).total / count, 1.0
