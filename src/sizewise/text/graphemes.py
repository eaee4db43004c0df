"""Characters as a reader sees them: extended grapheme clusters (Unicode Standard Annex 29)."""

from __future__ import annotations

import re
import unicodedata
from functools import cache

from sizewise.text.scripts import combining_marks

_FLAG = "[\U0001f1e6-\U0001f1ff]"
_EMOJI = "[\u00a9\u00ae\u203c\u2049\u2122-\u3299\U0001f000-\U0001faff]"
_JAMO = "[\u1100-\u115f\ua960-\ua97c]*(?:[\uac00-\ud7a3]|[\u1160-\u11a7\ud7b0-\ud7c6])[\u1160-\u11ff\ud7b0-\ud7fb]*"
# Consonants of six Indic scripts and the signs that join them (rule GB9c).
_CONSONANT = (
    "[\u0915-\u0939\u0958-\u095f\u0978-\u097f\u0995-\u09b9\u09dc-\u09df\u09f0\u09f1\u0a95-\u0ab9\u0af9"
    "\u0b15-\u0b39\u0b5c-\u0b5f\u0b71\u0c15-\u0c39\u0c58-\u0c5a\u0d15-\u0d3a]"
)
_NUKTA = "\u093c\u09bc\u0abc\u0b3c\u0c3c"
_VIRAMA = "[\u094d\u09cd\u0acd\u0b4d\u0c4d\u0d4d]"
_SKIN, _TAG, _JOINER = "\U0001f3fb-\U0001f3ff", "\U000e0020-\U000e007f", "\u200d"
# Vowels of Thai and Lao that Unicode counts to the letter before them, although they are letters themselves.
_ATTACHED = "\u0e33\u0eb3\uff9e\uff9f"


def graphemes_of(text: str) -> list[str]:
    """Split a text into the characters that a reader sees; joining them restores the text."""
    return list(text) if text.isascii() and "\r" not in text else _cluster().findall(text)


def shorten_text(text: str, length: int, ending: str = "") -> str:
    """Cut a text after a number of characters, never inside a letter with its marks or a joined emoji.

    Args:
        text: The text.
        length: Maximum number of code points, including the ending.
        ending: Appended if the text was cut.
    """
    if len(text) <= length:
        return text
    kept, size = [], len(ending)
    for cluster in graphemes_of(text[: length + 64]):
        size += len(cluster)
        if size > length:
            break
        kept.append(cluster)
    return "".join(kept) + ending


@cache
def _cluster() -> re.Pattern[str]:
    extend = f"[{combining_marks()}{_ATTACHED}\u200c{_JOINER}{_SKIN}{_TAG}]"
    control = "".join(re.escape(chr(code)) for code in range(0x3000) if _is_control(chr(code)))
    emoji = rf"{_EMOJI}(?:[{combining_marks()}{_SKIN}{_TAG}]*{_JOINER}{_EMOJI})*"
    indic = rf"{_CONSONANT}(?:[{_NUKTA}{_JOINER}]*{_VIRAMA}[{_NUKTA}{_JOINER}]*{_CONSONANT})*"
    return re.compile(rf"\r\n|[{control}]|(?:{_FLAG}{_FLAG}|{emoji}|{indic}|{_JAMO}|.){extend}*|.", re.DOTALL)


def _is_control(character: str) -> bool:
    joiners = (0x200C, 0x200D)
    return unicodedata.category(character) in ("Cc", "Cf", "Zl", "Zp") and ord(character) not in (
        *joiners,
        *range(0x600, 0x606),
        0x6DD,
        0x70F,
        0x890,
        0x891,
        0x8E2,
    )
