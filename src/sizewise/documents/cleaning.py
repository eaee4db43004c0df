"""Clean text without changing what it says."""

from __future__ import annotations

import re
import unicodedata

# Control characters but tab and newline, and the marks that only steer direction or invisibly join.
_UNSEEN = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\ufeff\u200b\u2060]")
_MANY_BLANK = re.compile(r"\n{3,}")
_TRAILING = re.compile(r"[ \t]+(?=\n|$)")


def clean_text(text: str) -> str:
    """Normalise to NFC, drop unseen control characters, even out line ends and blank lines.

    Cleaning twice changes nothing more.
    """
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    text = unicodedata.normalize("NFC", _UNSEEN.sub("", text))
    return _MANY_BLANK.sub("\n\n", _TRAILING.sub("", text)).strip()
