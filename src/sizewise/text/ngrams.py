"""Find text of the test split that was already seen in training, word for word or lightly edited.

Source of the 13-gram rule: Brown et al. (2020), Language Models are Few-Shot Learners, appendix C. It misses one in six
of short passages with a tenth of their words replaced, so runs of seven words are counted too; see
docs/explanation/contamination.md.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator
from functools import cache
from typing import NamedTuple

NGRAM = 13
RUN, EDITED_SHARE = 7, 0.25
# Scripts without blanks between words, in which each letter counts as a word: Chinese and Japanese characters, which
# are nearly words, ...
_CHARACTERS = (
    "\u3005-\u3007\u3021-\u3029\u3031-\u3035\u3038-\u303c\u3041-\u3096\u309d-\u309f\u30a1-\u30fa\u30fc-\u30ff"
    "\u3105-\u312f\u31a0-\u31bf\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff\ua000-\ua48c\uf900-\ufaff\U00020000-\U0003ffff"
)
# ... and the letters of Thai, Lao, Myanmar, Khmer and Tai, of which about three make a word.
_LETTERS = (
    "\u0e01-\u0e3a\u0e40-\u0e4e\u0e50-\u0e59\u0e80-\u0eff\u1000-\u1049\u1050-\u109f\u1780-\u17d3\u17d7\u17dc\u17dd"
    "\u17e0-\u17e9\u1950-\u19df\u1a20-\u1aad\ua9e0-\ua9fe\uaa60-\uaa7f"
)
LETTERS_A_WORD = 3
_UNSPACED = _CHARACTERS + _LETTERS
_IS_LETTER = re.compile(f"[{_LETTERS}]")
_PLAIN_WORD = re.compile(r"\w+")
_UNSEEN = dict.fromkeys((0x00AD, 0x200C, 0x200D, 0x2060, 0xFEFF))


def words_of(text: str) -> list[str]:
    """Split a text into words in one case and form of Unicode, without punctuation.

    Vowel signs and accents stay in their word; where no blanks stand between words each character is one.
    """
    if not text.isascii():
        return _word().findall(unicodedata.normalize("NFKC", text).casefold().translate(_UNSEEN))
    return _PLAIN_WORD.findall(text.lower())


def pieces_of(text: str) -> list[str]:
    """Cut a text between its words, so that the pieces make up the text: `words_of` with all that stands around."""
    return _piece().findall(text)


@cache
def _marks() -> str:
    """Return the combining signs as the ranges of a character class."""
    found: list[tuple[int, int]] = []
    for code in range(0x300, 0x1F000):
        if unicodedata.category(chr(code))[0] == "M":
            if found and found[-1][1] == code - 1:
                found[-1] = found[-1][0], code
            else:
                found.append((code, code))
    return "".join(f"{chr(first)}-{chr(last)}" for first, last in found)


@cache
def _word() -> re.Pattern[str]:
    spaced, marks = rf"[^\W{_UNSPACED}]", f"[{_marks()}]"
    return re.compile(rf"[{_UNSPACED}]{marks}*|{spaced}+(?:{marks}+{spaced}*)*")


@cache
def _piece() -> re.Pattern[str]:
    return re.compile(rf"\s*(?:[{_UNSPACED}][{_marks()}]*|[^\s{_UNSPACED}]+)|\s+$")


class Overlap(NamedTuple):
    """What a text shares with what was seen."""

    exact: bool
    """The whole text was seen."""
    shared_words: int
    """How many of its words lie in a seen 13-gram."""
    edited: bool
    """A quarter of its runs of seven words was seen: a copy with some words replaced."""
    words: int
    """Its words."""


NOTHING: frozenset[int] = frozenset()


class SeenText:
    """Runs of words and whole passages of the training text."""

    def __init__(self) -> None:
        self._ngrams: set[int] = set()
        self._runs: set[int] = set()
        self._wholes: set[int] = set()

    def add(self, texts: Iterable[str], common: frozenset[int] = NOTHING) -> None:
        """Add texts; each is also remembered as a whole.

        Args:
            texts: what was seen.
            common: 13-grams of a template; the words in them are left out.
        """
        for text in texts:
            words = words_of(text)
            self._wholes.add(hash(tuple(words)))
            for own in _own(words, common):
                self._ngrams.update(found for _, _, found in _grams(own, NGRAM))
                self._runs.update(found for _, _, found in _grams(own, RUN))

    def look_up(self, text: str, common: frozenset[int] = NOTHING) -> Overlap:
        """Compare a text with what was seen.

        Args:
            text: to compare.
            common: 13-grams of a template; the words in them are no evidence.
        """
        words = words_of(text)
        covered = runs = seen_runs = 0
        long = False
        for own in _own(words, common):
            end = 0
            for start, length, found in _grams(own, NGRAM):
                long = True
                if found in self._ngrams:
                    covered += start + length - max(end, start)
                    end = start + length
            for _, _, found in _grams(own, RUN):
                runs += 1
                seen_runs += found in self._runs
        # A few short phrases are anybody's: only a text long enough to have thirteen words can be a copy.
        edited = long and seen_runs >= EDITED_SHARE * runs
        return Overlap(hash(tuple(words)) in self._wholes, covered, edited, len(words))

    def holds(self, text: str) -> bool:
        """Tell whether all runs of seven words of a text were seen, so that one of a sentence or less stands there."""
        found = [one in self._runs for _, _, one in _grams(words_of(text), RUN)]
        return bool(found) and all(found)


def common_ngrams(texts: Iterable[str], least: int) -> frozenset[int]:
    """Return the 13-grams that stand in at least so many of the texts: what a template holds is no copy of one text."""
    counts: Counter[int] = Counter()
    for text in texts:
        counts.update({found for _, _, found in _grams(words_of(text), NGRAM)})
    return frozenset(found for found, count in counts.items() if count >= least)


def is_long(text: str) -> bool:
    """Tell whether a text has a 13-gram, so that it is not the same as another one by chance."""
    return next(_grams(words_of(text), NGRAM), None) is not None


def _own(words: list[str], common: frozenset[int]) -> list[list[str]]:
    """Return the stretches of words that lie in no common 13-gram."""
    if not common:
        return [words]
    own: list[list[str]] = [[]]
    end = 0
    grams = {start: length for start, length, found in _grams(words, NGRAM) if found in common}
    for i, word in enumerate(words):
        end = max(end, i + grams.get(i, 0))
        if i >= end:
            own[-1].append(word)
        elif own[-1]:
            own.append([])
    return own


def _grams(words: list[str], length: int) -> Iterator[tuple[int, int, int]]:
    """Yield start, length and hash of each run of words; letters of scripts without blanks count a third of a word."""
    letters = [bool(_IS_LETTER.match(word)) for word in words] if _any_letters(words) else None
    for start in range(len(words) - length + 1):
        size = length * LETTERS_A_WORD if letters is not None and letters[start] else length
        if start + size <= len(words):
            yield start, size, hash(tuple(words[start : start + size]))


def _any_letters(words: list[str]) -> bool:
    return bool(words) and max(words) >= "\u0e01" and any(map(_IS_LETTER.match, words))
