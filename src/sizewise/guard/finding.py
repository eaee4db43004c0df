"""Personal data in a text: where it stands and of which kind it is.

presidio's recognisers are asked one by one: they need no language model and no network, and checksums are verified
wherever a number has one. Addresses, written-out dates and numbers that only the words beside them betray are found by
rules of our own. Names of people are not found: that takes a model that knows names, and is said wherever it matters.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import lru_cache
from importlib import import_module
from typing import Any, NamedTuple

from sizewise.errors import MissingExtraError
from sizewise.guard.rules import rules_of

KINDS = ("email", "phone", "iban", "card", "national_id", "address", "date", "ip")
NOT_FOUND = "Names of people and organisations are not found, nor what only the context betrays."
LEAST_SCORE = 0.4  # presidio: below it stand patterns without a check, such as any nine digits
REGIONS = ("US", "GB", "DE", "FR", "ES", "IT", "NL", "CH", "AT", "IN", "BR", "AU")
NEAR = 48  # characters before a number in which a word may say what it is
LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ -./"
EDGES = " ,.;:-/\n"
LEAST_ACCOUNT, LEAST_NUMBER, MOST_NUMBER = 15, 6, 24
FIRST = ("iban", "card", "email")  # of two of one length, these count
NATIONAL = (
    *("EsNie", "EsNif", "FiPersonalIdentityCode", "ItFiscalCode", "KrRrn", "SePersonnummer"),
    *("SgFin", "ThTnin", "UkNino", "UsItin", "UsSsn"),
)
"""Numbers whose form alone gives them away; others, such as nine digits, count only where words say what they are."""
_ESCAPED = re.compile(r"(?<!\\)\\[nrt]")


class Found(NamedTuple):
    """A part of a text that is personal data."""

    start: int
    """First character."""
    end: int
    """Character after the last."""
    kind: str
    """One of `KINDS`."""


def find_personal(text: str) -> list[Found]:
    """Find personal data in a text, in order and without overlap; of two that overlap, the longer counts.

    Line ends and tabs as JSON and program code write them are read as such: what stands after one begins there.

    Raises:
        MissingExtraError: presidio is not installed.
    """
    text = _ESCAPED.sub("  ", text)
    found = [
        Found(one.start, one.end, kind)
        for kind, recognisers in _recognisers().items()
        for recogniser in recognisers
        for one in recogniser.analyze(text, recogniser.supported_entities)
        if one.score >= LEAST_SCORE
    ]
    for kind, rules in rules_of("personal").items():
        found += [Found(*match.span(), kind) for rule in rules for match in rule.finditer(text)]
    return _apart(text, [*found, *_phones(text), *_cards(text), *_accounts(text), *_told(text)])


def _phones(text: str) -> Iterator[Found]:
    """Find telephone numbers; only what looks like one is read, since a recogniser takes 3 ms a sentence."""
    rules = rules_of("numbers")
    for match in rules["called"][0].finditer(text):
        groups = re.findall(r"\d+", match[0])
        if len(groups) > 1 and sum(len(group) > 1 for group in groups) < 2:
            continue
        for one in _phone_recogniser().analyze(match[0], ["PHONE_NUMBER"]):
            end = match.start() + one.end
            more = rules["extension"][0].match(text, end)
            yield Found(match.start() + one.start, more.end() if more else end, "phone")


def _cards(text: str) -> Iterator[Found]:
    """Find card numbers of all lengths and groupings whose last digit is right."""
    for match in rules_of("numbers")["card"][0].finditer(text):
        if luhn(match[0]):
            yield Found(*match.span(), "card")


def _accounts(text: str) -> Iterator[Found]:
    """Find IBANs in any case and grouping: of the right length for their country, with the right check digits."""
    forms = import_module("presidio_analyzer.predefined_recognizers.generic.iban_patterns").regex_per_country
    for match in rules_of("numbers")["account"][0].finditer(text):
        places = [place for place, letter in enumerate(match[0]) if letter.isalnum()]
        plain = "".join(match[0][place] for place in places).upper()
        form = forms.get(plain[:2])
        for size in range(len(plain), LEAST_ACCOUNT - 1, -1) if form else ():
            if re.fullmatch(form, plain[:size]) and _remainder(plain[:size]) == 1:
                yield Found(match.start(), match.start() + places[size - 1] + 1, "iban")
                break


def _remainder(account: str) -> int:
    """Give the remainder that is one if the check digits are right (ISO 13616, ISO 7064 mod 97-10)."""
    return int("".join(str(int(letter, 36)) for letter in account[4:] + account[:4])) % 97


def _told(text: str) -> Iterator[Found]:
    """Find numbers that only the words before them, in the same sentence, say to be somebody's."""
    bare = [match for match in rules_of("numbers")["number"][0].finditer(text) if sum(map(str.isdigit, match[0])) >= 4]
    for kind, (says,) in rules_of("says").items():
        for match in bare:
            letters = match[0][: len(match[0]) - len(match[0].lstrip(LETTERS))]
            start = match.start() + len(letters) * bool(says.search(letters))  # "SSN 123-45-6789": the word stays
            before = re.split(r"[.!?;]\s", text[max(0, start - NEAR) : start])[-1]
            if LEAST_NUMBER <= match.end() - start <= MOST_NUMBER and says.search(before):
                yield Found(start, match.end(), kind)


def luhn(text: str) -> bool:
    """Tell whether the last digit is the check of the others (Luhn, 1960, US patent 2,950,048)."""
    digits = [int(letter) for letter in reversed(text) if letter.isdigit()]
    doubled = [2 * digit - 9 * (digit > 4) for digit in digits[1::2]]
    return (sum(digits[::2]) + sum(doubled)) % 10 == 0


def _apart(text: str, found: list[Found]) -> list[Found]:
    """Keep the longer of two that overlap whole, and of the other what it alone covers: nothing found is left out."""
    taken = bytearray(len(text))
    kept: list[Found] = []
    for one in sorted(found, key=lambda one: (one.start - one.end, one.kind not in FIRST)):
        for free in re.finditer(rb"\0+", taken[one.start : one.end]):
            part = text[one.start + free.start() : one.start + free.end()]
            start = one.start + free.start() + len(part) - len(part.lstrip(EDGES))
            end = one.start + free.end() - len(part) + len(part.rstrip(EDGES))
            if start < end:
                kept.append(Found(start, end, one.kind))
        taken[one.start : one.end] = b"\1" * (one.end - one.start)
    return sorted(kept)


@lru_cache(maxsize=1)
def _recognisers() -> dict[str, list[Any]]:
    """Give presidio's recognisers by kind."""
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


@lru_cache(maxsize=1)
def _phone_recogniser() -> Any:
    return import_module("presidio_analyzer.predefined_recognizers").PhoneRecognizer(supported_regions=REGIONS)
