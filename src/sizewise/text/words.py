"""Split, count and normalize words in every script."""

from __future__ import annotations

import re
import unicodedata
from functools import cache

from sizewise.text.scripts import BIGRAM_SCRIPTS, IDEOGRAPHS, TRIGRAM_SCRIPTS, UNSPACED_LETTERS, combining_marks

_UNSPACED = IDEOGRAPHS + UNSPACED_LETTERS
_UNSPACED_RUN = re.compile(f"[{BIGRAM_SCRIPTS}]+|[{TRIGRAM_SCRIPTS}]+")
_ASCII_WORD = re.compile(r"\w+")
_INVISIBLE = dict.fromkeys((0x00AD, 0x200C, 0x200D, 0x2060, 0xFEFF))
# A run of letters longer than two words of this length counts as several words.
LETTERS_PER_LONG_WORD = 12


def words_of(text: str) -> list[str]:
    """Split a text into case-folded words in NFKC, without punctuation.

    Vowel signs and accents stay with their word. In scripts without spaces between words, each character is a word.
    """
    if not text.isascii():
        return _word().findall(unicodedata.normalize("NFKC", text).casefold().translate(_INVISIBLE))
    return _ASCII_WORD.findall(text.lower())


def pieces_of(text: str) -> list[str]:
    """Split a text before each word, keeping spaces and punctuation: joining the pieces restores the text."""
    return _piece().findall(text)


def normalize_text(text: str) -> str:
    """Normalize a text for comparison: NFC, with every run of white space reduced to one space."""
    return " ".join(unicodedata.normalize("NFC", text).split())


def count_words(text: str) -> float:
    """Estimate the number of words; in scripts without spaces, two characters count as one word."""
    words = text.split()
    return len(words) + sum(
        _estimated_words(word) - 1 for word in words if len(word) > 2 * LETTERS_PER_LONG_WORD or not word.isascii()
    )


def _estimated_words(word: str) -> float:
    unspaced = sum(len(run[0]) for run in _UNSPACED_RUN.finditer(word))
    return max(1.0, unspaced / 2 + (len(word) - unspaced) // LETTERS_PER_LONG_WORD / 2)


@cache
def _word() -> re.Pattern[str]:
    spaced, marks = rf"[^\W{_UNSPACED}]", f"[{combining_marks()}]"
    return re.compile(rf"[{_UNSPACED}]{marks}*|{spaced}+(?:{marks}+{spaced}*)*")


@cache
def _piece() -> re.Pattern[str]:
    return re.compile(rf"\s*(?:[{_UNSPACED}][{combining_marks()}]*|[^\s{_UNSPACED}]+)|\s+$")
