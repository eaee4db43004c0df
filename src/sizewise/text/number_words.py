"""Number words of English and Chinese characters, and fractions, written in digits: `fifty-five`, `2 1/2`, `三十天`."""

from __future__ import annotations

import re
from decimal import Decimal
from functools import lru_cache

from sizewise.text.languages import detect_language

_SMALL = """
zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen eighteen
nineteen
"""
_ROUND = ("twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety")
_ONES = {word: number for number, word in enumerate(_SMALL.split())}
_TENS = {word: 10 * number for number, word in enumerate(_ROUND, start=2)} | {"fourty": 40}
_SCALES = {"thousand": 10**3, "million": 10**6, "billion": 10**9, "trillion": 10**12}
_PARTS = {
    **{"half": 2, "halves": 2, "third": 3, "thirds": 3, "quarter": 4, "quarters": 4, "fourth": 4, "fourths": 4},
    **{"fifth": 5, "fifths": 5, "sixth": 6, "sixths": 6, "eighth": 8, "eighths": 8, "tenth": 10, "tenths": 10},
}
_WORDS = "|".join(sorted((*_ONES, *_TENS, *_SCALES, "hundred", "dozen"), key=len, reverse=True))
_LARGE = "|".join((*_SCALES, "hundred", "dozen"))
_RUN = re.compile(
    rf"(?<![\w-])(?:an?\s+(?=(?:{_LARGE})\b)|(?!(?:{_LARGE})\b))"
    rf"(?P<run>(?:{_WORDS})(?:(?:\s+and\s+|\s*-\s*|\s+)(?:{_WORDS}))*)"
    rf"(?:\s+point(?P<decimals>(?:\s+(?:{'|'.join(_ONES)}))+))?"
    r"(?!\w)",
    re.IGNORECASE,
)
_FRACTION = re.compile(
    rf"(?<![\w.,-])(?:(?P<whole>\d{{1,6}})\s*-?\s*(?:and\s+)?)?(?P<top>an?|one|two|three|four|five|seven|\d)"
    rf"(?:\s+|-)(?P<part>{'|'.join(sorted(_PARTS, key=len, reverse=True))})(?!\w)",
    re.IGNORECASE,
)
_HALF_OF = re.compile(r"(?<![\w-])half(?=\s+(?:of|the|an?|all|its|their|his|her|my|our|your)\b)", re.IGNORECASE)
_AND_HALF = re.compile(r"(?<![\w.,])(\d{1,6})\s+and\s+(?=0\.\d)")
_COUNTED = re.compile(r"(?:first|second|third|fourth|last|past|next|previous|final|latest)\s+$", re.IGNORECASE)
_SLASHED = re.compile(
    r"(?<![\w./,-])(?:(\d{1,6})[ \u00a0-])?([1-9]\d?)[/\u2044]([2-9]|[1-9]\d|100)(?![\w/\u2044]|[.,]\d)"
)
_DECIMAL = re.compile(r"\d+(?:\.\d+)?")
_UNITS = (
    r"second|minute|hour|day|week|month|year|percent|per cent|dollar|euro|pound|mile|meter|metre|kilometer|inch|foot"
)
_ONE_UNIT = re.compile(rf"\s+(?:{_UNITS})\b", re.IGNORECASE)
_DUTCH = re.compile(
    r"\s+(?:minste|slotte|opzichte|behoeve|aanzien|gevolge|zeerste|goede|laatste|eerste|koste|dele|einde)\b",
    re.IGNORECASE,
)
_HAN_DIGITS = {**{mark: number for number, mark in enumerate("〇一二三四五六七八九")}, "零": 0, "两": 2, "兩": 2}
_HAN_UNITS, _HAN_LARGE = {"十": 10, "百": 100, "千": 1_000}, {"万": 10**4, "萬": 10**4, "亿": 10**8, "億": 10**8}
_HAN = "".join((*_HAN_DIGITS, *_HAN_UNITS, *_HAN_LARGE))
_HAN_COUNTERS = "天日月年歳岁周週个個人名位元円條条章項项次件台份公斤米小時时"
"""Characters before which a Chinese or Japanese number counts something; elsewhere it may be part of a word."""
_HAN_RUN = re.compile(f"(?<![\\d.,{_HAN}])[{_HAN}]{{1,20}}(?=[{_HAN_COUNTERS}])")


@lru_cache(maxsize=4_096)
def digits_for_words(text: str) -> str:
    """Write the number words of a text in digits, and fractions in English words as decimals.

    Numbers in Chinese characters are read where they count something: `三十天`, `二〇二四年`.

    A lone `one` stays, because it is a pronoun more often than a number, unless a unit follows; so do ordinals. Texts
    in another language, as far as it can be told, aren't changed.

    Args:
        text: The text.
    """
    if not text.isascii():
        text = _HAN_RUN.sub(lambda found: _han_number(found[0]) or found[0], text)
    if not _RUN.search(text) and not _FRACTION.search(text) and not _HALF_OF.search(text):
        return text
    if detect_language(text) not in ("", "en"):
        return text
    text = _FRACTION.sub(lambda found: _fraction(found, text), text)
    changed = _HALF_OF.sub("0.5", _RUN.sub(_number, text))
    changed = _FRACTION.sub(lambda found: _fraction(found, changed), changed)
    return _AND_HALF.sub(lambda found: f"{found[1]}+", changed).replace("+0.", ".")


@lru_cache(maxsize=64)
def find_number_words(text: str) -> tuple[tuple[int, int, Decimal], ...]:
    """Find the number words and English fractions of a text: first index, index after the last, and value.

    Args:
        text: The text.
    """
    if not text.isascii():
        han = [(*match.span(), _han_number(match[0])) for match in _HAN_RUN.finditer(text)]
        if any(written for *_, written in han):
            return tuple((start, end, Decimal(written)) for start, end, written in han if written)
    if not _RUN.search(text) or detect_language(text) not in ("", "en"):
        return ()
    found = [(match, _fraction(match, text)) for match in _FRACTION.finditer(text)]
    taken = [match.span() for match, written in found if written != match[0]]
    found += [
        (match, _number(match))
        for match in _RUN.finditer(text)
        if not any(start < match.end() and match.start() < end for start, end in taken)
    ]
    known = [(*match.span(), Decimal(written)) for match, written in found if _DECIMAL.fullmatch(written)]
    return tuple(sorted(known))


def decimals_for_fractions(text: str) -> str:
    """Write fractions such as 1/2 and 2 3/4 as decimals; dates, ratios above one and numbers with more parts stay.

    Args:
        text: The text.
    """
    return _SLASHED.sub(_slashed, text)


def _slashed(found: re.Match[str]) -> str:
    top, bottom = int(found[2]), int(found[3])
    return _decimal(int(found[1] or 0), top, bottom) if top < bottom else found[0]


def _decimal(whole: int, top: int, bottom: int) -> str:
    exact = Decimal(whole) + Decimal(top) / Decimal(bottom)
    return f"{exact.quantize(Decimal('0.0001')).normalize():f}"


def _fraction(found: re.Match[str], text: str) -> str:
    part, top = found["part"].casefold(), found["top"].casefold()
    if part.startswith("quarter") and _COUNTED.search(text[: found.start()]):
        return found[0]
    count = 1 if top in ("a", "an") else int(top) if top.isdigit() else _ONES[top]
    plural = part.endswith("s")
    if count >= _PARTS[part] or (count > 1) != plural or (part in ("third", "fourth", "fifth") and top == "a"):
        return found[0]  # `three quarters` is a share, `a third attempt` isn't
    return _decimal(int(found["whole"] or 0), count, _PARTS[part])


def _number(found: re.Match[str]) -> str:
    words = re.findall(r"[a-z]+", found["run"].casefold())
    if not found["decimals"] and words == ["one"] and not _ONE_UNIT.match(found.string, found.end()):
        return found[0]
    if words == ["ten"] and (_DUTCH.match(found.string, found.end()) or not found.string.isascii()):
        return found[0]  # a word of Dutch and of Polish
    values = _values([word for word in words if word != "and"])
    if values is None:
        return found[0]
    if found["decimals"]:
        values[-1] = f"{values[-1]}.{''.join(str(_ONES[word]) for word in found['decimals'].casefold().split())}"
    return " ".join(values)


def _values(words: list[str]) -> list[str] | None:
    """Read number words one after the other: those that can't belong to the same number begin the next one."""
    read: list[str] = []
    total, group, last = 0, 0, 0
    started = False
    for word in words:
        value = _ONES.get(word, _TENS.get(word, -1))
        if value >= 0:
            fits = not started or last >= 100 or (20 <= last < 100 and last % 10 == 0 and 0 < value < 10)
            century = started and not total and 16 <= group <= 20 and last == group and 10 <= value < 100
            if century:  # nineteen eighty, and then perhaps four
                group, last = 100 * group + value, value
                continue
            if not fits:
                read.append(str(total + group))
                total, group = 0, 0
            group, last, started = group + value, value, True
        elif word in ("hundred", "dozen"):
            group, last, started = (group or 1) * (100 if word == "hundred" else 12), 100, True
        else:
            total, group, last, started = total + (group or 1) * _SCALES[word], 0, _SCALES[word], True
    return [*read, str(total + group)] if started else None


def _han_number(run: str) -> str:
    """Read a number in Chinese characters; empty if it is 1, or unclear: `三四`, and `一万五`, which is 15,000."""
    if not any(mark in _HAN_UNITS or mark in _HAN_LARGE for mark in run):
        year = len(run) == 4 or (len(run) > 2 and 0 in map(_HAN_DIGITS.get, run))
        plain = "".join(str(_HAN_DIGITS[mark]) for mark in run)
        return plain if year or (len(run) == 1 and plain not in ("0", "1")) else ""
    total, group, digit = 0, 0, 0
    for mark in run:
        if mark in _HAN_DIGITS:
            if digit:
                return ""
            digit = _HAN_DIGITS[mark]
        elif mark in _HAN_UNITS:
            group, digit = group + (digit or 1) * _HAN_UNITS[mark], 0
        else:
            total, group, digit = total + (group + digit or 1) * _HAN_LARGE[mark], 0, 0
    shortened = digit and _HAN_DIGITS.get(run[-2]) != 0 and run[-2] != "十"
    return "" if shortened else str(total + group + digit)
