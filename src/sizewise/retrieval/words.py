"""The units by which texts are searched: words, numbers, and parts of text in scripts that put no blanks between words.

A number is its value, however its digits are grouped (1,200 and 1 200 and 1200). Chinese, Japanese and Korean are cut
into pairs of characters, Thai, Lao, Khmer and Burmese into three: this needs no dictionary (Lucene's CJK analyser does
the same). Stop words of a language are those that bm25s carries; they count nothing in a language that the texts are
written in.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Iterable
from functools import lru_cache

SHORTEST = 3
PAIRED = (
    "\u3005-\u3007\u3040-\u30ff\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff\uac00-\ud7af\uf900-\ufaff\U00020000-\U0003ffff"
)
TRIPLED = "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff"
WORD_LETTERS = 12  # letters of a word in a chain of letters that is longer than any word
LEAST_SHARE = 0.15  # of all words, that the stop words of a language make up where texts are written in it
_UNSPACED = re.compile(f"[{PAIRED}]+|[{TRIPLED}]+")
_RUNS = re.compile(f"[{PAIRED}]+|[{TRIPLED}]+|[^{PAIRED}{TRIPLED}]+")
_PLAIN_ENDINGS = re.compile("[\u3040-\u309f]")  # Japanese writes particles and endings in Hiragana
_BY = r"[.,'\u2019 \u00a0\u2009\u202f]"
_NUMBER = re.compile(rf"(?<!\d)\d{{1,3}}(?:{_BY}\d{{3}})+(?!\d)(?:[.,]\d+)?|\d+(?:[.,]\d+)?")
_ENDINGS = ("ations", "ation", "ings", "ing", "ied", "ies", "ed", "es", "s", "e", "y", "i")


@lru_cache(maxsize=1)
def _token() -> re.Pattern[str]:
    r"""Match a number that stands alone, or a word with the marks that `\w` leaves out (those of Hindi or Thai)."""
    marks = "".join(chr(i) for i in range(0x300, 0x1E8FF) if unicodedata.category(chr(i)) in ("Mn", "Mc"))
    letter = rf"[\w{re.escape(marks)}]"
    apart = rf"[^\W{PAIRED}{TRIPLED}]"
    return re.compile(rf"(?P<number>(?<!{apart})(?:{_NUMBER.pattern})(?!{apart}))|[^\W_]{letter}*")


def size_of(text: str) -> float:
    """Return about how many words a text has; two characters without a blank between count as one."""
    words = text.split()
    return len(words) + sum(_size(word) - 1 for word in words if len(word) > 2 * WORD_LETTERS or not word.isascii())


def _size(word: str) -> float:
    unspaced = sum(len(run[0]) for run in _UNSPACED.finditer(word))
    return max(1.0, unspaced / 2 + (len(word) - unspaced) // WORD_LETTERS / 2)


def numbers_of(text: str) -> set[str]:
    """Return the numbers of a text by value; where blanks may group the digits of one number or part two, both."""
    return {value for one in _NUMBER.finditer(unicodedata.normalize("NFKC", text)) for value in _values(one[0])}


def number_sets(text: str) -> list[set[str]]:
    """Return for each number of a text what it may be."""
    return [set(_values(one[0])) for one in _NUMBER.finditer(unicodedata.normalize("NFKC", text))]


def _values(digits: str) -> list[str]:
    """Write a number plainly: 1,200 and 1.200 and 1 200 as 1200, 5.0 and 5,00 as 5."""
    signs = re.findall(r"\D", digits)
    groups = re.split(r"\D", digits)
    grouped = len(groups[0]) <= 3 and groups[0].strip("0") != "" and all(len(one) == 3 for one in groups[1:])
    if signs and grouped and len(set(signs)) == 1:
        whole, part = "".join(groups), ""
    else:
        whole, part = ("".join(groups[:-1]), groups[-1]) if signs else (digits, "")
    plain, fraction = _ascii(whole).lstrip("0") or "0", _ascii(part).rstrip("0")
    value = f"{plain}.{fraction}" if fraction else plain
    return [value, *(_values(one)[0] for one in digits.split())] if len(digits.split()) > 1 else [value]


def _ascii(digits: str) -> str:
    return "".join(str(unicodedata.digit(one)) for one in digits)


def units_of(text: str, stop: frozenset[str] = frozenset()) -> list[str]:
    """Return the units of a text in their order, without stop words.

    A word in capitals is no stop word: who asks for IT or WHO does not mean it or who.
    """
    plain = unicodedata.normalize("NFKC", text)
    loud = plain.isupper()
    found: list[str] = []
    for one in _token().finditer(plain):
        if one["number"]:
            found.append(_values(one[0])[0])
        else:
            found += _units(one[0], stop, loud)
    return found


@lru_cache(maxsize=200_000)
def _units(word: str, stop: frozenset[str], loud: bool) -> tuple[str, ...]:
    found: list[str] = []
    for run in [word] if word.isascii() else _RUNS.findall(word):
        if _UNSPACED.fullmatch(run):
            found += _pieces(run, stop)
        elif run.isdecimal():
            found.append(_values(run)[0])
        elif run.casefold() not in stop:
            found.append(_stem(run.casefold()))
        elif run.isupper() and len(run) > 1 and not loud:
            found.append(run)
    return tuple(found)


def _pieces(run: str, stop: frozenset[str]) -> Iterable[str]:
    """Cut a run of characters into pieces that overlap, between its stop words."""
    size = 2 if re.match(f"[{PAIRED}]", run) else 3
    for part in _between(run, frozenset(one for one in stop if len(one) > 1 and _UNSPACED.fullmatch(one))):
        for start in range(max(1, len(part) - size + 1)):
            piece = part[start : start + size]
            if any(one not in stop and not _PLAIN_ENDINGS.match(one) for one in piece):
                yield piece


def _between(run: str, stop: frozenset[str]) -> list[str]:
    if not stop:
        return [run]
    return [part for part in _any_of(stop).split(run) if part]


@lru_cache(maxsize=8)
def _any_of(words: frozenset[str]) -> re.Pattern[str]:
    return re.compile("|".join(re.escape(one) for one in sorted(words, key=lambda one: (-len(one), one))))


def stop_words_of(texts: Iterable[str]) -> frozenset[str]:
    """Return the stop words of the languages that texts are written in, as far as bm25s has a list of them."""
    from bm25s import stopwords

    lists = {
        frozenset(words)
        for name, words in vars(stopwords).items()
        if name.startswith("STOPWORDS_") and name != "STOPWORDS_EN"  # the longer list of English has all of it
    }
    words = Counter(one[0] for text in texts for one in _token().finditer(unicodedata.normalize("NFKC", text)))
    counts: Counter[str] = Counter()
    for word, count in words.items():
        for run in [word] if word.isascii() else _RUNS.findall(word):
            for one in run if _UNSPACED.fullmatch(run) else [run.casefold()]:
                counts[one] += count
    total = sum(counts.values()) or 1
    shares = {words: sum(counts[word] for word in words) / total for words in lists}
    least = max(LEAST_SHARE, max(shares.values()) / 2)
    return frozenset(word for words, share in shares.items() if share >= least for word in words)


def _stem(word: str) -> str:
    """Cut common endings off, so that 'restarted' finds 'restart'."""
    for ending in _ENDINGS:
        if word.endswith(ending) and len(word) - len(ending) >= SHORTEST:
            return word[: -len(ending)]
    return word
