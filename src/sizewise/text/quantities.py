"""Numbers, amounts and dates as they are written in texts, in one form for comparison."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from datetime import date
from decimal import Decimal, InvalidOperation
from functools import lru_cache
from typing import NamedTuple

from sizewise.text.scripts import IDEOGRAPHS, UNSPACED_LETTERS

SYLLABLES = "\uac00-\ud7af"
"""Korean syllables."""
_SPACES = " \u00a0\u2009\u202f"
_QUOTES = "'\u2019"
_MINUS = "-\u2212\u2013"
_CURRENCIES = {
    **{"$": "USD", "us$": "USD", "usd": "USD", "€": "EUR", "eur": "EUR", "euro": "EUR", "euros": "EUR", "£": "GBP"},
    **{"gbp": "GBP", "¥": "JPY", "jpy": "JPY", "chf": "CHF", "cny": "CNY", "rmb": "CNY", "inr": "INR", "₹": "INR"},
    **{"dollars": "USD", "dollar": "USD", "cad": "CAD", "aud": "AUD", "sek": "SEK", "nok": "NOK", "dkk": "DKK"},
    **{"円": "JPY", "元": "CNY", "원": "KRW", "krw": "KRW", "₩": "KRW"},
    **{"pln": "PLN", "czk": "CZK", "%": "%", "percent": "%", "per cent": "%", "prozent": "%"},
}
_SCALES = {
    **{"thousand": 3, "million": 6, "millions": 6, "billion": 9, "billions": 9, "trillion": 12, "mio": 6, "mrd": 9},
    **{"tausend": 3, "millionen": 6, "milliarde": 9, "milliarden": 9, "milliards": 9, "milliard": 9},
    **{"millón": 6, "millones": 6, "milhão": 6, "milhões": 6, "milione": 6, "milioni": 6, "mln": 6},
    **{"miliardo": 9, "miliardi": 9, "mld": 9, "miljoen": 6, "miljard": 9, "lakh": 5, "lakhs": 5, "crore": 7},
    **{"crores": 7, "\u0442\u044b\u0441": 3, "\u043c\u043b\u043d": 6, "\u043c\u043b\u0440\u0434": 9},
}
_MYRIADS = {"万": 4, "萬": 4, "만": 4, "億": 8, "亿": 8, "억": 8}
"""Scales of Chinese, Japanese and Korean, after which no space stands."""
_SHORT = {"k": 3, "mn": 6, "mm": 6, "m": 6, "bn": 9, "b": 9, "tn": 12}
"""Scales that are also units, such as meters: they count with a currency only."""
_MONEY = "|".join(re.escape(name) for name in sorted(_CURRENCIES, key=len, reverse=True) if _CURRENCIES[name] != "%")
_UNIT = "|".join(sorted(map(re.escape, _CURRENCIES), key=len, reverse=True))
_DIGITS = rf"(?:\d{{1,3}}(?:[,.{_QUOTES}{_SPACES}]\d{{2,3}})+(?!\d)(?:[.,]\d+)?|\d+(?:[.,]\d+)?|[.,]\d+)"
_SHORT_SCALE = (
    f"(?(before)(?:{'|'.join(_SHORT)})|(?:{'|'.join(_SHORT)})"
    rf"(?=\.?[{_SPACES}]*(?:{_MONEY})(?!\w)))"
)
_SCALE = rf"(?:(?P<scale>{'|'.join(_SCALES)}|{_SHORT_SCALE})\b\.?|(?P<myriad>[{''.join(_MYRIADS)}]))"
_AMOUNT = re.compile(
    rf"(?P<open>\()?(?P<sign>[{_MINUS}])?(?:(?P<before>{_UNIT})[{_SPACES}]*)?(?P<inner>\()?(?P<sign2>[{_MINUS}])?"
    rf"(?P<digits>{_DIGITS})(?P<power>[eE][+-]?\d{{1,3}})?"
    rf"(?P<close>\))?(?:[{_SPACES}]*{_SCALE})?(?:[{_SPACES}]*(?P<after>{_UNIT})(?!\w))?"
    rf"(?P<close2>\))?",
    re.IGNORECASE,
)
_WORD = re.compile(f"[^\\W{IDEOGRAPHS}{UNSPACED_LETTERS}{SYLLABLES}]")
"""A letter of a script with spaces between words; elsewhere a number follows the word before it directly."""
_YEAR = re.compile(r"(?:19|20)\d\d")
_PLAIN = re.compile(r"\d+(?:[.,]\d+)?")
_MONTHS = (
    *("jan|january|januar|janvier|enero", "feb|february|februar|février|febrero", "mar|march|märz|mars|marzo"),
    *("apr|april|avril|abril", "may|mai|mayo", "jun|june|juni|juin|junio", "jul|july|juli|juillet|julio"),
    *("aug|august|août|agosto", "sep|sept|september|septembre|septiembre", "oct|okt|october|oktober|octobre|octubre"),
    *("nov|november|novembre|noviembre", "dec|dez|december|dezember|décembre|diciembre"),
)
_MONTH = {name: number for number, names in enumerate(_MONTHS, 1) for name in names.split("|")}
_NAMES = "|".join(sorted(_MONTH, key=len, reverse=True))
_DATE = re.compile(
    r"(?<!\d)(?:"
    r"(?P<y1>[12]\d{3})[-/.年](?P<m1>\d{1,2})[-/.月](?P<d1>\d{1,2})日?"
    r"|(?P<d2>\d{1,2})\.[ ]?(?P<m2>\d{1,2})\.[ ]?(?P<y2>[12]\d{3})"
    r"|(?P<a3>\d{1,2})[/-](?P<b3>\d{1,2})[/-](?P<y3>[12]\d{3})"
    rf"|(?P<n4>{_NAMES})\.?[{_SPACES}]+(?P<d4>\d{{1,2}})(?:st|nd|rd|th)?,?[{_SPACES}]+(?P<y4>[12]\d{{3}})"
    rf"|(?P<d5>\d{{1,2}})(?:st|nd|rd|th|er|\.)?[{_SPACES}]+(?:of[{_SPACES}]+|de[{_SPACES}]+)?(?P<n5>{_NAMES})\.?,?"
    rf"[{_SPACES}]+(?:de[{_SPACES}]+)?(?P<y5>[12]\d{{3}})"
    r")(?!\d)",
    re.IGNORECASE,
)


class Amount(NamedTuple):
    """A number with its unit."""

    number: Decimal
    unit: str = ""
    """ISO 4217 code of a currency, `%`, or empty if the text names neither."""

    def agrees_with(self, other: Amount) -> bool:
        """Return whether two amounts are the same; a unit that only one of them names doesn't count."""
        return self.number == other.number and (not self.unit or not other.unit or self.unit == other.unit)


class Quantity(NamedTuple):
    """A number or a date in a text."""

    start: int
    """Index of its first character."""
    end: int
    """Index after its last character."""
    amounts: tuple[Amount, ...] = ()
    """Possible readings of a number, the usual one first; empty for a date."""
    dates: tuple[date, ...] = ()
    """Possible readings of a date; two if the order of day and month is uncertain."""


@lru_cache(maxsize=4_096)
def amount_of(text: str) -> Amount | None:
    """Read a text that consists of one number, perhaps with a unit; None if it doesn't.

    A comma before three digits groups thousands, a single point is decimal: `1,234` is 1234 and `1.234` isn't. Digits
    after a leading zero, as in `007`, are an identifier and not a number.
    """
    stripped = _decimal_fractions(_ascii_digits(text)).strip()
    match = _AMOUNT.fullmatch(stripped) if len(stripped) <= 60 else None
    amounts = _amounts(match) if match else ()
    return amounts[0] if amounts else None


@lru_cache(maxsize=4_096)
def date_of(text: str) -> date | None:
    """Read a text that consists of one date; None if it doesn't, or if the order of day and month is uncertain."""
    match = _DATE.fullmatch(_ascii_digits(text).strip())
    days = _dates(match) if match else ()
    return days[0] if len(days) == 1 else None


@lru_cache(maxsize=64)
def find_quantities(text: str) -> tuple[Quantity, ...]:
    """Find the numbers and dates in a text with every possible reading, in order.

    Digits with a space between them are read as one number and as several, `1.5 million` also as 1.5, and a date also
    as its numbers.
    """
    text = _ascii_digits(text)
    found = list(_numbers(text))
    for match in _DATE.finditer(text):
        if days := _dates(match):
            found.append(Quantity(match.start(), match.end(), dates=days))
            numbers = re.finditer(r"\d+", match[0])
            found += [_plain(match.start() + part.start(), part[0]) for part in numbers]
    return tuple(sorted(dict.fromkeys(found), key=lambda one: (one.start, -one.end)))


def readings_of(text: str) -> tuple[Amount, ...]:
    """List the numbers that a text consisting of one number can stand for; empty if it isn't a number."""
    stripped = _decimal_fractions(_ascii_digits(text)).strip()
    match = _AMOUNT.fullmatch(stripped) if len(stripped) <= 60 else None
    return _amounts(match, every=True) if match else ()


def _plain(start: int, digits: str) -> Quantity:
    return Quantity(start, start + len(digits), amounts=(Amount(Decimal(digits)),))


def _numbers(text: str) -> Iterator[Quantity]:
    for match in _AMOUNT.finditer(text):
        start, end = match.span()
        if start and _WORD.match(text[start - 1]) and not _YEAR.fullmatch(match[0]):
            continue  # R2 and covid19 are names, but FY2019 names a year
        amounts = _amounts(match, every=True)
        if amounts:
            yield Quantity(start, end, amounts=amounts)
        if re.search(f"[{_SPACES}]", match["digits"]):  # `2019 2018` in a table are two numbers
            offset = match.start("digits")
            for part in _PLAIN.finditer(match["digits"]):
                yield Quantity(offset + part.start(), offset + part.end(), amounts=_readings(part[0]))


def _amounts(match: re.Match[str], every: bool = False) -> tuple[Amount, ...]:
    """List the readings of a match; a number in parentheses is negative in accounts, and may be positive elsewhere.

    Args:
        match: match of `_AMOUNT`.
        every: read `1.5 million` also as 1.5, as in a table with its scale elsewhere.
    """
    before, after = (_CURRENCIES.get((match[name] or "").casefold(), "") for name in ("before", "after"))
    closed = bool(match["close"] or match["close2"])
    in_parentheses = bool(match["open"] or match["inner"]) and closed
    power = (_SCALES | _SHORT | _MYRIADS).get((match["scale"] or match["myriad"] or "").casefold(), 0)
    shifts = [Decimal(10) ** power, *([Decimal(1)] if power and every else [])]
    signed = bool(match["sign"] or match["sign2"])
    found = []
    for reading in _readings(match["digits"], match["power"] or ""):
        number = reading.number
        values = (-number, number) if in_parentheses else (-number,) if signed else (number,)
        found += [Amount(value * shift, before or after) for shift in shifts for value in values]
    return tuple(found)


def _readings(digits: str, power: str = "") -> tuple[Amount, ...]:
    """List the numbers that digits with separators can stand for, the usual one first."""
    bare = re.sub(f"[{_SPACES}{_QUOTES}]", "", digits)
    commas, points = bare.count(","), bare.count(".")
    if commas and points:
        decimal = max(bare.rindex(","), bare.rindex("."))
        forms = [re.sub("[,.]", "", bare[:decimal]) + "." + bare[decimal + 1 :]]
    elif commas > 1 or points > 1:
        forms = [re.sub("[,.]", "", bare)]
    elif re.fullmatch(r"[1-9]\d{0,2},\d{3}", bare):
        forms = [bare.replace(",", ""), bare.replace(",", ".")]
    elif re.fullmatch(r"[1-9]\d{0,2}\.\d{3}", bare):
        forms = [bare, bare.replace(".", "")]
    else:
        forms = [bare.replace(",", ".")]
    return tuple(Amount(number) for form in forms if (number := _decimal(form + power)) is not None)


def _decimal(text: str) -> Decimal | None:
    if re.match(r"0\d", text):
        return None
    try:
        return Decimal(text)
    except InvalidOperation:
        return None


def _dates(match: re.Match[str]) -> tuple[date, ...]:
    part = match.groupdict()
    if part["a3"]:
        orders = ((part["b3"], part["a3"]), (part["a3"], part["b3"]))
        days = [_day(part["y3"], month, day) for month, day in orders]
    elif part["n4"] or part["n5"]:
        month = str(_MONTH[(part["n4"] or part["n5"]).casefold()])
        days = [_day(part["y4"] or part["y5"], month, part["d4"] or part["d5"])]
    else:
        days = [_day(*(part[f"{name}{form}"] for name in "ymd")) for form in "12" if part[f"y{form}"]]
    return tuple(dict.fromkeys(day for day in days if day is not None))


def _day(year: str, month: str, day: str) -> date | None:
    try:
        return date(int(year), int(month), int(day))
    except ValueError:
        return None


def _decimal_fractions(text: str) -> str:
    """Write fractions such as ½ and 1 ¾ as decimals; those without an end, such as ⅓, stay."""
    return _FRACTION.sub(lambda found: f"{int(found[1] or 0) + Decimal(str(unicodedata.numeric(found[2])))}", text)


_FRACTION = re.compile(r"(?:(\d{1,9})\s?)?([¼½¾⅕⅖⅗⅘⅛⅜⅝⅞⅒])")


def _ascii_digits(text: str) -> str:
    """Write full-width and other digits and signs in ASCII, one character for each, so that positions stay."""
    if text.isascii():
        return text
    return "".join(_ascii(character) for character in text)


@lru_cache(maxsize=1_024)
def _ascii(character: str) -> str:
    if character.isdecimal():
        return str(unicodedata.decimal(character))
    form = unicodedata.normalize("NFKC", character)
    return form if len(form) == 1 and form.isascii() and form in "$%,.()-/" else character
