"""Clean text without changing what it says."""

from __future__ import annotations

import re
import unicodedata

# What separates lines, pages or records: the words on both sides stay two.
_LINE_END = re.compile("\r\n|[\r\x0b\x0c\x1c-\x1e\x85\u2028\u2029]")
# Control characters but tab and newline, and the marks that only steer direction or invisibly join. A zero-width space
# is the border of two words where words are written without blanks (Thai, Lao, Myanmar, Khmer) and stays there.
_UNSEEN = re.compile("[\x00-\x08\x0e-\x1b\x7f-\x9f\ufeff\u2060]|(?<![\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff])\u200b")
# Pictures inside a text: in Markdown, at the end of it under a name, in HTML, and anywhere else if they are long.
_PICTURE = re.compile(r"!\[([^\[\]]*)\]\(\s*<?data:[^)]*\)")
_NAMED_PICTURE = re.compile(r"^[ \t]*\[[^\[\]\n]+\]:[ \t]*<?data:\S*[ \t]*$", re.MULTILINE)
_HTML_PICTURE = re.compile(r"<img\b[^<>]*\bsrc\s*=\s*[\"']?data:[^>]*>", re.IGNORECASE)
_ALT = re.compile(r"\balt\s*=\s*(?:\"([^\"]*)\"|'([^']*)')", re.IGNORECASE)
_DATA = re.compile(r"data:[a-z]+/[\w.+-]+(?:;[\w=-]+)*;base64,[\w+/=%-]{64,}", re.IGNORECASE)
# What stands for a letter that a PDF's font does not name: its number, a private code, or the sign for none.
_UNKNOWN = re.compile(r"\(cid:\d+\)|[\ue000-\uf8ff\ufffd]")
_ALONE = re.compile(rf"(?<!\S)(?:{_UNKNOWN.pattern})+(?:[ \t]+|$)", re.MULTILINE)
_MANY_BLANK = re.compile(r"\n{3,}")
_TRAILING = re.compile(r"[ \t]+(?=\n|$)")


def clean_text(text: str) -> str:
    """Normalize to NFC, drop unseen control characters and the bytes of pictures, even out line ends and blank lines.

    Cleaning twice changes nothing more.
    """
    text = _LINE_END.sub("\n", text).replace("\x1f", " ")
    text = unicodedata.normalize("NFC", _without_pictures(_UNSEEN.sub("", text)))
    return _MANY_BLANK.sub("\n\n", _TRAILING.sub("", text)).strip()


def _without_pictures(text: str) -> str:
    """Keep what is said of a picture, and drop the picture."""
    found = "data:" in text
    while found:
        text, one = _PICTURE.subn(r"\1", text)
        text, two = _HTML_PICTURE.subn(_alt, text)
        text, three = _NAMED_PICTURE.subn("", text)
        text, four = _DATA.subn("", text)
        found = bool(one + two + three + four)
    return text


def _alt(picture: re.Match[str]) -> str:
    said = _ALT.search(picture.group())
    return (said.group(1) or said.group(2) or "") if said else ""


def unknown_share(text: str) -> float:
    """Return the share of letters that a PDF's fonts do not name among all its letters and digits."""
    unknown = len(_UNKNOWN.findall(text))
    known = sum(letter.isalnum() for letter in _UNKNOWN.sub("", text)) if unknown else 0
    return unknown / (unknown + known) if unknown else 0.0


def without_unknown(text: str) -> str:
    """Drop signs that a PDF's fonts do not name where they stand alone, as bullets do; inside a word leave U+FFFD."""
    return _UNKNOWN.sub("\ufffd", _ALONE.sub("", text))
