"""Numbers that are somebody's: telephones, cards, accounts, and those that only the words before them betray."""

from __future__ import annotations

import re
from bisect import bisect_left, bisect_right
from collections.abc import Iterator
from importlib import import_module
from itertools import accumulate
from typing import Any, NamedTuple

from sizewise.guard.rules import rules_of

REGIONS = ("US", "GB", "DE", "FR", "ES", "IT", "NL", "CH", "AT", "IN", "BR", "AU")
LOOKS = 500
"""Different numbers of one text that are looked at for being a telephone's; each takes a millisecond or two."""
LEAST_DIGITS = 7
NEAR = 48  # characters before a number in which a word may say what it is
LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ -./"
LEAST_ACCOUNT, LEAST_NUMBER, MOST_NUMBER = 15, 6, 24
DIGIT_SHARE = 0.4  # of an account in a country whose form is not known


class Found(NamedTuple):
    """A part of a text that is personal data."""

    start: int
    """First character."""
    end: int
    """Character after the last."""
    kind: str
    """One of `KINDS`."""


class Phones:
    """Finds telephone numbers in the copies of one text.

    Beyond `LOOKS` different numbers, whatever has the form of one counts as one: time stays bounded, and nothing passes
    because there is much of it.
    """

    def __init__(self) -> None:
        self._known: dict[str, list[tuple[int, int]]] = {}

    def find(self, text: str) -> Iterator[Found]:
        """Find telephone numbers; only what looks like one is looked at."""
        rules = rules_of("numbers")
        for match in rules["called"][0].finditer(text):
            groups = re.findall(r"\d+", match[0])
            if sum(map(len, groups)) < LEAST_DIGITS:
                continue
            if len(groups) > 1 and sum(len(group) > 1 for group in groups) < 2:
                continue
            for start, end in self._look(match[0]):
                more = rules["extension"][0].match(text, match.start() + end)
                yield Found(match.start() + start, more.end() if more else match.start() + end, "phone")

    def _look(self, number: str) -> list[tuple[int, int]]:
        known = self._known.get(number)
        if known is None and len(self._known) >= LOOKS:
            return [(0, len(number))]
        if known is None:
            known = self._known[number] = list(_telephones(number))
        return known


def _telephones(number: str) -> Iterator[tuple[int, int]]:
    matcher: Any = import_module("phonenumbers").PhoneNumberMatcher
    for region in REGIONS:
        found = [(one.start, one.end) for one in matcher(number, region, leniency=1)]
        yield from found
        if found and number.startswith("+"):  # its country stands in the number
            return


def cards(text: str) -> Iterator[Found]:
    """Find card numbers of all lengths and groupings whose last digit is right."""
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
    """Tell whether the last digit is the check of the others (Luhn, 1960, US patent 2,950,048)."""
    digits = [int(letter) for letter in reversed(text) if letter.isdigit()]
    doubled = [2 * digit - 9 * (digit > 4) for digit in digits[1::2]]
    return (sum(digits[::2]) + sum(doubled)) % 10 == 0


def accounts(text: str) -> Iterator[Found]:
    """Find IBANs of all countries in any case and grouping, with the right check digits.

    Where the form of a country's accounts is known, what follows without a blank does not hide one; of others, an
    account ends where a group of characters does.
    """
    forms = import_module("presidio_analyzer.predefined_recognizers.generic.iban_patterns").regex_per_country
    free = 0
    for match in rules_of("numbers")["account"][0].finditer(text):
        if match.start() < free:
            continue
        whole = match["account"]
        places = [place for place, letter in enumerate(whole) if letter.isalnum()]
        size = _account_size(whole, places, text[match.end("account") :][:1], forms.get(whole[:2].upper()))
        if size:
            free = match.start() + places[size - 1] + 1
            yield Found(match.start(), free, "iban")


def _account_size(whole: str, places: list[int], after: str, form: str | None) -> int:
    """Return how many letters and digits are an IBAN (ISO 13616, ISO 7064 mod 97-10), or 0."""
    plain = "".join(whole[place] for place in places).upper()
    head = int("".join(str(int(letter, 36)) for letter in plain[:4]))
    shift = 10 ** len(str(head))
    remainders = list(accumulate(plain[4:], _next_remainder, initial=0))
    digits = list(accumulate((letter.isdigit() for letter in plain), initial=0))
    for size in range(len(plain), LEAST_ACCOUNT - 1, -1):
        if (remainders[size - 4] * shift + head) % 97 != 1:
            continue
        ends = not after.isalnum() if size == len(plain) else places[size] > places[size - 1] + 1
        if (ends and digits[size] >= DIGIT_SHARE * size) or (form and re.fullmatch(form, plain[:size])):
            return size
    return 0


def _next_remainder(remainder: int, letter: str) -> int:
    value = int(letter, 36)
    return (remainder * (100 if value > 9 else 10) + value) % 97


def told(text: str) -> Iterator[Found]:
    """Find numbers that only the words before them, in the same sentence, say to be somebody's."""
    bare = [match for match in rules_of("numbers")["number"][0].finditer(text) if sum(map(str.isdigit, match[0])) >= 4]
    if not bare:
        return
    stops = [match.start() for match in re.finditer(r"[.!?;]\s", text)]
    for kind, (says,) in rules_of("says").items():
        words = [match.span() for match in says.finditer(text)]
        starts, ends = [start for start, _ in words], [end for _, end in words]
        for match in bare:
            letters = match.start() + len(match[0]) - len(match[0].lstrip(LETTERS))
            says_itself = bool(says.search(text[match.start() : letters]))  # "SSN 123-45-6789": the word stays
            start = letters if says_itself else match.start()
            if not LEAST_NUMBER <= match.end() - start <= MOST_NUMBER:
                continue
            if says_itself:
                yield Found(start, match.end(), kind)
                continue
            last = bisect_right(ends, start) - 1
            if last < 0 or starts[last] < start - NEAR:
                continue
            stop = bisect_left(stops, ends[last])
            stop += stop < len(stops) and stops[stop] == ends[last] and text[ends[last]] == "."  # "Tel. 12 34"
            if stop == bisect_left(stops, start):
                yield Found(start, match.end(), kind)
