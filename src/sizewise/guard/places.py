"""Where in a text a rule can match, found with array operations, so that a rule isn't tried at every character.

Nearly all rules need digits, and what else they need is close by. A rule is matched at the places where it can begin,
or within windows around what it needs; either finds what `finditer` would find in the whole text.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property

import numpy as np
import numpy.typing as npt

Codes = npt.NDArray[np.uint32]
Positions = npt.NDArray[np.int64]
Marks = npt.NDArray[np.bool_]
Span = tuple[int, int]
SPECIAL_LETTERS = {0x130: "i", 0x131: "i", 0x17F: "s", 0x212A: "k"}
"""Letters outside of ASCII that a rule which ignores case takes for one of ASCII."""


def codes_of(text: str) -> Codes:
    """Return the code points of a text."""
    return np.frombuffer(text.encode("utf-32-le", "surrogatepass"), np.uint32)


def fold(text: str) -> str:
    """Return a text of the same length in small letters, as rules that ignore case read it."""
    return text.lower() if text.isascii() else text.translate(SPECIAL_LETTERS).lower()


def occurrences(text: str, words: Iterable[str]) -> Iterator[int]:
    """Find where words begin in a text, word by word."""
    for word in words:
        at = text.find(word)
        while at >= 0:
            yield at
            at = text.find(word, at + 1)


class Places:
    """What rules need in a text: digits, and letters without case.

    Args:
        text: the text, in which all digits are those of ASCII.
    """

    def __init__(self, text: str) -> None:
        self.text = text
        self.codes = codes_of(text)
        self.digit: Marks = self.codes - np.uint32(48) < 10
        edges = np.flatnonzero(np.diff(self.digit, prepend=False, append=False))
        self.starts, self.ends = edges[::2], edges[1::2]
        """Where runs of digits start, and end."""

    @cached_property
    def folded(self) -> str:
        """The text in small letters."""
        return fold(self.text)

    @cached_property
    def total(self) -> Positions:
        """The number of digits before each character, and in the whole text."""
        return np.concatenate([[0], np.cumsum(self.digit, dtype=np.int64)])

    @cached_property
    def letter(self) -> Marks:
        """Which characters are letters of ASCII, or taken for one."""
        marks: Marks = (self.codes | np.uint32(32)) - np.uint32(97) < 26
        if not self.text.isascii():
            for code in SPECIAL_LETTERS:
                marks |= self.codes == code
        return marks

    def digits_from(self, places: Positions, length: int) -> Positions:
        """Count the digits among the characters from each place on."""
        counts: Positions = self.total[np.minimum(places + length, len(self.codes))] - self.total[places]
        return counts

    def runs(self, least: int, most: int) -> Positions:
        """Return where runs of at least and at most so many digits start."""
        lengths = self.ends - self.starts
        return self.starts[(lengths >= least) & (lengths <= most)]

    def dense(self, digits: int, length: int) -> Positions:
        """Return the digits after which, themselves included, so many follow within a length."""
        places = np.flatnonzero(self.digit)
        if len(places) < digits:
            return places[:0]
        return places[: len(places) - digits + 1][places[digits - 1 :] - places[: len(places) - digits + 1] < length]


def count_within(marked: Marks, length: int) -> npt.NDArray[np.int32]:
    """Count the marked characters among the next `length`, from each on."""
    total = np.concatenate([np.zeros(1, np.int32), np.cumsum(marked, dtype=np.int32)])
    counts = np.empty(len(marked), np.int32)
    inner = max(0, len(marked) - length)
    np.subtract(total[length : length + inner], total[:inner], out=counts[:inner])
    np.subtract(total[-1], total[inner:-1], out=counts[inner:])
    return counts


def windows(places: Positions | Sequence[int], before: int, after: int, size: int) -> list[Span]:
    """Return the spans around places, joined where they touch.

    Args:
        places: the places, in any order.
        before: characters before each.
        after: characters after each.
        size: length of the text.
    """
    sorted_places = np.sort(np.asarray(places, np.int64))
    if not len(sorted_places):
        return []
    breaks = np.flatnonzero(np.diff(sorted_places) > before + after)
    firsts = sorted_places[np.append(0, breaks + 1)] - before
    lasts = sorted_places[np.append(breaks, len(sorted_places) - 1)] + after
    return list(zip(np.maximum(firsts, 0).tolist(), np.minimum(lasts, size).tolist(), strict=True))


def match_at(rule: re.Pattern[str], text: str, places: Iterable[int]) -> Iterator[re.Match[str]]:
    """Match a rule where it can begin; like `finditer` if it begins nowhere else.

    Args:
        rule: the rule.
        text: the text.
        places: where it can begin, in order.
    """
    end = -1
    for at in places:
        if at >= end and (match := rule.match(text, at)):
            yield match
            end = match.end()


def match_within(rule: re.Pattern[str], text: str, spans: Iterable[Span]) -> Iterator[re.Match[str]]:
    """Match a rule within spans that hold all that it needs; its matches may go on after them.

    Args:
        rule: the rule.
        text: the text.
        spans: the spans, in order and without overlaps.
    """
    end = 0
    for first, last in spans:
        at = max(first, end)
        while at < last and (begun := rule.search(text, at, last)):
            match = rule.match(text, begun.start())
            at = begun.start() + 1
            if match:
                yield match
                end = at = max(at, match.end())
