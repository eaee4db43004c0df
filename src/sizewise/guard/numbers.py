"""Find personal numbers: telephones, cards, accounts, and numbers identified by the words before them."""

from __future__ import annotations

import re
from bisect import bisect_left, bisect_right
from collections.abc import Iterator
from importlib import import_module
from itertools import accumulate
from typing import Any, NamedTuple

from sizewise.guard.rules import rules_of

REGIONS = ("US", "GB", "DE", "FR", "ES", "IT", "NL", "CH", "AT", "IN", "BR", "AU")
MAX_CHECKED = 500
"""Maximum number of distinct candidates per text that are parsed as telephone numbers; each takes 1 to 2 ms."""
MIN_PHONE_DIGITS = 7
LABEL_DISTANCE = 48  # maximum number of characters between a label and its number
LABEL_LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ -./"
MIN_IBAN_LENGTH, MIN_NUMBER_LENGTH, MAX_NUMBER_LENGTH = 15, 6, 24
MIN_DIGIT_SHARE = 0.4  # for IBANs of countries whose format is unknown


class Found(NamedTuple):
    """A span of personal data in a text."""

    start: int
    """Offset of the first character."""
    end: int
    """Offset after the last character."""
    kind: str
    """One of `KINDS`."""


class Phones:
    """Finds telephone numbers in the copies of one text.

    After `MAX_CHECKED` distinct candidates, every further candidate counts as a telephone number. This bounds the
    running time without letting numbers through.
    """

    def __init__(self) -> None:
        self._known: dict[str, list[tuple[int, int]]] = {}

    def find(self, text: str) -> Iterator[Found]:
        """Find telephone numbers among the candidates that look like one."""
        rules = rules_of("numbers")
        for match in rules["phone"][0].finditer(text):
            groups = re.findall(r"\d+", match[0])
            if sum(map(len, groups)) < MIN_PHONE_DIGITS:
                continue
            if len(groups) > 1 and sum(len(group) > 1 for group in groups) < 2:
                continue
            for start, end in self._spans(match[0]):
                more = rules["extension"][0].match(text, match.start() + end)
                yield Found(match.start() + start, more.end() if more else match.start() + end, "phone")

    def _spans(self, number: str) -> list[tuple[int, int]]:
        known = self._known.get(number)
        if known is None and len(self._known) >= MAX_CHECKED:
            return [(0, len(number))]
        if known is None:
            known = self._known[number] = list(_telephones(number))
        return known


def _telephones(number: str) -> Iterator[tuple[int, int]]:
    matcher: Any = import_module("phonenumbers").PhoneNumberMatcher
    for region in REGIONS:
        found = [(one.start, one.end) for one in matcher(number, region, leniency=1)]
        yield from found
        if found and number.startswith("+"):  # the number includes its country code
            return


def cards(text: str) -> Iterator[Found]:
    """Find card numbers of any length and grouping with a valid check digit."""
    rules = rules_of("numbers")
    for match in rules["card"][0].finditer(text):
        if luhn(match[0]):
            yield Found(*match.span(), "card")
    for rule in rules["cards"]:
        for match in rule.finditer(text):
            for group in ("more", "base"):
                if match[group] and luhn(match[group]):
                    yield Found(*match.span(group), "card")
                    break


def luhn(text: str) -> bool:
    """Return whether the check digit is valid (Luhn, 1960, US patent 2,950,048)."""
    digits = [int(letter) for letter in reversed(text) if letter.isdigit()]
    doubled = [2 * digit - 9 * (digit > 4) for digit in digits[1::2]]
    return (sum(digits[::2]) + sum(doubled)) % 10 == 0


def accounts(text: str) -> Iterator[Found]:
    """Find IBANs of all countries with valid check digits, in any case and grouping.

    If a country's format is known, an IBAN is found even when other characters follow it directly. Otherwise it must
    end where a group of characters ends.
    """
    formats = import_module("presidio_analyzer.predefined_recognizers.generic.iban_patterns").regex_per_country
    free = 0
    for match in rules_of("numbers")["account"][0].finditer(text):
        if match.start() < free:
            continue
        candidate = match["account"]
        offsets = [offset for offset, letter in enumerate(candidate) if letter.isalnum()]
        size = _iban_length(candidate, offsets, text[match.end("account") :][:1], formats.get(candidate[:2].upper()))
        if size:
            free = match.start() + offsets[size - 1] + 1
            yield Found(match.start(), free, "iban")


def _iban_length(candidate: str, offsets: list[int], after: str, format: str | None) -> int:
    """Return how many letters and digits form an IBAN (ISO 13616, ISO 7064 mod 97-10), or 0."""
    plain = "".join(candidate[offset] for offset in offsets).upper()
    head = int("".join(str(int(letter, 36)) for letter in plain[:4]))
    shift = 10 ** len(str(head))
    remainders = list(accumulate(plain[4:], _next_remainder, initial=0))
    digits = list(accumulate((letter.isdigit() for letter in plain), initial=0))
    for size in range(len(plain), MIN_IBAN_LENGTH - 1, -1):
        if (remainders[size - 4] * shift + head) % 97 != 1:
            continue
        ends = not after.isalnum() if size == len(plain) else offsets[size] > offsets[size - 1] + 1
        if (ends and digits[size] >= MIN_DIGIT_SHARE * size) or (format and re.fullmatch(format, plain[:size])):
            return size
    return 0


def _next_remainder(remainder: int, letter: str) -> int:
    value = int(letter, 36)
    return (remainder * (100 if value > 9 else 10) + value) % 97


def labeled_numbers(text: str) -> Iterator[Found]:
    """Find numbers that a word before them in the same sentence identifies, such as "passport" or "phone"."""
    numbers = [
        match for match in rules_of("numbers")["number"][0].finditer(text) if sum(map(str.isdigit, match[0])) >= 4
    ]
    if not numbers:
        return
    stops = [match.start() for match in re.finditer(r"[.!?;]\s", text)]
    for kind, (label,) in rules_of("labels").items():
        labels = [match.span() for match in label.finditer(text)]
        starts, ends = [start for start, _ in labels], [end for _, end in labels]
        for match in numbers:
            letters = match.start() + len(match[0]) - len(match[0].lstrip(LABEL_LETTERS))
            has_label = bool(label.search(text[match.start() : letters]))  # "SSN 123-45-6789": only mask the number
            start = letters if has_label else match.start()
            if not MIN_NUMBER_LENGTH <= match.end() - start <= MAX_NUMBER_LENGTH:
                continue
            if has_label:
                yield Found(start, match.end(), kind)
                continue
            last = bisect_right(ends, start) - 1
            if last < 0 or starts[last] < start - LABEL_DISTANCE:
                continue
            stop = bisect_left(stops, ends[last])
            stop += stop < len(stops) and stops[stop] == ends[last] and text[ends[last]] == "."  # "Tel. 12 34"
            if stop == bisect_left(stops, start):
                yield Found(start, match.end(), kind)
