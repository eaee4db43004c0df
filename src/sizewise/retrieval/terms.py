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

from sizewise.text import character_ngrams
from sizewise.text.normalization import INVISIBLE
from sizewise.text.scripts import BIGRAM_SCRIPTS, TRIGRAM_SCRIPTS, combining_marks

MIN_STEM_LETTERS = 3
MIN_STOP_WORD_SHARE = 0.15  # share of stop words from which a text counts as written in their language
_UNSPACED = re.compile(f"[{BIGRAM_SCRIPTS}]+|[{TRIGRAM_SCRIPTS}]+")
_RUNS = re.compile(f"[{BIGRAM_SCRIPTS}]+|[{TRIGRAM_SCRIPTS}]+|[^{BIGRAM_SCRIPTS}{TRIGRAM_SCRIPTS}]+")
_HIRAGANA = re.compile("[\u3040-\u309f]")  # Japanese writes particles and inflections in hiragana
# U+066C groups and U+066B separates decimals in Arabic; in India, groups of two digits come before the last three.
_SEPARATOR = r"[.,'\u2019\u066c \u00a0\u2009\u202f]"
_NUMBER = re.compile(
    rf"(?<!\d)\d{{1,3}}(?:{_SEPARATOR}\d{{3}})+(?!\d)(?:[.,\u066b]\d+)?"
    r"|(?<!\d)\d{1,2}(?:,\d{2})+,\d{3}(?!\d)(?:\.\d+)?|\d+(?:[.,\u066b]\d+)?"
)
# Arabic vowel signs and Hebrew points are optional in writing.
_OPTIONAL_MARKS = re.compile("[\u0591-\u05bd\u05bf\u05c1\u05c2\u064b-\u0652\u0670]")
_SUFFIXES = ("ations", "ation", "ings", "ing", "ied", "ies", "ed", "es", "s", "e", "y", "i")


@lru_cache(maxsize=1)
def _token() -> re.Pattern[str]:
    r"""Match a standalone number, or a word including the combining marks that `\w` lacks (as in Hindi or Thai)."""
    letter = rf"[\w{combining_marks()}]"
    spaced = rf"[^\W{BIGRAM_SCRIPTS}{TRIGRAM_SCRIPTS}]"
    return re.compile(rf"(?P<number>(?<!{spaced})(?:{_NUMBER.pattern})(?!{spaced}))|[^\W_]{letter}*")


def number_readings(normalized: str) -> list[str]:
    """Return the numbers beside the one that `terms_of` reads where spaces may group digits or separate numbers."""
    return [value for found in _NUMBER.finditer(normalized) if " " in found[0] for value in _values(found[0])[1:]]


def numbers_of(text: str) -> set[str]:
    """Return the values of the numbers in a text.

    A space can group the digits of one number or separate two numbers; the values of both readings are included.
    """
    return {value for found in _NUMBER.finditer(normalized_text(text)) for value in _values(found[0])}


def number_sets(text: str) -> list[set[str]]:
    """Return the possible values of each number in a text."""
    return [set(_values(found[0])) for found in _NUMBER.finditer(normalized_text(text))]


def normalized_text(text: str) -> str:
    """Normalize to NFKC, without invisible characters and optional vowel signs."""
    if text.isascii():
        return text
    return _OPTIONAL_MARKS.sub("", unicodedata.normalize("NFKC", text.translate(INVISIBLE)))


def _values(digits: str) -> list[str]:
    """Normalize a number: 1,200 and 1.200 and 1 200 to 1200, 5.0 and 5,00 to 5."""
    separators = re.findall(r"\D", digits)
    groups = re.split(r"\D", digits)
    if separators and len(groups[-1]) == 3 and len(groups) > 2 and all(len(group) == 2 for group in groups[1:-1]):
        groups, separators = ["".join(groups)], []  # 1,00,000
        digits = groups[0]
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


def terms_of(text: str, stop_words: frozenset[str] = frozenset(), *, is_query: bool = False) -> list[str]:
    """Split a text into index terms, in order and without stop words.

    A word in capitals is never a stop word: a search for IT or WHO doesn't mean "it" or "who".

    Args:
        text: The text.
        stop_words: Stop words of the languages of the texts.
        is_query: Leave out stop words inside runs of characters, too; a document keeps them.
    """
    normalized = normalized_text(text)
    all_caps = normalized.isupper()
    terms: list[str] = []
    for token in _token().finditer(normalized):
        if token["number"]:
            terms.append(_values(token[0])[0])
        else:
            terms += terms_of_word(token[0], stop_words, all_caps, is_query)
    return terms


@lru_cache(maxsize=200_000)
def terms_of_word(word: str, stop_words: frozenset[str], all_caps: bool, is_query: bool) -> tuple[str, ...]:
    """Split a word into terms: a stem, or n-grams of characters in a script without spaces."""
    terms: list[str] = []
    for run in [word] if word.isascii() else _RUNS.findall(word):
        if _UNSPACED.fullmatch(run):
            terms += _character_ngrams(run, stop_words, is_query)
        elif run.isdecimal():
            terms.append(_values(run)[0])
        elif run.casefold() not in stop_words:
            terms.append(stem(run.casefold()))
        elif run.isupper() and len(run) > 1 and not all_caps:
            terms.append(run)
    return tuple(terms)


def _character_ngrams(run: str, stop_words: frozenset[str], is_query: bool) -> list[str]:
    """Return the overlapping n-grams of a run of characters, except stop words.

    What looks like a stop word is often part of other words, so it is left out of a query only, with the n-grams that
    touch it, and only if other n-grams remain.
    """
    size = 2 if re.match(f"[{BIGRAM_SCRIPTS}]", run) else 3
    ngrams = character_ngrams(run, size)
    if is_query and (longer := frozenset(word for word in stop_words if len(word) > 1 and _UNSPACED.fullmatch(word))):
        touched = {i for found in _alternatives(longer).finditer(run) for i in range(found.start(), found.end())}
        ngrams = [ngram for i, ngram in enumerate(ngrams) if touched.isdisjoint(range(i, i + len(ngram)))] or ngrams
    return [
        ngram
        for ngram in ngrams
        if ngram not in stop_words and not all(c in stop_words or _HIRAGANA.match(c) for c in ngram)
    ]


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
    words = Counter(token[0] for text in texts for token in _token().finditer(normalized_text(text)))
    counts: Counter[str] = Counter()
    for word, count in words.items():
        for run in [word] if word.isascii() else _RUNS.findall(word):
            for unit in run if _UNSPACED.fullmatch(run) else [run.casefold()]:
                counts[unit] += count
    total = sum(counts.values()) or 1
    shares = {words: sum(counts[word] for word in words) / total for words in lists}
    min_share = max(MIN_STOP_WORD_SHARE, max(shares.values()) / 2)
    return frozenset(word for words, share in shares.items() if share >= min_share for word in words)


def stem(word: str) -> str:
    """Strip a common suffix, so that 'restarted' matches 'restart'."""
    for suffix in _SUFFIXES:
        if word.endswith(suffix) and len(word) - len(suffix) >= MIN_STEM_LETTERS:
            return word[: -len(suffix)]
    return word
