"""Numbers and dates of answers, by value, sign, unit and order, and which of many numbers an answer states."""

from __future__ import annotations

import re
from collections.abc import Iterable
from decimal import Decimal
from functools import lru_cache
from itertools import pairwise

from sizewise.text.number_words import decimals_for_fractions, digits_for_words
from sizewise.text.quantities import Amount, Quantity, find_quantities
from sizewise.text.sentences import sentences_of

MAX_NUMBERS = 6
"""Different numbers in an answer from which on one of them alone isn't what the answer states."""
_ROUNDED = 3
"""Significant digits from which a rounded number counts as the same."""
_RANGE = re.compile(r"(?<![\d./-])(\d[\d.,]*%?)\s?[-\u2013\u2014\u2212]\s?(?=[$€£]?\d)(?!\d[\d.,]*[-/]\d)")
_MINUS = re.compile(r"(?<![\d)] )\b(?:minus|negative|moins|menos|meno|минус)\s+(?=[$€£]?\d)", re.IGNORECASE)
_LISTED = re.compile(r"(?m)^\s*\d{1,3}(?=[.)]\s)")
_NUMBERED = re.compile(r"(?<!\d)\b[1-9][.)] (?=[A-Z])")
_SCALED = re.compile(
    r"thousand|million|billion|trillion|\bmio\b|\bmrd\b|tausend|milli(?:onen|arde)|milliards|millones", re.IGNORECASE
)
_LOSS = re.compile(
    r"\b(?:fell|falls?|fallen|declin\w+|decreas\w+|drop\w*|loss(?:es)?|lost|down|reduc\w+|shr\w+nk|sank|gesunken|"
    r"verlust|verlor|r\u00fcckgang|perte|baisse|p\u00e9rdida|cay\u00f3)\b[^.!?;\d]*$",
    re.IGNORECASE,
)
_STATED = re.compile(
    r"\bno,? wait\b|\bwait\b|\bactually\b|\bcorrection\b|\b(?:final )?answer(?: is|:)|####|\\boxed\{|"
    r"\bantwort(?: ist| lautet|:)|\br\u00e9ponse(?: est| ?:)|\brespuesta(?: es|:)|\brisposta(?: \u00e8|:)|"
    r"\bresposta(?: \u00e9|:)|答案(?:是|\uff1a|:)|答え(?:は|\uff1a)",
    re.IGNORECASE,
)
_LENGTHS = {"mm": "0.001", "cm": "0.01", "meter": "1", "metre": "1", "km": "1000", "kilometer": "1000"}
_LENGTHS |= {"kilometre": "1000", "mile": "1609.344", "foot": "0.3048", "feet": "0.3048", "ft": "0.3048", "m": "1"}
_LENGTHS |= {"inch": "0.0254", "inche": "0.0254", "yard": "0.9144", "millimeter": "0.001", "centimeter": "0.01"}
_MASSES = {"\u00b5g": "0.000001", "mcg": "0.000001", "mg": "0.001", "milligram": "0.001", "g": "1", "gram": "1"}
_MASSES |= {"kg": "1000", "kilogram": "1000", "lb": "453.59237", "pound": "453.59237"}
_TIMES = {"second": "1", "minute": "60", "min": "60", "hour": "3600", "day": "86400", "week": "604800"}
_TIMES |= {"stunde": "3600", "tag": "86400", "tage": "86400", "heure": "3600", "jour": "86400", "h": "3600"}
_OTHERS = {"\u00b0c": "celsius", "\u00b0f": "fahrenheit", "month": "month", "year": "year", "ml": "ml", "kwh": "kwh"}
_KINDS = {"length": _LENGTHS, "mass": _MASSES, "time": _TIMES}
UNITS: dict[str, tuple[str, Decimal]] = {
    name: (kind, Decimal(size)) for kind, sizes in _KINDS.items() for name, size in sizes.items()
} | {name: (kind, Decimal(1)) for name, kind in _OTHERS.items()}
"""Name of a unit -> what it measures, and its size in one unit of that."""
_ORDERED = ("to", ":", "/", "bis", "\u00e0", "a", "until")
"""Words and signs between the numbers of a range or a ratio."""
_UNIT = re.compile(r"[\s\u00a0\u202f-]?(\u00b0 ?[CcFf]|[A-Za-z\u00b5\u03bc]+)")


class Figure:
    """A number or a date of a text, with the unit behind it."""

    def __init__(self, quantity: Quantity, text: str, scaled: bool) -> None:
        self.start, self.end, self.dates = quantity.start, quantity.end, quantity.dates
        self.digits = text[quantity.start : quantity.end]
        amounts = quantity.amounts
        if amounts and not scaled and _SCALED.search(self.digits):
            amounts = tuple(one for one in amounts if abs(one.number) == abs(amounts[0].number))
        if (
            (
                amounts
                and ({"(", ")"} <= set(self.digits) and (re.match(r"\W*$", text[: self.start] + text[self.end :])))
            )
            or re.match(r"[$€£]\(", self.digits)
            or re.match(r"\([$€£]", self.digits)
        ):
            amounts = tuple(one for one in amounts if one.number <= 0)
        self.amounts = amounts
        self.falls = bool(_LOSS.search(text[max(0, self.start - 60) : self.start]))
        named = _UNIT.match(text, quantity.end)
        word = named[1].casefold().replace(" ", "").replace("\u03bc", "\u00b5") if named else ""
        self.unit = UNITS.get(word) or UNITS.get(word.removesuffix("s")) or UNITS.get(word.removesuffix("n"))


def same_amount(one: Amount, other: Amount, tolerance: float = 0.0, any_scale: bool = False) -> bool:
    """Check whether two amounts are the same number: equal, or equal once the finer one is rounded like the other.

    The sign counts. A unit that both name must be the same; a share may be written as 0.15 or as 15%.

    Args:
        one: an amount.
        other: another amount.
        tolerance: relative difference that is accepted as well.
        any_scale: accept thousands, millions or billions as well, as in tables that state the scale elsewhere.
    """
    if one.unit and other.unit and one.unit != other.unit:
        return False
    left, right = one.number, other.number
    if left and right and (left < 0) != (right < 0):
        return False
    left, right = abs(left), abs(right)
    pairs = [(left, right)]
    if (one.unit == "%") != (other.unit == "%") and not (one.unit and other.unit):
        pairs.append((left / 100, right) if one.unit == "%" else (left, right / 100))
    if any_scale and len(right.normalize().as_tuple().digits) >= _ROUNDED:
        pairs += [(left.scaleb(power), right) for power in (-9, -6, -3, 3, 6, 9)]
    return any(_rounds(a, b) or abs(a - b) <= Decimal(str(tolerance)) * max(a, b) for a, b in pairs)


def _rounds(left: Decimal, right: Decimal) -> bool:
    """Check whether one number is the other one, rounded to at least three significant digits."""
    if left == right:
        return True
    for fine, coarse in ((left, right), (right, left)):
        digits = coarse.normalize().as_tuple()
        if isinstance(digits.exponent, int) and len(digits.digits) >= _ROUNDED:
            unit = Decimal(1).scaleb(digits.exponent)
            if abs(fine - coarse) <= unit / 2:
                return True
    return False


def plain_numbers(text: str) -> str:
    """Write English number words in digits, "minus" as a sign, and ranges with "to", whose hyphen is no minus."""
    return _MINUS.sub("-", _RANGE.sub(r"\1 to ", digits_for_words(text)))


@lru_cache(maxsize=4_096)
def main_quantities(text: str) -> tuple[Quantity, ...]:
    """List the numbers and dates of a text, each once: a date isn't also three numbers."""
    kept: list[Quantity] = []
    for one in find_quantities(text):
        if not kept or one.start >= kept[-1].end:
            kept.append(one)
    return tuple(kept)


def has_numbers(answer: str, reference: str, tolerance: float = 0.0, prompt: str = "") -> bool:
    """Check whether an answer has all numbers and dates of a reference, those of a range or a ratio in its order.

    A fraction such as 1/2 agrees with 0.5, and with the same two numbers. Of an answer that states a value after a
    correction or as its answer, only that value counts; of an answer with many different numbers, those of its first
    and its last sentence.

    Args:
        answer: the answer.
        reference: a reference with numbers; both as `plain_numbers` writes them.
        tolerance: relative difference that is accepted as well.
        prompt: the question; where it names a scale such as millions, numbers may leave it out.
    """
    scaled = bool(_SCALED.search(prompt))
    if _has_all(answer, reference, tolerance, scaled):
        return True
    forms = decimals_for_fractions(answer), decimals_for_fractions(reference)
    return forms != (answer, reference) and _has_all(*forms, tolerance, scaled)


def absent_numbers(answer: str, source: str) -> list[str]:
    """List the numbers and dates of an answer that a source doesn't state, in any writing.

    Args:
        answer: the answer.
        source: the text that should have its numbers.
    """
    answer, source = (decimals_for_fractions(plain_numbers(text)) for text in (answer, source))
    given = _figures(source)
    return [
        one.digits
        for one in (Figure(found, answer, False) for found in main_quantities(answer))
        if not any(_same(known, one, 0.0, False) for known in given)
    ]


@lru_cache(maxsize=512)
def _figures(text: str) -> tuple[Figure, ...]:
    return tuple(Figure(one, text, False) for one in find_quantities(text))


def _has_all(answer: str, reference: str, tolerance: float, scaled: bool) -> bool:
    wanted = [Figure(one, reference, scaled) for one in main_quantities(reference)]
    if len(wanted) == 1:
        answer = _stated_part(answer)
    given = [Figure(one, answer, scaled) for one in find_quantities(answer)]
    places = [[one.start for one in given if _same(one, figure, tolerance, scaled)] for figure in wanted]
    if not all(places):
        return False
    for (left, before), (right, after) in pairwise(zip(wanted, places, strict=True)):
        between = reference[left.end : right.start].strip()
        if between in _ORDERED and min(before) >= max(after):
            return False
    return True


def _same(one: Figure, wanted: Figure, tolerance: float, any_scale: bool) -> bool:
    if set(one.dates) & set(wanted.dates):
        return True
    factor, other = Decimal(1), Decimal(1)
    if one.unit and wanted.unit:
        if one.unit[0] != wanted.unit[0]:
            return False
        factor, other = one.unit[1], wanted.unit[1]
    for target in wanted.amounts[:1]:
        target = target._replace(number=target.number * other)
        for amount in one.amounts:
            number = amount.number * factor
            if number > 0 > target.number and one.falls:
                number = -number
            if same_amount(amount._replace(number=number), target, tolerance, any_scale):
                return True
    return False


def _stated_part(answer: str) -> str:
    """Return the part of an answer whose numbers count where one number is asked for."""
    markers = list(_STATED.finditer(answer))
    for marker in reversed(markers):
        rest = next((one for one in sentences_of(answer[marker.end() :]) if main_quantities(one)), "")
        if rest:
            return rest
    for pattern in (_LISTED, _NUMBERED):
        if len(pattern.findall(answer)) > 1:
            answer = pattern.sub("", answer)
    if _different(main_quantities(answer)) <= MAX_NUMBERS:
        return answer
    sentences = [one for one in sentences_of(answer) if main_quantities(one)]
    ends = [one for one in (sentences[0], sentences[-1]) if _different(main_quantities(one)) <= MAX_NUMBERS]
    return "\n".join(ends)


def _different(found: Iterable[Quantity]) -> int:
    return len({one.amounts[:1] or one.dates for one in found})
