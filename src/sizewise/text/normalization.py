"""One form of a text for comparison: Unicode forms, widths, invisible characters, white space and case."""

from __future__ import annotations

import re
import unicodedata
from functools import cache

# Soft hyphen, joiners, word joiner, byte order mark and the Arabic tatweel don't change what a text says.
INVISIBLE = dict.fromkeys((0x00AD, 0x0640, 0x200B, 0x200C, 0x200D, 0x2060, 0xFEFF))
_LINE_END = re.compile("\r\n|[\r\x0b\x0c\x1c-\x1e\x85\u2028\u2029]")
_HIDDEN = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200c-\u200f\u202a-\u202e"
    "\u2060-\u206f\u3164\ufe00-\ufe0f\ufeff\uffa0\ufff9-\ufffb\U0001bca0-\U0001bca3\U0001d173-\U0001d17a"
    "\U000e0000-\U000e0fff]|(?<![\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff])\u200b"
)
"""Controls, fillers, variation selectors, tags and direction marks. In Thai, Lao, Myanmar and Khmer, a zero-width space
separates words, and stays."""
TYPOGRAPHY = str.maketrans({"\u2018": "'", "\u2019": "'", "\u02bc": "'", "\u2010": "-", "\u2011": "-"})


def normalize_text(text: str) -> str:
    """Normalize a text for comparison: NFC, with every run of white space reduced to one space."""
    return " ".join(unicodedata.normalize("NFC", text).split())


def compatibility_form(text: str) -> str:
    """Convert a text to NFKC, except superscripts, subscripts and fractions: 10\u00b2 doesn't become 102."""
    if text.isascii():
        return text
    if not _raised().search(text):
        return unicodedata.normalize("NFKC", text)
    parts = _raised().split(text)
    return "".join(part if i % 2 else unicodedata.normalize("NFKC", part) for i, part in enumerate(parts))


def fold_text(text: str) -> str:
    """Fold what doesn't change an answer: case, white space, full width, soft hyphens and typographic apostrophes."""
    if not text.isascii():
        folded = compatibility_form(text.translate(INVISIBLE)).translate(TYPOGRAPHY).casefold()
        text = unicodedata.normalize("NFC", folded.replace("i\u0307", "i"))  # Turkish dotted capital I
    return " ".join(text.casefold().split())


def visible_text(text: str) -> str:
    """Remove soft hyphens and other invisible characters from a text in NFC, keeping its case and white space."""
    return text if text.isascii() else unicodedata.normalize("NFC", text.translate(INVISIBLE))


def legible_text(text: str) -> str:
    """Write a text as a reader sees it: NFKC, without characters that show nothing, with one kind of line break."""
    text = _LINE_END.sub("\n", text).replace("\x1f", " ")
    return _HIDDEN.sub("", text if text.isascii() else unicodedata.normalize("NFKC", text))


@cache
def _raised() -> re.Pattern[str]:
    tags = ("<super>", "<sub>", "<fraction>")
    codes = (*range(0x80, 0x3200), *range(0xA700, 0xAC00), *range(0x10780, 0x107C0), *range(0x1E030, 0x1E070))
    found = (chr(code) for code in codes if unicodedata.decomposition(chr(code)).startswith(tags))
    return re.compile(f"([{''.join(found)}])")
