"""Occurrences of extracted values in their source, in whatever way the source writes them."""

from __future__ import annotations

import re
import unicodedata
from bisect import bisect_left
from collections.abc import Sequence
from functools import lru_cache, partial
from typing import NamedTuple

from sizewise.text import fold_text, phrase_pattern
from sizewise.text.number_words import find_number_words
from sizewise.text.quantities import Quantity, date_of, find_quantities, readings_of

MAX_OCCURRENCES = 20
"""Occurrences of one value that are looked at; a value that occurs more often is everywhere."""
NO_SUCH_NUMBER = "the source has no such number"
NO_SUCH_DATE = "the source has no such date"
WORDS_APART = "the source has these words, but not together"
NOT_THERE = "the source doesn't contain this text"

Place = tuple[int, int]
"""Index of the first character, and index after the last one."""


class _Folded(NamedTuple):
    text: str
    """The text in one form."""
    starts: tuple[int, ...]
    """Index of the character of the text as written behind each character of this form."""
    ends: tuple[int, ...]
    """Index after that character."""


def find_value(value: str, source: str) -> list[Place]:
    """Find the occurrences of a value in a source, in order, at most 20.

    A number is found in every writing of it, also in English words, and only as a whole number: 12 isn't in 1,512. A
    date is found in every writing. Other texts are found as whole words, whatever their case, white space, width and
    apostrophes.

    Args:
        value: The value as text.
        source: The text that it should come from.
    """
    places = _quantity_places(value, source)
    readings = readings_of(value)
    if not (readings and all(not reading.unit for reading in readings)):
        places += _text_places(value, source)  # digits alone are found as numbers only
    return sorted(set(places))[:MAX_OCCURRENCES]


def _quantity_places(value: str, source: str) -> list[Place]:
    day, readings = date_of(value), readings_of(value)
    if day is None and not readings:
        return []
    return [
        (one.start, one.end)
        for one in find_quantities(source)
        if (day is not None and day in one.dates) or (readings and _shares_reading(readings, one))
    ] + [
        (start, end)
        for start, end, number in find_number_words(source)
        if any(number == one.number for one in readings)
    ]


def _shares_reading(readings: Sequence[object], found: Quantity) -> bool:
    return any(one.agrees_with(other) for one in readings for other in found.amounts)  # type: ignore[attr-defined]


def _text_places(value: str, source: str) -> list[Place]:
    needle = fold_text(value)
    if not needle:
        return []
    folded = _fold(source)
    if needle not in folded.text:
        return []
    return [(folded.starts[m.start()], folded.ends[m.end() - 1]) for m in _pattern(needle).finditer(folded.text)]


@lru_cache(maxsize=1_024)
def _pattern(needle: str) -> re.Pattern[str]:
    return phrase_pattern(needle)


@lru_cache(maxsize=64)
def _fold(source: str) -> _Folded:
    """Fold a source like `fold_text`, and remember where each character comes from."""
    pieces: list[str] = []
    starts: list[int] = []
    ends: list[int] = []
    for start, end in _characters(source):
        piece = source[start:end]
        folded = " " if piece.isspace() else fold_text(piece)
        if folded == " " and (not pieces or pieces[-1] == " "):
            continue
        pieces += folded
        starts += [start] * len(folded)
        ends += [end] * len(folded)
    return _Folded("".join(pieces), tuple(starts), tuple(ends))


def _characters(source: str) -> list[Place]:
    """List the characters with what belongs to them: combining marks, and parts of a letter or Korean syllable."""
    if source.isascii():
        return [(i, i + 1) for i in range(len(source))]
    starts = [i for i, character in enumerate(source) if not i or not unicodedata.combining(character)]
    if not unicodedata.is_normalized("NFC", source):
        joined: list[int] = []
        for start, end in zip(starts, [*starts[1:], len(source)], strict=True):
            if not joined or not _composes(source[joined[-1] : start], source[start:end]):
                joined.append(start)
        starts = joined
    return list(zip(starts, [*starts[1:], len(source)], strict=True))


def _composes(left: str, right: str) -> bool:
    """Return whether the end of one text and the begin of another are one letter in composed form."""
    compose = partial(unicodedata.normalize, "NFC")
    return not right.isascii() and compose(left + right) != compose(left) + compose(right)


def why_absent(value: str, source: str) -> str:
    """Explain why a value has no occurrence in a source."""
    if readings_of(value):
        return NO_SUCH_NUMBER
    if date_of(value) is not None:
        return NO_SUCH_DATE
    words = fold_text(value).split()
    known = set(_fold(source).text.split())
    return WORDS_APART if len(words) > 1 and known.issuperset(words) else NOT_THERE


def closest_first(places: Sequence[Sequence[Place]]) -> list[list[Place]]:
    """Order the occurrences of each value so that the one closest to the other values comes first.

    Values of one answer usually stand side by side in its source. The distance of an occurrence is the sum of its
    distances to the closest occurrence of each other value; at equal distance, the earlier one wins.

    Args:
        places: Occurrences of each value, in order.
    """
    starts = [[start for start, _ in some] for some in places]

    def distance(index: int, place: Place) -> int:
        return sum(_gap(others, place[0]) for i, others in enumerate(starts) if i != index and others)

    return [
        sorted(some, key=lambda place: (distance(index, place), place)) if len(some) > 1 else list(some)
        for index, some in enumerate(places)
    ]


def _gap(sorted_starts: Sequence[int], start: int) -> int:
    after = bisect_left(sorted_starts, start)
    return min(abs(one - start) for one in sorted_starts[max(0, after - 1) : after + 1])
