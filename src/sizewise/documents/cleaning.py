"""Clean text without changing its meaning."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter

CONTROL = "control and invisible characters removed"
IMAGES = "embedded images (base64) replaced by their description"

# Line, page and record separators become line breaks, so that the words on both sides stay separate.
_LINE_END = re.compile("\r\n|[\r\x0b\x0c\x1c-\x1e\x85\u2028\u2029]")
# Control characters except tab and newline, byte order marks and word joiners. In scripts without spaces (Thai, Lao,
# Myanmar, Khmer) a zero-width space separates words and is kept.
_INVISIBLE = re.compile(
    "[\x00-\x08\x0e-\x1b\x7f-\x9f\ufeff\u2060]|(?<![\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff])\u200b"
)
# Embedded images: inline in Markdown, as a Markdown reference, in HTML, and long data URLs anywhere else.
_INLINE_IMAGE = re.compile(r"!\[([^\[\]]*)\]\(\s*<?data:[^)]*\)")
_REFERENCED_IMAGE = re.compile(r"^[ \t]*\[[^\[\]\n]+\]:[ \t]*<?data:\S*[ \t]*$", re.MULTILINE)
_HTML_IMAGE = re.compile(r"<img\b[^<>]*\bsrc\s*=\s*[\"']?data:[^>]*>", re.IGNORECASE)
_ALT = re.compile(r"\balt\s*=\s*(?:\"([^\"]*)\"|'([^']*)')", re.IGNORECASE)
_DATA_URL = re.compile(r"data:[a-z]+/[\w.+-]+(?:;[\w=-]+)*;base64,[\w+/=%-]{64,}", re.IGNORECASE)
# Placeholders for characters that a PDF font doesn't map to Unicode: glyph ids, private-use codes and U+FFFD.
_UNMAPPED = re.compile(r"\(cid:\d+\)|[\ue000-\uf8ff\ufffd]")
_ISOLATED = re.compile(rf"(?<!\S)(?:{_UNMAPPED.pattern})+(?:[ \t]+|$)", re.MULTILINE)
_BLANK_LINES = re.compile(r"\n{3,}")
_TRAILING_SPACE = re.compile(r"[ \t]+(?=\n|$)")


def clean_text(text: str) -> str:
    """Normalize to NFC, remove control characters and embedded images, and normalize line breaks and blank lines.

    The function is idempotent.
    """
    return clean_counted(text, Counter())


def clean_counted(text: str, removed: Counter[str]) -> str:
    """Clean a text like `clean_text`, and count what is removed besides white space."""
    text = _LINE_END.sub("\n", text).replace("\x1f", " ").removeprefix("\ufeff")
    text, invisible = _INVISIBLE.subn("", text)
    removed[CONTROL] += invisible
    text = unicodedata.normalize("NFC", _without_images(text, removed))
    return _BLANK_LINES.sub("\n\n", _TRAILING_SPACE.sub("", text)).strip()


def _without_images(text: str, removed: Counter[str]) -> str:
    """Replace embedded images with their alternative text."""
    changed = "data:" in text
    while changed:
        text, inline = _INLINE_IMAGE.subn(r"\1", text)
        text, html = _HTML_IMAGE.subn(_alt_text, text)
        text, referenced = _REFERENCED_IMAGE.subn("", text)
        text, bare = _DATA_URL.subn("", text)
        changed = bool(inline + html + referenced + bare)
        removed[IMAGES] += inline + html + referenced + bare
    return text


def _alt_text(image: re.Match[str]) -> str:
    alt = _ALT.search(image.group())
    return (alt.group(1) or alt.group(2) or "") if alt else ""


def unmapped_share(text: str) -> float:
    """Return the share of letters and digits that the fonts of a PDF don't map to Unicode."""
    unmapped = len(_UNMAPPED.findall(text))
    mapped = sum(letter.isalnum() for letter in _UNMAPPED.sub("", text)) if unmapped else 0
    return unmapped / (unmapped + mapped) if unmapped else 0.0


def without_unmapped(text: str) -> str:
    """Drop isolated unmapped characters, such as bullets; inside words, replace them with U+FFFD."""
    return _UNMAPPED.sub("\ufffd", _ISOLATED.sub("", text))
