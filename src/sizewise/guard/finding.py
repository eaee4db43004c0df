"""Find personal data in a text.

Individual presidio recognizers are used, which need no language model and no network and verify checksums. Custom rules
find addresses, written-out dates, and numbers that are identified only by the words before them. All of them run on
normalized copies (see `plain`) of the regions that can hold such data (see `regions`). Names of people are found by a
further detector only, because that takes a language model; the documentation and the status page say so.
"""

from __future__ import annotations

import re
from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from functools import lru_cache
from importlib import import_module
from itertools import accumulate
from typing import Any

import numpy as np

from sizewise.errors import MissingExtraError, SizewiseError
from sizewise.guard.detectors import Detector
from sizewise.guard.numbers import Found, Phones, accounts, cards, labeled_numbers
from sizewise.guard.places import Marks, Places, Span, windows
from sizewise.guard.plain import plain_copies
from sizewise.guard.regions import joined_regions
from sizewise.guard.written import written_matches

KINDS = ("email", "phone", "iban", "card", "national_id", "address", "date", "ip")
NOT_FOUND = (
    "Not found: names of people (unless the detector of names is on) and organizations, data that only the context "
    "identifies, encoded data (base64) and data split over several messages."
)
MAX_CHARACTERS = 4_000_000
"""Maximum length of a text; longer texts are rejected rather than passed on unchecked."""
MAX_EMAIL = 320  # RFC 3696: 64 characters before the @ and 255 after it
FISCAL_CODE, FISCAL_CODE_LENGTH = "ItFiscalCodeRecognizer", 16
MIN_SCORE = 0.4  # presidio scores patterns without validation, such as any nine digits, below this
EDGE = r"[\s,.;:/\-\u200b-\u200f\u00ad\ufeff]+"
EDGES = re.compile(rf"\A{EDGE}|{EDGE}\Z")
_SPACE = re.compile(r"[ \n]")
_MAY_BE_IP = re.compile(r"[0-9]\.[0-9]{1,3}\.[0-9]|:[0-9a-fA-F]{0,4}:")
PREFERRED = ("iban", "card", "email")  # win over other kinds of the same length
NATIONAL = (
    *("EsNie", "EsNif", "FiPersonalIdentityCode", "ItFiscalCode", "KrRrn", "SePersonnummer"),
    *("SgFin", "ThTnin", "UkNino", "UsItin", "UsSsn"),
)
"""Ids recognizable by their format alone; others, such as nine digits, count only if a word before them says so."""


def find_personal(text: str, detectors: Sequence[Detector] = ()) -> list[Found]:
    """Find personal data in a text, in order and without overlaps; where two findings overlap, the longer one wins.

    Escape sequences of JSON and source code are decoded first. The running time is linear in the length of the text.

    Args:
        text: The text.
        detectors: Further detectors, such as that of names; what a pattern finds goes first.

    Raises:
        MissingExtraError: presidio is not installed.
        SizewiseError: The text is longer than `MAX_CHARACTERS`.
    """
    if len(text) > MAX_CHARACTERS:
        raise SizewiseError(
            f"The text has {len(text):,} characters, which is too many to scan for personal data.",
            f"at most {MAX_CHARACTERS:,} characters",
            "send it in several parts",
        )
    phones = Phones()
    found: set[Found] = set()
    for regions in joined_regions(text):
        for copy in plain_copies(regions.text):
            for match in _find_in_copy(copy.text, phones):
                if match.start < match.end and (span := regions.span(*copy.span(match.start, match.end))):
                    found.add(Found(*span, match.kind))
    patterns = _without_overlaps(text, found)
    if not detectors:
        return patterns
    others = {
        Found(start, end, kind)
        for detector in detectors
        for start, end, kind in detector.find(text)
        if start < end and not _overlaps(patterns, start, end)
    }
    return sorted([*patterns, *_without_overlaps(text, others)])


def _overlaps(found: list[Found], start: int, end: int) -> bool:
    following = bisect_left(found, (start,))
    return any(match.end > start and match.start < end for match in found[max(0, following - 1) : following + 1])


def _find_in_copy(text: str, phones: Phones) -> Iterator[Found]:
    places = Places(text)
    yield from _recognized(places)
    for start, end in _around_at_signs(text):
        for match in _email().finditer(text, start, end):
            yield Found(*match.span(), "email")
    for kind, match in written_matches(places):
        yield Found(*match.span(), kind)
    yield from phones.find(places)
    yield from cards(places)
    yield from accounts(places)
    yield from labeled_numbers(places)


def _recognized(places: Places) -> Iterator[Found]:
    """Run presidio's recognizers on the parts of a text that can hold what they find, joined by line breaks.

    None of them finds anything that includes a line break. An id has six digits within eight characters, or is an
    Italian fiscal code: 16 letters and digits.
    """
    text = places.text
    numbers = windows(places.dense(6, 8), 20, 28, len(text))
    is_code = places.digit | places.letter
    codes = _long_runs(is_code, FISCAL_CODE_LENGTH)
    spans = {"ip": _words(text, [match.start() for match in _MAY_BE_IP.finditer(text)]), "national_id": numbers}
    for kind, recognizers in _recognizers().items():
        for found in recognizers:
            parts = codes if found.name == FISCAL_CODE else spans[kind]
            joined = "\n".join(text[start:end] for start, end in parts)
            starts = list(accumulate((end - start + 1 for start, end in parts), initial=0))
            for result in found.analyze(joined, found.supported_entities) if joined else ():
                part = bisect_right(starts, result.start) - 1
                shift = parts[part][0] - starts[part]
                if result.score >= MIN_SCORE:
                    yield Found(result.start + shift, result.end + shift, kind)


def _long_runs(marked: Marks, length: int) -> list[Span]:
    """Return the runs of marked characters of at least a length."""
    edges = np.flatnonzero(np.diff(marked, prepend=False, append=False))
    long = edges[1::2] - edges[::2] >= length
    return list(zip(edges[::2][long].tolist(), edges[1::2][long].tolist(), strict=True))


def _words(text: str, found: list[int]) -> list[Span]:
    """Return the words that hold one of the places."""
    spans: list[Span] = []
    end = 0
    for at in found:
        if at >= end:
            start = max(text.rfind(mark, end, at) + 1 for mark in " \n")
            space = _SPACE.search(text, at)
            start, end = max(start, end), space.start() if space else len(text)
            spans.append((start, end))
    return spans


def _around_at_signs(text: str) -> Iterator[tuple[int, int]]:
    """Find the words with an @; the pattern for addresses would try every word at length."""
    end = 0
    at = text.find("@")
    while at >= 0:
        if at >= end:
            start = max(end, at - MAX_EMAIL, *(text.rfind(mark, end, at) + 1 for mark in " \n"))
            ends = [found for mark in " \n" if (found := text.find(mark, at, at + MAX_EMAIL)) >= 0]
            end = min(ends, default=min(len(text), at + MAX_EMAIL))
            yield start, end
        at = text.find("@", at + 1)


def _without_overlaps(text: str, found: set[Found]) -> list[Found]:
    """Keep the longer of two overlapping findings, and the part of the other that it doesn't cover."""
    kept: list[Found] = []
    cluster: list[Found] = []
    end = 0
    for match in sorted(found):
        if match.start >= end:
            kept += _resolved(text, cluster)
            cluster = []
        cluster.append(match)
        end = max(end, match.end)
    return [*kept, *_resolved(text, cluster)]


def _resolved(text: str, cluster: list[Found]) -> list[Found]:
    """Resolve findings of which each overlaps another one."""
    if len(cluster) < 2:
        return [part for match in cluster if (part := _trimmed(text, *match))]
    first, last = cluster[0].start, max(match.end for match in cluster)
    taken = bytearray(last - first)
    kept: list[Found] = []
    for match in sorted(cluster, key=lambda match: (match.start - match.end, match.kind not in PREFERRED, match)):
        start, end = match.start - first, match.end - first
        for free in re.finditer(rb"\0+", taken[start:end]):
            part = _trimmed(text, match.start + free.start(), match.start + free.end(), match.kind)
            kept += [part] if part else []
        taken[start:end] = b"\1" * (end - start)
    return sorted(kept)


def _trimmed(text: str, start: int, end: int, kind: str) -> Found | None:
    """Leave out white space and punctuation at both ends; None if nothing is left."""
    inner = EDGES.sub("", text[start:end])
    if not inner:
        return None
    start = text.index(inner, start)
    return Found(start, start + len(inner), kind)


@lru_cache(maxsize=1)
def _recognizers() -> dict[str, list[Any]]:
    """Create presidio's recognizers by kind."""
    recognizers = _presidio()
    return {
        "ip": [recognizers.IpRecognizer()],
        "national_id": [getattr(recognizers, f"{name}Recognizer")() for name in NATIONAL],
    }


@lru_cache(maxsize=1)
def _email() -> re.Pattern[str]:
    """Compile presidio's pattern; its recognizer would download a list of domains and drop unknown ones."""
    (pattern,) = _presidio().EmailRecognizer().patterns
    return re.compile(pattern.regex, re.DOTALL | re.MULTILINE | re.IGNORECASE)


def _presidio() -> Any:
    try:
        return import_module("presidio_analyzer.predefined_recognizers")
    except ImportError as error:
        raise MissingExtraError("presidio-analyzer", "guard") from error
