"""Character classes of scripts that are written without spaces between words, for use in regular expressions."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable
from functools import cache
from typing import Literal

# Chinese and Japanese: each character is nearly a word.
IDEOGRAPHS = (
    "\u3005-\u3007\u3021-\u3029\u3031-\u3035\u3038-\u303c\u3041-\u3096\u309d-\u309f\u30a1-\u30fa\u30fc-\u30ff"
    "\u3105-\u312f\u31a0-\u31bf\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff\ua000-\ua48c\uf900-\ufaff\U00020000-\U0003ffff"
)
KANA = "\u3041-\u3096\u309d-\u309f\u30a1-\u30fa\u30fc-\u30ff\u31f0-\u31ff"
# Thai, Lao, Myanmar, Khmer and Tai: about three letters make a word.
UNSPACED_LETTERS = (
    "\u0e01-\u0e3a\u0e40-\u0e4e\u0e50-\u0e59\u0e80-\u0eff\u1000-\u1049\u1050-\u109f\u1780-\u17d3\u17d7\u17dc\u17dd"
    "\u17e0-\u17e9\u1950-\u19df\u1a20-\u1aad\ua9e0-\ua9fe\uaa60-\uaa7f"
)
LETTERS_PER_WORD = 3
# Whole blocks for search: Chinese, Japanese and Korean are indexed as bigrams, the other four scripts as trigrams.
BIGRAM_SCRIPTS = (
    "\u3005-\u3007\u3040-\u30ff\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff\uac00-\ud7af\uf900-\ufaff\U00020000-\U0003ffff"
)
TRIGRAM_SCRIPTS = "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff"


@cache
def combining_marks() -> str:
    """Return the combining marks of Unicode as ranges of a character class."""
    ranges: list[tuple[int, int]] = []
    for code in range(0x300, 0x1F000):
        if unicodedata.category(chr(code))[0] == "M":
            if ranges and ranges[-1][1] == code - 1:
                ranges[-1] = ranges[-1][0], code
            else:
                ranges.append((code, code))
    return "".join(f"{chr(first)}-{chr(last)}" for first, last in ranges)


Writing = Literal["spaced", "chinese", "unspaced"]
MIN_UNSPACED_SHARE = 0.1


def writing_of(texts: Iterable[str]) -> Writing:
    """Return how words are written: with spaces, in Chinese characters, or in another script without spaces.

    A tenth of the letters decides, because a text of mixed scripts without spaces must be cut at these.
    """
    letters = ideographs = others = 0
    for text in texts:
        if text.isascii():
            letters += len(text)
            continue
        letters += sum(map(str.isalpha, text))
        ideographs += len(re.findall(f"[{IDEOGRAPHS}]", text))
        others += len(re.findall(f"[{KANA}{UNSPACED_LETTERS}]", text))
    if others > MIN_UNSPACED_SHARE * letters:
        return "unspaced"
    return "chinese" if ideographs > MIN_UNSPACED_SHARE * letters else "spaced"
