"""Character classes of scripts that are written without spaces between words, for use in regular expressions."""

from __future__ import annotations

import unicodedata
from functools import cache

# Chinese and Japanese: each character is nearly a word.
IDEOGRAPHS = (
    "\u3005-\u3007\u3021-\u3029\u3031-\u3035\u3038-\u303c\u3041-\u3096\u309d-\u309f\u30a1-\u30fa\u30fc-\u30ff"
    "\u3105-\u312f\u31a0-\u31bf\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff\ua000-\ua48c\uf900-\ufaff\U00020000-\U0003ffff"
)
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
