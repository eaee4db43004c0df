"""Find the regions of a text that can contain personal data, so that slow rules needn't read the rest.

Every rule needs something that is rare in prose: several digits close to each other, an @, two colons, or a digit
beside the word for a street. The positions of these are found with array operations, in 30 to 60 ms for 500,000
characters. The regions around them are joined, with separators that no rule matches across, and scanned as one text.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from sizewise.guard.places import Codes, Marks, Places, Positions, codes_of, count_within, occurrences
from sizewise.guard.plain import changed_codes, escaped_signs, has_separating, is_ambiguous, may_have_readings
from sizewise.guard.rules import rules_of, words_of
from sizewise.guard.written import at_words, ends_before, house_starts, inward_codes

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

    places: Places
    offsets: Positions | None
    """For each character, its offset in the original; None if equal."""

    def original(self, found: Positions) -> Positions:
        return found if self.offsets is None else self.offsets[found]


def joined_regions(text: str) -> list[Joined]:
    """Return the regions to scan: those with one reading, and those with several (see `plain_copies`)."""
    if len(text) < MIN_LENGTH:
        return [Joined(text, [0], [0], [len(text)])]
    groups: tuple[list[tuple[int, int]], ...] = ([], [])
    codes = codes_of(text)
    signs = np.flatnonzero(may_have_readings(codes))
    for start, end in _merged(text, _spans(text, codes)):
        first = np.searchsorted(signs, start)
        may = first < len(signs) and signs[first] < end
        groups[bool(may and _has_readings(text[start:end]))].append((start, end))
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


def _merged(text: str, spans: Positions) -> list[tuple[int, int]]:
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


def _view(text: str, codes: Codes) -> _View:
    if text.isascii():
        return _View(Places(text), None)
    codes = _table()[codes]
    offsets = None
    if not (kept := codes != _DELETED).all():
        offsets = np.flatnonzero(kept)
        codes = codes[kept]
    return _View(Places(codes.tobytes().decode("utf-32-le", "surrogatepass")), offsets)


def _spans(text: str, codes: Codes) -> Positions:
    """Return the regions around everything that can belong to personal data, shape (regions, 2)."""
    view = _view(text, codes)
    places = view.places
    few = count_within(places.digit, CLUSTER_LENGTH)
    near = [
        np.flatnonzero(places.digit & (few >= CLUSTER_DIGITS)),
        np.flatnonzero(places.codes == ord("@")),
        np.asarray([*at_words(places.folded), *occurrences(places.folded, (" dot ",))], np.int64),
        _colons(places),
        inward_codes(places),
        _short_dates(places, few),
    ]
    around = np.concatenate([view.original(np.concatenate(near)), np.asarray(escaped_signs(text, codes), np.int64)])
    addresses = view.original(np.asarray(list(_addresses(places)), np.int64))
    return np.concatenate(
        [
            np.stack([around - NEAR, around + NEAR], 1),
            np.stack([addresses - ADDRESS_BEFORE, addresses + ADDRESS_AFTER], 1),
        ]
    )


def _colons(places: Places) -> Positions:
    colon: Marks = places.codes == ord(":")
    pairs = np.flatnonzero(colon[:-1] & colon[1:])
    return np.concatenate([pairs, np.flatnonzero(colon & (count_within(colon, _COLONS_LENGTH) >= _COLONS))])


def _short_dates(places: Places, few: npt.NDArray[np.int32]) -> Positions:
    """Find three digits beside the name of a month, as in "5 May '24"."""
    (month,) = rules_of("regions")["month"]
    starts = places.starts[few[places.starts] == CLUSTER_DIGITS - 1].tolist()
    found = [at for at in starts if month.search(places.text, max(0, at - 24), at + 24)]
    return np.asarray(found, np.int64)


def _addresses(places: Places) -> Iterator[int]:
    """Find house and box numbers: digits beside words that addresses have."""
    (after,), words, text = rules_of("regions")["after_house"], words_of("regions"), places.text
    yield from ends_before(places, (*words["street_endings"], *words["boxes"]))
    yield from (at for at in (*house_starts(places), *occurrences(text, words["numbers"])) if after.match(text, at))
    streets = (*words["streets"], *map(str.lower, words["capital_streets"]))
    total, size = places.total, len(text)
    for at in occurrences(places.folded, [f"{word} " for word in streets]):
        if not text[at - 1 : at].isalnum() and total[min(at + LONGEST_STREET, size)] > total[at]:
            yield at
