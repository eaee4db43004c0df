"""Find personal data in a text.

Individual presidio recognizers are used, which need no language model and no network and verify checksums. Custom rules
find addresses, written-out dates, and numbers that are identified only by the words before them. All of them run on
normalized copies of the text (see `plain`). Names of people are not found, because that takes a language model; the
documentation and the status page say so.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import lru_cache
from importlib import import_module
from typing import Any

from sizewise.errors import MissingExtraError, SizewiseError
from sizewise.guard.numbers import Found, Phones, accounts, cards, labeled_numbers
from sizewise.guard.plain import plain_copies
from sizewise.guard.regions import joined_regions
from sizewise.guard.rules import rules_of

KINDS = ("email", "phone", "iban", "card", "national_id", "address", "date", "ip")
NOT_FOUND = (
    "Not found: names of people and organizations, data that only the context identifies, encoded data (base64) and "
    "data split over several messages."
)
MAX_CHARACTERS = 4_000_000
"""Maximum length of a text; longer texts are rejected rather than passed on unchecked."""
MAX_EMAIL = 320  # RFC 3696: 64 characters before the @ and 255 after it
MIN_SCORE = 0.4  # presidio scores patterns without validation, such as any nine digits, below this
EDGE = r"[\s,.;:/\-\u200b-\u200f\u00ad\ufeff]+"
EDGES = re.compile(rf"\A{EDGE}|{EDGE}\Z")
PREFERRED = ("iban", "card", "email")  # win over other kinds of the same length
NATIONAL = (
    *("EsNie", "EsNif", "FiPersonalIdentityCode", "ItFiscalCode", "KrRrn", "SePersonnummer"),
    *("SgFin", "ThTnin", "UkNino", "UsItin", "UsSsn"),
)
"""Ids recognizable by their format alone; others, such as nine digits, count only if a word before them says so."""


def find_personal(text: str) -> list[Found]:
    """Find personal data in a text, in order and without overlaps; where two findings overlap, the longer one wins.

    Escape sequences of JSON and source code are decoded first. The running time is linear in the length of the text.

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
    return _without_overlaps(text, found)


def _find_in_copy(text: str, phones: Phones) -> Iterator[Found]:
    for kind, recognizers in _recognizers().items():
        for recognizer in recognizers:
            for result in recognizer.analyze(text, recognizer.supported_entities):
                if result.score >= MIN_SCORE:
                    yield Found(result.start, result.end, kind)
    for start, end in _around_at_signs(text):
        for match in _email().finditer(text, start, end):
            yield Found(*match.span(), "email")
    for kind, rules in rules_of("personal").items():
        for rule in rules:
            for match in rule.finditer(text):
                yield Found(*match.span(), kind)
    yield from phones.find(text)
    yield from cards(text)
    yield from accounts(text)
    yield from labeled_numbers(text)


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
    taken = bytearray(len(text))
    kept: list[Found] = []
    for match in sorted(found, key=lambda match: (match.start - match.end, match.kind not in PREFERRED, match)):
        for free in re.finditer(rb"\0+", taken[match.start : match.end]):
            part = text[match.start + free.start() : match.start + free.end()]
            inner = EDGES.sub("", part)
            if inner:
                start = match.start + free.start() + part.index(inner)
                kept.append(Found(start, start + len(inner), match.kind))
        taken[match.start : match.end] = b"\1" * (match.end - match.start)
    return sorted(kept)


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
