"""Index terms for search: word stems, numbers, and character n-grams in scripts without spaces between words.

Numbers are compared by value, however their digits are grouped (1,200 and 1 200 and 1200). Chinese, Japanese and Korean
become character bigrams, Thai, Lao, Khmer and Burmese trigrams. This needs no dictionary; Lucene's CJK analyzer does
the same. Stop words come from bm25s and apply only to the languages that the texts are written in.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Iterable
from functools import lru_cache

from sizewise.text.scripts import BIGRAM_SCRIPTS, TRIGRAM_SCRIPTS

MIN_STEM_LETTERS = 3
MIN_STOP_WORD_SHARE = 0.15  # share of stop words from which a text counts as written in their language
_UNSPACED = re.compile(f"[{BIGRAM_SCRIPTS}]+|[{TRIGRAM_SCRIPTS}]+")
_RUNS = re.compile(f"[{BIGRAM_SCRIPTS}]+|[{TRIGRAM_SCRIPTS}]+|[^{BIGRAM_SCRIPTS}{TRIGRAM_SCRIPTS}]+")
_HIRAGANA = re.compile("[\u3040-\u309f]")  # Japanese writes particles and inflections in hiragana
_SEPARATOR = r"[.,'\u2019 \u00a0\u2009\u202f]"
_NUMBER = re.compile(rf"(?<!\d)\d{{1,3}}(?:{_SEPARATOR}\d{{3}})+(?!\d)(?:[.,]\d+)?|\d+(?:[.,]\d+)?")
_SUFFIXES = ("ations", "ation", "ings", "ing", "ied", "ies", "ed", "es", "s", "e", "y", "i")


@lru_cache(maxsize=1)
def _token() -> re.Pattern[str]:
    r"""Match a standalone number, or a word including the combining marks that `\w` lacks (as in Hindi or Thai)."""
    marks = "".join(chr(i) for i in range(0x300, 0x1E8FF) if unicodedata.category(chr(i)) in ("Mn", "Mc"))
    letter = rf"[\w{re.escape(marks)}]"
    spaced = rf"[^\W{BIGRAM_SCRIPTS}{TRIGRAM_SCRIPTS}]"
    return re.compile(rf"(?P<number>(?<!{spaced})(?:{_NUMBER.pattern})(?!{spaced}))|[^\W_]{letter}*")


def numbers_of(text: str) -> set[str]:
    """Return the values of the numbers in a text.

    A space can group the digits of one number or separate two numbers; the values of both readings are included.
    """
    return {value for found in _NUMBER.finditer(unicodedata.normalize("NFKC", text)) for value in _values(found[0])}


def number_sets(text: str) -> list[set[str]]:
    """Return the possible values of each number in a text."""
    return [set(_values(found[0])) for found in _NUMBER.finditer(unicodedata.normalize("NFKC", text))]


def _values(digits: str) -> list[str]:
    """Normalize a number: 1,200 and 1.200 and 1 200 to 1200, 5.0 and 5,00 to 5."""
    separators = re.findall(r"\D", digits)
    groups = re.split(r"\D", digits)
    grouped = len(groups[0]) <= 3 and groups[0].strip("0") != "" and all(len(group) == 3 for group in groups[1:])
    if separators and grouped and len(set(separators)) == 1:
        integer, decimals = "".join(groups), ""
    else:
        integer, decimals = ("".join(groups[:-1]), groups[-1]) if separators else (digits, "")
    plain, fraction = _ascii_digits(integer).lstrip("0") or "0", _ascii_digits(decimals).rstrip("0")
    value = f"{plain}.{fraction}" if fraction else plain
    return [value, *(_values(part)[0] for part in digits.split())] if len(digits.split()) > 1 else [value]


def _ascii_digits(digits: str) -> str:
    return "".join(str(unicodedata.digit(digit)) for digit in digits)


def terms_of(text: str, stop_words: frozenset[str] = frozenset()) -> list[str]:
    """Split a text into index terms, in order and without stop words.

    A word in capitals is never a stop word: a search for IT or WHO doesn't mean "it" or "who".
    """
    normalized = unicodedata.normalize("NFKC", text)
    all_caps = normalized.isupper()
    terms: list[str] = []
    for token in _token().finditer(normalized):
        if token["number"]:
            terms.append(_values(token[0])[0])
        else:
            terms += _terms_of_word(token[0], stop_words, all_caps)
    return terms


@lru_cache(maxsize=200_000)
def _terms_of_word(word: str, stop_words: frozenset[str], all_caps: bool) -> tuple[str, ...]:
    terms: list[str] = []
    for run in [word] if word.isascii() else _RUNS.findall(word):
        if _UNSPACED.fullmatch(run):
            terms += _character_ngrams(run, stop_words)
        elif run.isdecimal():
            terms.append(_values(run)[0])
        elif run.casefold() not in stop_words:
            terms.append(_stem(run.casefold()))
        elif run.isupper() and len(run) > 1 and not all_caps:
            terms.append(run)
    return tuple(terms)


def _character_ngrams(run: str, stop_words: frozenset[str]) -> Iterable[str]:
    """Yield the overlapping n-grams of a run of characters, split at its stop words."""
    size = 2 if re.match(f"[{BIGRAM_SCRIPTS}]", run) else 3
    unspaced = frozenset(word for word in stop_words if len(word) > 1 and _UNSPACED.fullmatch(word))
    for part in _split_at(run, unspaced):
        for start in range(max(1, len(part) - size + 1)):
            ngram = part[start : start + size]
            if any(character not in stop_words and not _HIRAGANA.match(character) for character in ngram):
                yield ngram


def _split_at(run: str, stop_words: frozenset[str]) -> list[str]:
    if not stop_words:
        return [run]
    return [part for part in _alternatives(stop_words).split(run) if part]


@lru_cache(maxsize=8)
def _alternatives(words: frozenset[str]) -> re.Pattern[str]:
    return re.compile("|".join(re.escape(word) for word in sorted(words, key=lambda word: (-len(word), word))))


def stop_words_of(texts: Iterable[str]) -> frozenset[str]:
    """Return the stop words of the languages that the texts are written in, where bm25s has a list."""
    from bm25s import stopwords

    lists = {
        frozenset(words)
        for name, words in vars(stopwords).items()
        if name.startswith("STOPWORDS_") and name != "STOPWORDS_EN"  # the longer English list includes it
    }
    words = Counter(token[0] for text in texts for token in _token().finditer(unicodedata.normalize("NFKC", text)))
    counts: Counter[str] = Counter()
    for word, count in words.items():
        for run in [word] if word.isascii() else _RUNS.findall(word):
            for unit in run if _UNSPACED.fullmatch(run) else [run.casefold()]:
                counts[unit] += count
    total = sum(counts.values()) or 1
    shares = {words: sum(counts[word] for word in words) / total for words in lists}
    min_share = max(MIN_STOP_WORD_SHARE, max(shares.values()) / 2)
    return frozenset(word for words, share in shares.items() if share >= min_share for word in words)


def _stem(word: str) -> str:
    """Strip a common suffix, so that 'restarted' matches 'restart'."""
    for suffix in _SUFFIXES:
        if word.endswith(suffix) and len(word) - len(suffix) >= MIN_STEM_LETTERS:
            return word[: -len(suffix)]
    return word
