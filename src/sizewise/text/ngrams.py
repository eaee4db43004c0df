"""Detect test text that occurs in the training text, verbatim or lightly edited.

The 13-gram rule follows Brown et al. (2020), Language Models are Few-Shot Learners, appendix C. It misses one in six
short passages in which a tenth of the words was replaced, so 7-grams are counted as well; see
docs/explanation/contamination.md.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from sizewise.text.scripts import LETTERS_PER_WORD, UNSPACED_LETTERS
from sizewise.text.words import words_of

NGRAM = 13
SHORT_NGRAM, EDITED_SHARE = 7, 0.25
NO_NGRAMS: frozenset[int] = frozenset()
_IS_LETTER = re.compile(f"[{UNSPACED_LETTERS}]")


class Overlap(NamedTuple):
    """The overlap of a text with the indexed text."""

    exact: bool
    """Whether the whole text was seen."""
    shared_words: int
    """Number of words covered by seen 13-grams."""
    edited: bool
    """Whether at least a quarter of the 7-grams were seen, as in a copy with some words replaced."""
    words: int
    """Number of words."""


class SeenText:
    """An index of the n-grams and whole passages of the training text."""

    def __init__(self) -> None:
        self._ngrams: set[int] = set()
        self._short_ngrams: set[int] = set()
        self._passages: set[int] = set()

    def add(self, texts: Iterable[str], common: frozenset[int] = NO_NGRAMS) -> None:
        """Add texts to the index, each one also as a whole passage.

        Args:
            texts: Texts seen in training.
            common: 13-grams of a template; their words are skipped.
        """
        for text in texts:
            words = words_of(text)
            self._passages.add(hash(tuple(words)))
            for stretch in _without_common(words, common):
                self._ngrams.update(ngram for _, _, ngram in _ngrams_of(stretch, NGRAM))
                self._short_ngrams.update(ngram for _, _, ngram in _ngrams_of(stretch, SHORT_NGRAM))

    def look_up(self, text: str, common: frozenset[int] = NO_NGRAMS) -> Overlap:
        """Compute the overlap of a text with the index.

        Args:
            text: The text to look up.
            common: 13-grams of a template; their words don't count as overlap.
        """
        words = words_of(text)
        covered = total = seen = 0
        long = False
        for stretch in _without_common(words, common):
            end = 0
            for start, length, ngram in _ngrams_of(stretch, NGRAM):
                long = True
                if ngram in self._ngrams:
                    covered += start + length - max(end, start)
                    end = start + length
            for _, _, ngram in _ngrams_of(stretch, SHORT_NGRAM):
                total += 1
                seen += ngram in self._short_ngrams
        # A few short phrases coincide by chance: only a text of at least thirteen words counts as an edited copy.
        edited = long and seen >= EDITED_SHARE * total
        return Overlap(hash(tuple(words)) in self._passages, covered, edited, len(words))

    def holds(self, text: str) -> bool:
        """Return whether every 7-gram of a text was seen; works for texts too short for a 13-gram."""
        seen = [ngram in self._short_ngrams for _, _, ngram in _ngrams_of(words_of(text), SHORT_NGRAM)]
        return bool(seen) and all(seen)


def common_ngrams(texts: Iterable[str], min_count: int) -> frozenset[int]:
    """Return the 13-grams that occur in at least `min_count` texts: parts of a template rather than copies."""
    counts: Counter[int] = Counter()
    for text in texts:
        counts.update({ngram for _, _, ngram in _ngrams_of(words_of(text), NGRAM)})
    return frozenset(ngram for ngram, count in counts.items() if count >= min_count)


def is_long(text: str) -> bool:
    """Return whether a text has a 13-gram, which makes a chance match with another text unlikely."""
    return next(_ngrams_of(words_of(text), NGRAM), None) is not None


def _without_common(words: list[str], common: frozenset[int]) -> list[list[str]]:
    """Return the stretches of words that no common 13-gram covers."""
    if not common:
        return [words]
    stretches: list[list[str]] = [[]]
    end = 0
    lengths = {start: length for start, length, ngram in _ngrams_of(words, NGRAM) if ngram in common}
    for i, word in enumerate(words):
        end = max(end, i + lengths.get(i, 0))
        if i >= end:
            stretches[-1].append(word)
        elif stretches[-1]:
            stretches.append([])
    return stretches


def _ngrams_of(words: list[str], length: int) -> Iterator[tuple[int, int, int]]:
    """Yield (start, number of words, hash) of each n-gram; letters of unspaced scripts count as a third of a word."""
    letters = [bool(_IS_LETTER.match(word)) for word in words] if _has_unspaced_letters(words) else None
    for start in range(len(words) - length + 1):
        size = length * LETTERS_PER_WORD if letters is not None and letters[start] else length
        if start + size <= len(words):
            yield start, size, hash(tuple(words[start : start + size]))


def _has_unspaced_letters(words: list[str]) -> bool:
    return bool(words) and max(words) >= "\u0e01" and any(map(_IS_LETTER.match, words))
