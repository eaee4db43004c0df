"""Split, count and normalize words in every script."""

from __future__ import annotations

import re
from functools import cache
from itertools import groupby

from sizewise.text.normalization import INVISIBLE, compatibility_form
from sizewise.text.scripts import BIGRAM_SCRIPTS, IDEOGRAPHS, TRIGRAM_SCRIPTS, UNSPACED_LETTERS, combining_marks

_UNSPACED = IDEOGRAPHS + UNSPACED_LETTERS
_UNSPACED_RUN = re.compile(f"[{BIGRAM_SCRIPTS}]+|[{TRIGRAM_SCRIPTS}]+")
_IDEOGRAPH, _LETTER = re.compile(f"[{IDEOGRAPHS}]"), re.compile(f"[{UNSPACED_LETTERS}]")
_ASCII_WORD = re.compile(r"\w+")
# A run of letters longer than two words of this length counts as several words.
LETTERS_PER_LONG_WORD = 12


def words_of(text: str) -> list[str]:
    """Split a text into case-folded words in their compatibility form, without punctuation.

    Vowel signs and accents stay with their word. In scripts without spaces between words, each character is a word.
    """
    if not text.isascii():
        return _word().findall(compatibility_form(text.translate(INVISIBLE)).casefold())
    return _ASCII_WORD.findall(text.lower())


def pieces_of(text: str) -> list[str]:
    """Split a text before each word, keeping spaces and punctuation: joining the pieces restores the text."""
    return _piece().findall(text)


def phrase_pattern(phrase: str) -> re.Pattern[str]:
    """Return a pattern that finds a phrase as whole words, in a text in the same form.

    In scripts without spaces between words, a phrase ends anywhere; elsewhere no letter or mark may touch it.
    """
    unspaced = re.compile(f"[{_UNSPACED}]")
    ending = re.sub(f"[{combining_marks()}]+$", "", phrase)[-1:]
    before = "" if unspaced.match(phrase) else f"(?<![^\\W{_UNSPACED}])"
    after = f"(?![{combining_marks()}])" if unspaced.match(ending) else f"(?![^\\W{_UNSPACED}]|[{combining_marks()}])"
    return re.compile(before + re.escape(phrase) + after)


def content_terms(words: list[str]) -> list[tuple[str, bool]]:
    """Join neighboring characters of scripts without spaces to bigrams (ideographs) or trigrams (letters).

    Args:
        words: Words as `words_of` returns them.

    Returns:
        Each term with whether it is a word of a script with spaces.
    """
    terms: list[tuple[str, bool]] = []
    for size, run in groupby(words, key=_ngram_size):
        members = list(run)
        if size:
            starts = range(max(1, len(members) - size + 1))
            terms += [("".join(members[start : start + size]), False) for start in starts]
        else:
            terms += [(word, True) for word in members]
    return terms


def _ngram_size(word: str) -> int:
    """Return the length of the n-grams that a word is joined to; 0 for a word of a script with spaces."""
    if word.isascii():
        return 0
    return 2 if _IDEOGRAPH.match(word) else 3 if _LETTER.match(word) else 0


def character_ngrams(text: str, size: int) -> list[str]:
    """Return the overlapping character n-grams of a text; a shorter text is its only n-gram."""
    return [text[start : start + size] for start in range(max(1, len(text) - size + 1))]


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
