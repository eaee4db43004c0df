"""Clean text without changing what it says."""

from __future__ import annotations

import re
import unicodedata

# What separates lines, pages or records: the words on both sides stay two.
_LINE_END = re.compile("\r\n|[\r\x0b\x0c\x1c-\x1e\x85\u2028\u2029]")
# Control characters but tab and newline, and the marks that only steer direction or invisibly join. A zero-width space
# is the border of two words where words are written without blanks (Thai, Lao, Myanmar, Khmer) and stays there.
_UNSEEN = re.compile("[\x00-\x08\x0e-\x1b\x7f-\x9f\ufeff\u2060]|(?<![\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff])\u200b")
_MANY_BLANK = re.compile(r"\n{3,}")
_TRAILING = re.compile(r"[ \t]+(?=\n|$)")


def clean_text(text: str) -> str:
    """Normalize to NFC, drop unseen control characters, even out line ends and blank lines.

    Cleaning twice changes nothing more.
    """
    text = _LINE_END.sub("\n", text).replace("\x1f", " ")
    text = unicodedata.normalize("NFC", _UNSEEN.sub("", text))
    return _MANY_BLANK.sub("\n\n", _TRAILING.sub("", text)).strip()
