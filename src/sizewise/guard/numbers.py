"""Find personal numbers: telephones, cards, accounts, and numbers identified by the words before them."""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Iterator
from functools import lru_cache
from importlib import import_module
from itertools import accumulate, repeat
from typing import Any, NamedTuple

import numpy as np

from sizewise.guard.places import Places, fold, match_at, match_within, windows
from sizewise.guard.rules import rules_of

REGIONS = ("US", "GB", "DE", "FR", "ES", "IT", "NL", "CH", "AT", "IN", "BR", "AU")
MAX_CHECKED = 500
"""Maximum number of distinct candidates per text that are parsed as telephone numbers; each takes 1 to 2 ms."""
MIN_PHONE_DIGITS = 7
LABEL_DISTANCE = 48  # maximum number of characters between a label and its number
LONGEST_LABEL = 64
"""More characters than a label has that doesn't end with any letters."""
LABEL_LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ -./"
MIN_CARD_DIGITS, LONGEST_CARD = 13, 60
MAX_GROUP = 17
"""Digits of a group up to which phonenumbers reads the group as a whole."""
MIN_IBAN_LENGTH, MIN_NUMBER_LENGTH, MAX_NUMBER_LENGTH = 15, 6, 24
MIN_DIGIT_SHARE = 0.4  # for IBANs of countries whose format is unknown

_DIGITS, _STOP = re.compile(r"\d+"), re.compile(r"[.!?;]\s")


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

    def find(self, places: Places) -> Iterator[Found]:
        """Find telephone numbers among the candidates that look like one."""
        rules = rules_of("numbers")
        for match in match_at(rules["phone"][0], places.text, _phone_starts(places)):
            groups = _DIGITS.findall(match[0])
            if sum(map(len, groups)) < MIN_PHONE_DIGITS:
                continue
            if len(groups) > 1 and sum(len(group) > 1 for group in groups) < 2:
                continue
            for start, end in self._spans(match[0]):
                more = rules["extension"][0].match(places.text, match.start() + end)
                yield Found(match.start() + start, more.end() if more else match.start() + end, "phone")

    def _spans(self, number: str) -> list[tuple[int, int]]:
        known = self._known.get(number)
        if known is None and len(self._known) >= MAX_CHECKED:
            return [(0, len(number))]
        if known is None:
            known = self._known[number] = list(_telephones(number))
        return known


def _phone_starts(places: Places) -> Iterator[int]:
    """Find where telephone numbers can begin: at seven digits with at most four other characters between two."""
    text = places.text
    for at in places.starts[places.digits_from(places.starts, 5 * MIN_PHONE_DIGITS) >= MIN_PHONE_DIGITS].tolist():
        bracket = at - 1 if text[at - 1 : at] == "(" else at
        if text[bracket - 1 : bracket] == "+":
            yield bracket - 1
        elif text[bracket - 2 : bracket] == "+ " and bracket >= 2:
            yield bracket - 2
        if bracket < at:
            yield bracket
        yield at


def _telephones(number: str) -> Iterator[tuple[int, int]]:
    matcher: Any = import_module("phonenumbers").PhoneNumberMatcher
    for region in _possible_regions(number):
        found = [(one.start, one.end) for one in matcher(number, region, leniency=1)]
        yield from found
        if found and number.startswith("+"):  # the number includes its country code
            return


def _possible_regions(number: str) -> Iterator[str]:
    """Leave out regions in which no part of a number can be a telephone number, which is quick to tell.

    A part is a series of whole groups of digits. Without a prefix it's a number of the region as it is, or after the
    region's country code, so it must match the region's pattern.
    """
    groups = _DIGITS.findall(number)
    parts = ["".join(groups[first:last]) for first in range(len(groups)) for last in range(first + 1, len(groups) + 1)]
    is_simple = "+" not in number and all(len(group) <= MAX_GROUP and group[0] != "0" for group in groups)
    for region in REGIONS:
        prefixes, code, pattern = _numbering(region)
        if not is_simple or any(
            prefixes.match(digits) or pattern.fullmatch(digits)
            for part in parts
            for digits in ((part, part[len(code) :]) if part.startswith(code) else (part,))
        ):
            yield region


@lru_cache(maxsize=len(REGIONS))
def _numbering(region: str) -> tuple[re.Pattern[str], str, re.Pattern[str]]:
    """Return the prefixes of a region's numbers, its country code, and the pattern of its numbers."""
    metadata: Any = import_module("phonenumbers").PhoneMetadata.metadata_for_region(region)
    given = (metadata.international_prefix, metadata.national_prefix_for_parsing)
    prefixes = "|".join(f"(?:{prefix})" for prefix in given if prefix)
    pattern = metadata.general_desc.national_number_pattern
    return re.compile(prefixes), str(metadata.country_code), re.compile(pattern)


def cards(places: Places) -> Iterator[Found]:
    """Find card numbers of any length and grouping with a valid check digit."""
    rules, text = rules_of("numbers"), places.text
    spans = windows(places.dense(MIN_CARD_DIGITS, 2 * MIN_CARD_DIGITS), 4, LONGEST_CARD, len(text))
    for match in match_within(rules["card"][0], text, spans):
        if luhn(match[0]):
            yield Found(*match.span(), "card")
    for rule in rules["cards"]:
        for match in match_within(rule, text, spans):
            for group in ("more", "base"):
                if match[group] and luhn(match[group]):
                    yield Found(*match.span(group), "card")
                    break


def luhn(text: str) -> bool:
    """Return whether the check digit is valid (Luhn, 1960, US patent 2,950,048)."""
    digits = [int(letter) for letter in reversed(text) if letter.isdigit()]
    doubled = [2 * digit - 9 * (digit > 4) for digit in digits[1::2]]
    return (sum(digits[::2]) + sum(doubled)) % 10 == 0


def accounts(places: Places) -> Iterator[Found]:
    """Find IBANs of all countries with valid check digits, in any case and grouping.

    If a country's format is known, an IBAN is found even when other characters follow it directly. Otherwise it must
    end where a group of characters ends.
    """
    formats = import_module("presidio_analyzer.predefined_recognizers.generic.iban_patterns").regex_per_country
    text, free = places.text, 0
    two = places.ends - places.starts >= 2
    starts = places.starts[two] - 2
    starts = starts[starts >= 0]
    starts = starts[places.letter[starts] & places.letter[starts + 1]]
    for match in filter(None, map(rules_of("numbers")["account"][0].match, repeat(text), starts.tolist())):
        if match.start() < free:
            continue
        candidate = fold(match["account"])
        offsets = [offset for offset, letter in enumerate(candidate) if letter.isalnum()]
        size = _iban_length(
            candidate,
            offsets,
            text[match.end("account") : match.end("account") + 1],
            formats.get(candidate[:2].upper()),
        )
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


def labeled_numbers(places: Places) -> Iterator[Found]:
    """Find numbers that a word before them in the same sentence identifies, such as "passport" or "phone"."""
    text, folded = places.text, places.folded
    matches = list(rules_of("numbers")["number"][0].finditer(text))
    spans = np.asarray([match.span() for match in matches], np.int64).reshape(-1, 2)
    digits = places.total[spans[:, 1]] - places.total[spans[:, 0]]
    numbers = [
        (match.start(), match.end()) for match, count in zip(matches, digits.tolist(), strict=True) if count >= 4
    ]
    near = windows([start for start, _ in numbers], LABEL_DISTANCE + LONGEST_LABEL, MAX_NUMBER_LENGTH, len(text))
    for kind, (label,) in rules_of("labels").items():
        labels = [match.span() for first, last in near for match in label.finditer(folded, first, last)]
        starts, ends = [start for start, _ in labels], [end for _, end in labels]
        for first, end in numbers:
            letters = end - len(text[first:end].lstrip(LABEL_LETTERS))
            # "SSN 123-45-6789": only mask the number
            has_label = letters > first and bool(label.search(folded[first:letters]))
            start = letters if has_label else first
            if not MIN_NUMBER_LENGTH <= end - start <= MAX_NUMBER_LENGTH:
                continue
            if has_label:
                yield Found(start, end, kind)
                continue
            last = bisect_right(ends, start) - 1
            if last < 0 or starts[last] < start - LABEL_DISTANCE:
                continue
            stops = (match.start() for match in _STOP.finditer(text, ends[last], start))
            if all(stop == ends[last] and text[stop] == "." for stop in stops):  # "Tel. 12 34"
                yield Found(start, end, kind)
