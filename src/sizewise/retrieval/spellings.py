"""Spellings of one term: with and without hyphen, with and without accents.

Documents say `e-mail`, `XR-2000`, `max_connections` or `Café` where people search for `email`, `XR2000`, `max
connections` or `cafe`, and the other way round. Documents are indexed by both forms of a compound; a question is read
with the forms that the documents have. Lucene's word delimiter and ASCII folding filters do the same.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterator
from functools import lru_cache
from typing import NamedTuple

from sizewise.retrieval.terms import normalized_text, number_readings, stem, terms_of, terms_of_word
from sizewise.text.scripts import BIGRAM_SCRIPTS, TRIGRAM_SCRIPTS, combining_marks

MAX_PARTS, MAX_LETTERS = 4, 40
_HYPHEN = "[-\u2010]"  # a non-breaking hyphen is one of these after normalization
_UNSPACED = re.compile(f"[{BIGRAM_SCRIPTS}{TRIGRAM_SCRIPTS}]")
_SPACED_NUMBERS = re.compile(r"\d \d{3}(?!\d)")
_ACCENTS = re.compile("[\u0300-\u036f\u0653-\u0655]")
_LETTERS = str.maketrans(
    {"\u00f8": "o", "\u0142": "l", "\u0111": "d", "\u0131": "i", "\u00e6": "ae", "\u0153": "oe", "\u0127": "h"}
)


@lru_cache(maxsize=2)
def _compound(is_ascii: bool) -> re.Pattern[str]:
    letter = r"\w" if is_ascii else rf"[\w{combining_marks()}]"
    return re.compile(rf"(?<!{letter})[^\W_]{letter}*(?:{_HYPHEN}[^\W_]{letter}*)+")


@lru_cache(maxsize=2)
def _with_underscore(is_ascii: bool) -> re.Pattern[str]:
    letter = r"\w" if is_ascii else rf"[\w{combining_marks()}]"
    return re.compile(rf"(?<!{letter})_*[^\W_]{letter}*_{letter}*")


class QueryTerms(NamedTuple):
    """The terms of a question, in the spelling of the documents."""

    terms: list[str]
    """Terms in order, without stop words."""
    parts: dict[str, frozenset[str]]
    """Compound among the terms, without its hyphen -> its parts, which documents may have as words of their own."""


def index_terms(text: str, stop_words: frozenset[str] = frozenset()) -> list[str]:
    """Split a text into index terms; other spellings of its compounds and numbers come last."""
    return [*terms_of(text, stop_words), *_other_spellings(normalized_text(text), stop_words)]


def query_terms(
    text: str, stop_words: frozenset[str], known: Callable[[str], bool], spelling: Callable[[str], str]
) -> QueryTerms:
    """Split a question into terms.

    Args:
        text: the question, or a sentence to look up.
        stop_words: stop words of the languages of the documents.
        known: returns whether the documents have a term.
        spelling: returns a term in the spelling of the documents.
    """
    normalized = normalized_text(text)
    parts: dict[str, frozenset[str]] = {}

    def joined(compound: re.Match[str]) -> str:
        whole, term = _joined(compound[0], stop_words)
        if not term or not known(term):
            return compound[0]
        found = terms_of(compound[0], stop_words, is_query=True)
        parts[term] = frozenset(map(spelling, found))
        return whole

    if "-" in normalized or "\u2010" in normalized:
        normalized = _compound(normalized.isascii()).sub(joined, normalized)
    return QueryTerms([spelling(term) for term in terms_of(normalized, stop_words, is_query=True)], parts)


def without_accents(term: str) -> str:
    """Return a term without accents, in the form in which a term written without them is indexed."""
    if term.isascii():
        return term
    plain = _ACCENTS.sub("", unicodedata.normalize("NFD", term)).translate(_LETTERS)
    plain = unicodedata.normalize("NFC", plain)
    return term if plain == term else stem(plain)


def _other_spellings(normalized: str, stop_words: frozenset[str]) -> Iterator[str]:
    is_ascii = normalized.isascii()
    if "-" in normalized or "\u2010" in normalized:
        for compound in _compound(is_ascii).finditer(normalized):
            if term := _joined(compound[0], stop_words)[1]:
                yield term
    if "_" in normalized:
        for word in _with_underscore(is_ascii).finditer(normalized):
            yield from terms_of(word[0].replace("_", " "), stop_words)
    if _SPACED_NUMBERS.search(normalized):
        yield from number_readings(normalized)


def _joined(compound: str, stop_words: frozenset[str]) -> tuple[str, str]:
    """Return a compound without hyphens, and its term; no term if it is a number, or no compound of few short words."""
    parts = re.split(_HYPHEN, compound)
    whole = "".join(parts)
    if not 1 < len(parts) <= MAX_PARTS or len(whole) > MAX_LETTERS or "_" in whole:
        return whole, ""
    if not any(map(str.isalpha, whole)) or _UNSPACED.search(whole):
        return whole, ""
    terms = terms_of_word(whole, stop_words, False, False)
    return whole, terms[0] if len(terms) == 1 else ""
