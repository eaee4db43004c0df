"""Find the regions of a text that can contain personal data, so that slow rules needn't read the rest.

Every rule needs something that is rare in prose: several digits close to each other, an @, two colons, or a digit
beside the word for a street. The positions of these are found with array operations, in 50 to 120 ms for 500,000
characters. The regions around them are joined, with separators that no rule matches across, and scanned as one text.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Iterator
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from sizewise.guard.plain import changed_codes, escaped_signs, has_separating, is_ambiguous
from sizewise.guard.rules import rules_of, words_of

SEPARATOR = " .\n" + "|" * 56 + "\n"
"""Between regions: longer than the distance between a label and its number."""
MIN_LENGTH = 2_000
"""Shorter texts are scanned whole."""
CLUSTER_DIGITS, CLUSTER_LENGTH = 4, 24
"""The least digits of a number or a date, within this many characters; a date with a short year has one less."""
NEAR, ADDRESS_BEFORE, ADDRESS_AFTER = 110, 260, 520
LONGEST_STREET, LONGEST_ENDING = 120, 16
MAX_WORD = 80
"""A region ends at white space if there is any within this distance."""
_DELETED = np.uint32(0xFFFFFFFF)
_COLONS, _COLONS_LENGTH = 5, 40  # of an IPv6 address without "::"
_SPELLED = re.compile(r"(?i)[(\[] ?at ?[)\]]| dot ")

Codes = npt.NDArray[np.uint32]
Places = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]


class Joined(NamedTuple):
    """Regions of a text, joined."""

    text: str
    starts: list[int]
    """Offset of each region in `text`."""
    origins: list[int]
    """Offset of each region in the original."""
    lengths: list[int]
    """Length of each region."""

    def span(self, start: int, end: int) -> tuple[int, int] | None:
        """Map a span to the original; None if it isn't within one region."""
        region = bisect_right(self.starts, start) - 1
        shift = self.origins[region] - self.starts[region]
        if end > self.starts[region] + self.lengths[region]:
            return None
        return start + shift, end + shift


class _View(NamedTuple):
    """A text with ordinary characters in place of equivalent ones, and without invisible ones."""

    text: str
    codes: Codes
    places: Places | None
    """For each character, its offset in the original; None if equal."""

    def original(self, found: Places) -> Places:
        return found if self.places is None else self.places[found]


def joined_regions(text: str) -> list[Joined]:
    """Return the regions to scan: those with one reading, and those with several (see `plain_copies`)."""
    if len(text) < MIN_LENGTH:
        return [Joined(text, [0], [0], [len(text)])]
    groups: tuple[list[tuple[int, int]], ...] = ([], [])
    for start, end in _merged(text, _spans(text)):
        groups[_has_readings(text[start:end])].append((start, end))
    return [_join(text, spans) for spans in groups if spans]


def _has_readings(text: str) -> bool:
    return has_separating(text) or is_ambiguous(text)


def _join(text: str, spans: list[tuple[int, int]]) -> Joined:
    starts, offset = [], 0
    for start, end in spans:
        starts.append(offset)
        offset += end - start + len(SEPARATOR)
    parts = SEPARATOR.join(text[start:end] for start, end in spans)
    return Joined(parts, starts, [start for start, _ in spans], [end - start for start, end in spans])


def _merged(text: str, spans: npt.NDArray[np.int64]) -> list[tuple[int, int]]:
    """Merge regions that are close to each other, and extend them to white space."""
    merged: list[tuple[int, int]] = []
    if not len(spans):
        return merged
    spans = spans[np.argsort(spans[:, 0], kind="stable")]
    ends = np.maximum.accumulate(spans[:, 1])
    breaks = np.flatnonzero(spans[1:, 0] > ends[:-1] + len(SEPARATOR) + 2 * MAX_WORD)
    firsts, lasts = spans[np.append(0, breaks + 1), 0], ends[np.append(breaks, len(spans) - 1)]
    for first, last in zip(firsts.tolist(), lasts.tolist(), strict=True):
        start, end = max(0, first), min(len(text), last)
        before = max(text.rfind(mark, max(0, start - MAX_WORD), start) for mark in (" ", "\n")) if start else -1
        found = [at for mark in (" ", "\n") if (at := text.find(mark, end, end + MAX_WORD)) >= 0]
        merged.append((before + 1 if before >= 0 or start <= MAX_WORD else start, min(found, default=end)))
    return merged


@lru_cache(maxsize=1)
def _table() -> Codes:
    """For each code point, its normal form if that is one character, or `_DELETED`."""
    table = np.arange(0x110000, dtype=np.uint32)
    for code, replacement in changed_codes().items():
        if len(replacement) <= 1:
            table[code] = ord(replacement) if replacement else _DELETED
    return table


def _view(text: str) -> _View:
    codes = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), np.uint32)
    if text.isascii():
        return _View(text, codes, None)
    codes = _table()[codes]
    places = None
    if (kept := codes != _DELETED).all():
        pass
    else:
        places = np.flatnonzero(kept)
        codes = codes[kept]
    return _View(codes.tobytes().decode("utf-32-le", "surrogatepass"), codes, places)


def _spans(text: str) -> npt.NDArray[np.int64]:
    """Return the regions around everything that can belong to personal data, shape (regions, 2)."""
    view = _view(text)
    digit = view.codes - np.uint32(48) < 10
    near = [
        np.flatnonzero(digit & (_count(digit, CLUSTER_LENGTH) >= CLUSTER_DIGITS)),
        np.flatnonzero(view.codes == ord("@")),
        np.asarray([match.start() for match in _SPELLED.finditer(view.text)], np.int64),
        _colons(view),
        _postcodes(view.codes, digit),
        _short_dates(view.text, digit),
    ]
    places = [view.original(np.concatenate(near)), np.asarray(escaped_signs(text), np.int64)]
    around = np.concatenate(places)
    addresses = view.original(np.asarray(list(_addresses(view.text, digit)), np.int64))
    return np.concatenate(
        [
            np.stack([around - NEAR, around + NEAR], 1),
            np.stack([addresses - ADDRESS_BEFORE, addresses + ADDRESS_AFTER], 1),
        ]
    )


def _count(marked: Mask, length: int) -> Places:
    """Count the marked characters among the next `length`, from each on."""
    total: Places = np.concatenate([[0], np.cumsum(marked, dtype=np.int64)])
    size = len(marked)
    counts: Places = total[np.minimum(np.arange(size) + length, size)] - total[:-1]
    return counts


def _colons(view: _View) -> Places:
    colon = view.codes == ord(":")
    pairs = np.flatnonzero(colon[:-1] & colon[1:])
    return np.concatenate([pairs, np.flatnonzero(colon & (_count(colon, _COLONS_LENGTH) >= _COLONS))])


def _postcodes(codes: Codes, digit: Mask) -> Places:
    """Find "1A 1AA" and "1 1AA", the ends of British postcodes."""
    if len(codes) < 6:
        return np.empty(0, np.int64)
    letter = (codes | np.uint32(32)) - np.uint32(97) < 26
    inward = np.zeros(len(codes), np.bool_)
    inward[:-3] = (codes[:-3] == 32) & digit[1:-2] & letter[2:-1] & letter[3:]
    outward = np.zeros(len(codes), np.bool_)
    outward[2:] = digit[1:-1] | (digit[:-2] & (letter[1:-1] | digit[1:-1]))
    return np.flatnonzero(inward & outward)


def _runs(digit: Mask) -> Places:
    """Return where runs of digits begin."""
    return np.flatnonzero(digit & ~np.concatenate([[False], digit[:-1]]))


def _short_dates(text: str, digit: Mask) -> Places:
    """Find three digits beside the name of a month, as in "5 May '24"."""
    few = _count(digit, CLUSTER_LENGTH)
    starts = _runs(digit)
    month = rules_of("regions")["month"][0]
    found = [
        at for at in starts[few[starts] == CLUSTER_DIGITS - 1].tolist() if month.search(text, max(0, at - 24), at + 24)
    ]
    return np.asarray(found, np.int64)


def _addresses(text: str, digit: Mask) -> Iterator[int]:
    """Find house and box numbers: digits beside words that addresses have."""
    after, words = rules_of("regions")["after_house"][0], words_of("regions")
    endings = (*words["street_endings"], *words["boxes"])
    for at in _runs(digit).tolist():
        before = text[max(0, at - LONGEST_ENDING) : at].rstrip(" ").lower()
        if before.endswith(endings) or after.match(text, at):
            yield at
    for word in words["numbers"]:
        yield from (at for at in _occurrences(text, word) if after.match(text, at))
    total = np.concatenate([[0], np.cumsum(digit, dtype=np.int64)])
    lower = text.lower()
    for word in words["streets"]:
        for at in _occurrences(lower if len(lower) == len(text) else text, f"{word} "):
            if not text[at - 1 : at].isalnum() and total[min(at + LONGEST_STREET, len(digit))] > total[at]:
                yield at


def _occurrences(text: str, word: str) -> Iterator[int]:
    at = text.find(word)
    while at >= 0:
        yield at
        at = text.find(word, at + 1)
