"""Find text of the test split that was already seen in training, word for word or lightly edited.

Source of the 13-gram rule: Brown et al. (2020), Language Models are Few-Shot Learners, appendix C. It misses one in six
of short passages with a tenth of their words replaced, so runs of seven words are counted too (docs/evaluating.md).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import NamedTuple

NGRAM = 13
RUN, EDITED_SHARE = 7, 0.25
_WORD = re.compile(r"\w+")


def words_of(text: str) -> list[str]:
    """Split a text into lower-case words, punctuation dropped."""
    return _WORD.findall(text.lower())


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


class SeenText:
    """Runs of words and whole passages of the training text."""

    def __init__(self) -> None:
        self._ngrams: set[int] = set()
        self._runs: set[int] = set()
        self._wholes: set[int] = set()

    def add(self, texts: Iterable[str]) -> None:
        """Add texts; each is also remembered as a whole."""
        for text in texts:
            words = words_of(text)
            self._wholes.add(hash(tuple(words)))
            self._ngrams.update(_hashes(words, NGRAM))
            self._runs.update(_hashes(words, RUN))

    def look_up(self, text: str) -> Overlap:
        """Compare a text with what was seen."""
        words = words_of(text)
        covered = 0
        end = 0
        for i, found in enumerate(_hashes(words, NGRAM)):
            if found in self._ngrams:
                covered += i + NGRAM - max(end, i)
                end = i + NGRAM
        runs = len(words) - RUN + 1
        # A few short phrases are anybody's: only a text long enough to have thirteen words can be a copy.
        edited = (
            len(words) >= NGRAM and sum(found in self._runs for found in _hashes(words, RUN)) >= EDITED_SHARE * runs
        )
        return Overlap(hash(tuple(words)) in self._wholes, covered, edited, len(words))


def _hashes(words: list[str], length: int) -> Iterator[int]:
    return (hash(tuple(words[i : i + length])) for i in range(len(words) - length + 1))
