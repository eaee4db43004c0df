"""Personal data in a text: where it stands and of which kind it is.

presidio's recognisers are asked one by one: they need no language model and no network, and checksums are verified
wherever a number has one. Addresses, written-out dates and numbers that only the words beside them betray are found by
rules of our own. All look at plain copies of the text (`plain`). Names of people are not found: that takes a model that
knows names, and is said wherever it matters.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import lru_cache
from importlib import import_module
from typing import Any

from sizewise.errors import MissingExtraError, SizewiseError
from sizewise.guard.numbers import Found, Phones, accounts, cards, told
from sizewise.guard.plain import plain_copies
from sizewise.guard.rules import rules_of

KINDS = ("email", "phone", "iban", "card", "national_id", "address", "date", "ip")
NOT_FOUND = (
    "Names of people and organisations are not found, nor what only the context betrays, what is encoded (base64) or "
    "what is split over messages."
)
MOST_LETTERS = 4_000_000
"""Characters of a text that is looked through; a longer one is refused, never passed on unseen."""
LEAST_SCORE = 0.4  # presidio: below it stand patterns without a check, such as any nine digits
EDGE = r"[\s,.;:/\-\u200b-\u200f\u00ad\ufeff]+"
EDGES = re.compile(rf"\A{EDGE}|{EDGE}\Z")
FIRST = ("iban", "card", "email")  # of two of one length, these count
NATIONAL = (
    *("EsNie", "EsNif", "FiPersonalIdentityCode", "ItFiscalCode", "KrRrn", "SePersonnummer"),
    *("SgFin", "ThTnin", "UkNino", "UsItin", "UsSsn"),
)
"""Numbers whose form alone gives them away; others, such as nine digits, count only where words say what they are."""


def find_personal(text: str) -> list[Found]:
    """Find personal data in a text, in order and without overlap; of two that overlap, the longer counts.

    Line ends, tabs and letters as JSON and program code escape them are read as such: what stands after one begins
    there. The time it takes grows with the length of the text.

    Raises:
        MissingExtraError: presidio is not installed.
        SizewiseError: the text is longer than `MOST_LETTERS`.
    """
    if len(text) > MOST_LETTERS:
        raise SizewiseError(
            f"The text has {len(text):,} characters, too many to look for personal data.",
            f"at most {MOST_LETTERS:,} characters",
            "send it in parts",
        )
    phones = Phones()
    found = {
        Found(*copy.span(one.start, one.end), one.kind)
        for copy in plain_copies(text)
        for one in _in_copy(copy.text, phones)
        if one.start < one.end
    }
    return _apart(text, found)


def _in_copy(text: str, phones: Phones) -> Iterator[Found]:
    for kind, recognisers in _recognisers().items():
        for recogniser in recognisers:
            for one in recogniser.analyze(text, recogniser.supported_entities):
                if one.score >= LEAST_SCORE:
                    yield Found(one.start, one.end, kind)
    for kind, rules in rules_of("personal").items():
        for rule in rules:
            for match in rule.finditer(text):
                yield Found(*match.span(), kind)
    yield from phones.find(text)
    yield from cards(text)
    yield from accounts(text)
    yield from told(text)


def _apart(text: str, found: set[Found]) -> list[Found]:
    """Keep the longer of two that overlap whole, and of the other what it alone covers: nothing found is left out."""
    taken = bytearray(len(text))
    kept: list[Found] = []
    for one in sorted(found, key=lambda one: (one.start - one.end, one.kind not in FIRST, one)):
        for free in re.finditer(rb"\0+", taken[one.start : one.end]):
            part = text[one.start + free.start() : one.start + free.end()]
            inner = EDGES.sub("", part)
            if inner:
                start = one.start + free.start() + part.index(inner)
                kept.append(Found(start, start + len(inner), one.kind))
        taken[one.start : one.end] = b"\1" * (one.end - one.start)
    return sorted(kept)


@lru_cache(maxsize=1)
def _recognisers() -> dict[str, list[Any]]:
    """Return presidio's recognisers by kind."""
    try:
        known = import_module("presidio_analyzer.predefined_recognizers")
    except ImportError as error:
        raise MissingExtraError("presidio-analyzer", "guard") from error
    email = known.EmailRecognizer()
    email.validate_result = lambda _: None  # presidio would fetch the list of domains, and drop what is not in it
    return {
        "email": [email],
        "ip": [known.IpRecognizer()],
        "national_id": [getattr(known, f"{name}Recognizer")() for name in NATIONAL],
    }
