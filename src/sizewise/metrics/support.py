"""Whether passages support a statement: its content words close together, its numbers, its names, and its negation.

This is a comparison of words, not an entailment model: other words for the same thing count as missing, and a wrong
statement made of a passage's own words counts as supported.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import NamedTuple

from sizewise.metrics.figures import absent_numbers
from sizewise.metrics.refusal_phrases import refusal_in
from sizewise.retrieval.terms import terms_of
from sizewise.text import detect_language, fold_text, sentences_of
from sizewise.text.negation import denial_pattern

MIN_COVERAGE = 0.5
"""Share of a statement's content words that a stretch of a passage must have."""
WINDOW = 3
"""Sentences in a stretch."""
MIN_TERMS = 2
"""Content words that a sentence needs to count as a statement."""
_FUNCTION_WORDS = """
a about above after again all also am an and any are as at be been being both but by can could did do does doing down
during each either few for from further had has have having he her here hers him his how however i if in into is it
its just may me might more most much must my of off on once only or other our out over own patient per same shall she
should so some such than that the their them then there these they this those through to too under until up upon us
very was we were what when where whether which while who whom whose why will with within would you your yes said says
state stated states according
"""
_STOP_WORDS = frozenset(_FUNCTION_WORDS.split())
_DENIALS = frozenset(("no", "not", "never", "none", "nor", "neither", "cannot", "without", "nothing"))
_DENIED = re.compile(r"\b(?:den(?:y|ies|ied|ying)|lacks?|lacking|absen(?:t|ce)|negative for|unable|fail(?:s|ed)? to)\b")
_CLAUSE = re.compile(r"[,;:()\u2014]|\s(?:but|although|though|whereas|while)\s")
_NAME = re.compile(r"(?<![.!?\u2026:\"\u201c(]\s)(?<!^)(?<!\w)([A-Z][\w'\u2019-]*[\w])")
_ALIASES = {"dr": "doctor", "doctor": "dr", "mr": "mister", "us": "united states", "uk": "united kingdom"}
_CAPITALIZED = ("de", "lb")
"""Languages that write nouns with a capital letter, which then shows no name."""


class _Sentence(NamedTuple):
    text: str
    terms: frozenset[str]


@lru_cache(maxsize=4_096)
def _read(passage: str) -> tuple[_Sentence, ...]:
    """Split a passage into sentences; a question and what follows it are one, because it alone states nothing."""
    parts: list[str] = []
    for sentence in sentences_of(passage):
        if parts and _asks(parts[-1]):
            parts[-1] += f" {sentence}"
        else:
            parts.append(sentence)
    return tuple(_Sentence(one, content_stems(one)) for one in parts)


def _asks(text: str) -> bool:
    return text.rstrip().endswith(("?", "\uff1f", "\u061f"))


@lru_cache(maxsize=65_536)
def content_stems(text: str) -> frozenset[str]:
    """List the stems of a text's content words and its numbers, without function words and denials."""
    return frozenset(terms_of(text, _STOP_WORDS | _DENIALS))


def statements_of(answer: str) -> list[str]:
    """List the sentences of an answer that state something: no questions, refusals or sentences of one content word."""
    return [
        one
        for one in sentences_of(answer)
        if len(content_stems(one)) >= MIN_TERMS and not _asks(one) and not refusal_in(one)
    ]


def is_supported(statement: str, passages: Sequence[str]) -> bool:
    """Check whether passages support a statement.

    One passage must have all numbers and dates of the statement by value, all its names, and in a stretch of three
    sentences most of its content words, denied if and only if the statement denies them.

    Args:
        statement: A sentence.
        passages: Passages that may support it; each for itself.
    """
    wanted = content_stems(statement)
    names = _names(statement)
    for passage in passages:
        found = _best_window(wanted, passage)
        if (
            found
            and not absent_numbers(statement, passage)
            and all(_has_name(name, passage) for name in names)
            and _denies(statement, wanted) == _denies(found, wanted)
        ):
            return True
    return False


def _best_window(wanted: frozenset[str], passage: str) -> str:
    """Find the shortest stretch with the most of the wanted terms; empty if none has enough."""
    best, text = 0, ""
    for window in _windows(_read(passage)):
        covered = len(wanted & frozenset().union(*(one.terms for one in window)))
        if covered > best:
            best, text = covered, " ".join(one.text for one in window)
    return text if wanted and best >= MIN_COVERAGE * len(wanted) else ""


def _windows(sentences: Sequence[_Sentence]) -> Iterator[Sequence[_Sentence]]:
    for size in range(1, WINDOW + 1):
        for start in range(max(1, len(sentences) - size + 1)):
            yield sentences[start : start + size]


def _names(statement: str) -> list[str]:
    """List the words with a capital letter inside a sentence; none in a text in capitals, or in German."""
    letters = [letter for letter in statement if letter.isalpha()]
    capitals = sum(letter.isupper() for letter in letters)
    if not letters or 2 * capitals > len(letters) or detect_language(statement) in _CAPITALIZED:
        return []
    return [name for name in _NAME.findall(statement) if name.casefold() not in _STOP_WORDS | _DENIALS]


def _has_name(name: str, passage: str) -> bool:
    said, folded = _folded(passage), fold_text(name).removesuffix("'s")
    if content_stems(folded) <= _stems(passage) or _ALIASES.get(folded, name) in said:
        return True
    return name.isupper() and len(name) > 1 and folded in _letters(passage)


@lru_cache(maxsize=4_096)
def _folded(passage: str) -> str:
    return fold_text(passage)


@lru_cache(maxsize=4_096)
def _stems(passage: str) -> frozenset[str]:
    return content_stems(passage)


@lru_cache(maxsize=4_096)
def _letters(passage: str) -> str:
    """Return a passage without spaces and points, so that A.B.C. is ABC."""
    return re.sub(r"[\s.]", "", _folded(passage))


def _denies(text: str, wanted: frozenset[str]) -> bool:
    """Check whether a clause with some of the wanted terms contains a denial, or the answer to a question with some."""
    said, asked = list[str](), False
    for sentence in sentences_of(text):
        if asked:
            said.append(sentence)
        else:
            said += [one for one in _CLAUSE.split(sentence) if content_stems(one) & wanted and not _asks(sentence)]
        asked = _asks(sentence) and bool(content_stems(sentence) & wanted)
    return any(denial_pattern().search(one) or _DENIED.search(one) for one in map(fold_text, said))
