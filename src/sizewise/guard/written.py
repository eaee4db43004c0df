"""Find dates, addresses, e-mail addresses, ids and IP addresses by the rules of the section `personal`.

For each rule, the functions below say where it can begin or what it can't do without. `tests/guard/test_places.py`
compares them with the rules tried everywhere.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from functools import lru_cache

import numpy as np

from sizewise.guard.places import Places, Positions, Span, match_at, match_within, occurrences, windows
from sizewise.guard.rules import rules_of, words_of

Matches = Iterator[re.Match[str]]
BEFORE_STREET, BEFORE_HOUSE, BEFORE_STATE = 320, 420, 180
"""Most characters of an address before its house number, before that with a unit, and before its state."""
AFTER_HOUSE = 220
"""Most characters from a house number to the end of "street"; what may follow isn't needed for a match."""
LONGEST_ENDING, LONGEST_MONTH = 16, 12
_FRENCH_INITIALS = "abcgipqrt"  # of "rue" and the like, and of "bis" and "ter"
_STATE = re.compile(r"[A-Z]{2} ")
_BEFORE_DAY = re.compile(r"([^\W\d_]+)\.?(?: the)?[ \-]\Z", re.IGNORECASE)


def written_matches(places: Places) -> Iterator[tuple[str, re.Match[str]]]:
    """Find what the rules of the section `personal` describe.

    Yields:
        The kind and the match.
    """
    for kind, find in (
        ("date", _dates),
        ("email", _emails),
        ("national_id", _ids),
        ("ip", _ips),
        ("address", _streets),
    ):
        for match in find(places):
            yield kind, match


def _dates(places: Places) -> Matches:
    text = places.text
    by_day, by_month, by_year, compact, ymd, dmy, mdy, japanese = rules_of("personal")["date"]
    days = places.runs(1, 2).tolist()
    years = places.runs(4, 4).tolist()
    yield from match_at(by_day, text, days)
    yield from match_at(by_month, text, _month_starts(places))
    yield from match_at(by_year, text, years)
    yield from match_at(compact, text, places.runs(8, 8).tolist())
    yield from match_at(ymd, text, years)
    after = [at for at in days if any(map(text[at + 1 : at + 4].count, " .-/"))]
    yield from match_at(dmy, text, after)
    yield from match_at(mdy, text, after)
    if "年" in text:
        yield from japanese.finditer(text)


def _month_starts(places: Places) -> Iterator[int]:
    """Find months before a day, as in "March 3rd, 1984"."""
    text, codes = places.text, places.codes
    days = places.runs(1, 2)
    days = days[days >= 4]
    before, earlier = codes[days - 1], codes[days - 2]
    days = days[((before == 32) | (before == 45)) & ((earlier | 32) != 32) & (earlier - np.uint32(48) >= 10)]
    for at in days.tolist():
        if text[at - 2].isalpha() or text[at - 2] == ".":
            word = _BEFORE_DAY.search(text, max(0, at - LONGEST_MONTH - 6), at)
            if word and _month().match(word[1]):
                yield word.start()


@lru_cache(maxsize=1)
def _month() -> re.Pattern[str]:
    """Match the name of a month."""
    (month,) = rules_of("regions")["month"]
    return month


def _emails(places: Places) -> Matches:
    """Find e-mail addresses with words for their signs, in lines with such words."""
    bracketed, spelled = rules_of("personal")["email"]
    folded = places.folded
    yield from match_within(bracketed, places.text, _lines(places.text, at_words(folded)))
    if " at " in folded:
        yield from match_within(spelled, places.text, _lines(places.text, occurrences(folded, (" dot ",))))


def at_words(folded: str) -> Iterator[int]:
    """Find "(at)" and the like in a text in small letters."""
    for at in occurrences(folded, ("(at", "( at", "[at", "[ at")):
        end = folded.index("t", at) + 1
        if folded[end : end + 2].lstrip(" ")[:1] in (")", "]"):
            yield at


def _lines(text: str, found: Iterable[int]) -> list[Span]:
    """Return the lines that hold one of the places."""
    spans: list[Span] = []
    for at in sorted(found):
        if not spans or at >= spans[-1][1]:
            end = text.find("\n", at)
            spans.append((text.rfind("\n", 0, at) + 1, len(text) if end < 0 else end))
    return spans


def _ids(places: Places) -> Matches:
    text = places.text
    *numbers, mexican = rules_of("personal")["national_id"]
    starts = places.starts[places.digits_from(places.starts, 24) >= 11].tolist()
    for rule in numbers:
        yield from match_at(rule, text, starts)
    yield from match_at(mexican, text, [at - 4 for at in places.runs(6, 6).tolist() if at >= 4])


def _ips(places: Places) -> Matches:
    (rule,) = rules_of("personal")["ip"]
    colons = np.flatnonzero(places.codes == ord(":"))
    yield from match_at(rule, places.text, (colons + 1).tolist())


def _streets(places: Places) -> Matches:
    english, german, named, french, roman, box, british, american = rules_of("personal")["address"]
    text, folded, size = places.text, places.folded, len(places.text)
    words = words_of("regions")
    houses = _houses(places)
    spans = windows([*houses, *_spelled_houses(text)], BEFORE_HOUSE, AFTER_HOUSE, size)
    yield from match_within(english, text, spans)
    yield from match_within(
        german, text, windows(ends_before(places, words["street_endings"]), BEFORE_STREET, 40, size)
    )
    capitals = [f"{word} " for word in words["capital_streets"]]
    yield from match_at(named, text, sorted(set(occurrences(text, capitals))))
    yield from match_at(french, text, houses)
    starts = (
        at
        for at in occurrences(folded, [f"{word} " for word in words["streets"]])
        if at == 0 or not _is_word(text[at - 1])
    )
    yield from match_at(roman, text, sorted(set(starts)))
    boxes = _lines(text, ends_before(places, words["boxes"]))
    yield from match_within(box, text, boxes)
    yield from match_within(british, text, windows(inward_codes(places), 6, 8, size))
    codes = [at for at in places.runs(5, 5).tolist() if at >= 4 and _STATE.match(text, at - 3)]
    yield from match_within(american, text, windows(codes, BEFORE_STATE, 16, size))


def _is_word(letter: str) -> bool:
    return letter.isalnum() or letter == "_"


def _houses(places: Places) -> list[int]:
    """Find house numbers before the name of a street, as in "12 Baker Street" and "12 rue de la Paix"."""
    (after,) = rules_of("regions")["after_house"]
    text = places.text
    return [at for at in house_starts(places) if after.match(text, at)]


def house_starts(places: Places) -> Iterator[int]:
    """Find numbers that can be a house number: what follows isn't a word in small letters that can't be a street's."""
    text = places.text
    lengths = places.ends - places.starts
    few = lengths <= 5
    for at, end in zip(places.starts[few].tolist(), places.ends[few].tolist(), strict=True):
        after = text[end : end + 4]
        if not after or (after[0] not in " ,-/" and not after[0].isalpha()):
            continue
        word = after.lstrip(" ,")[:2] if after[0] in " ," else ""
        is_word = len(word) == 2 and word.islower() and word.isascii() and word.isalpha()
        if is_word and word[0] not in _FRENCH_INITIALS:
            continue
        yield at


def _spelled_houses(text: str) -> list[int]:
    (after,) = rules_of("regions")["after_house"]
    return [at for at in occurrences(text, words_of("regions")["numbers"]) if after.match(text, at)]


def ends_before(places: Places, words: tuple[str, ...]) -> list[int]:
    """Find numbers after one of the words, with or without spaces between."""
    folded = places.folded
    found = []
    for at in places.starts.tolist():
        before = folded[max(0, at - LONGEST_ENDING) : at].rstrip(" ")
        if before.endswith(words):
            found.append(at)
    return found


def inward_codes(places: Places) -> Positions:
    """Find the second halves of British postcodes: "1AA" in "SW1A 1AA", with the space before."""
    codes, digit, letter = places.codes, places.digit, places.letter
    if len(codes) < 6:
        return np.empty(0, np.int64)
    inward = np.zeros(len(codes), np.bool_)
    inward[:-3] = (codes[:-3] == 32) & digit[1:-2] & letter[2:-1] & letter[3:]
    outward = np.zeros(len(codes), np.bool_)
    outward[2:] = digit[1:-1] | (digit[:-2] & (letter[1:-1] | digit[1:-1]))
    return np.flatnonzero(inward & outward)
