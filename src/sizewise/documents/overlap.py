"""Find text of the test split that was already seen in training.

Source of the 13-gram rule: Brown et al. (2020), Language Models are Few-Shot Learners, appendix C.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

NGRAM = 13
_WORD = re.compile(r"\w+")


def words_of(text: str) -> list[str]:
    """Split a text into lower-case words, punctuation dropped."""
    return _WORD.findall(text.lower())


class SeenText:
    """The 13-grams and whole passages of the training text."""

    def __init__(self) -> None:
        self._ngrams: set[int] = set()
        self._wholes: set[int] = set()

    def add(self, texts: Iterable[str]) -> None:
        """Add texts; each is also remembered as a whole."""
        for text in texts:
            words = words_of(text)
            self._wholes.add(hash(tuple(words)))
            self._ngrams.update(hash(tuple(words[i : i + NGRAM])) for i in range(len(words) - NGRAM + 1))

    def look_up(self, text: str) -> tuple[bool, int, int]:
        """Compare a text with what was seen.

        Returns:
            Whether the whole text was seen, how many of its words lie in a seen 13-gram, its words.
        """
        words = words_of(text)
        covered = 0
        end = 0
        for i in range(len(words) - NGRAM + 1):
            if hash(tuple(words[i : i + NGRAM])) in self._ngrams:
                covered += i + NGRAM - max(end, i)
                end = i + NGRAM
        return hash(tuple(words)) in self._wholes, covered, len(words)
