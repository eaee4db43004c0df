"""Plain copies of a text, to find things in, with the way back to the places in the text itself.

People and programs write the same value in many ways: with no-break blanks, soft hyphens and letters that do not show,
with other dashes, with full-width digits or those of other scripts, or escaped as in JSON, HTML and web addresses.
Rules are written for one form, so they look at a copy in that form (Unicode 16: NFKC, UAX #15; decimal digits, UAX
#44; RFC 3986, section 2.1).
"""

from __future__ import annotations

import html
import re
import unicodedata
from array import array
from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple
from urllib.parse import unquote

OTHER = "\0"  # stands for letters beside which numbers stand without a blank; it is part of no value
_LINE_ENDS = "\x0b\x0c\x1c\x1d\x1e\x85\u2028\u2029"
_MINUS = "\u02d7\u2043\u2212\u2796"
_SLASHES = "\u2044\u2215\u29f8"
_KEPT = "\u2025\u2026\u3002\uff61\u00aa\u00ba"  # no decimal point before a number, and not the letters of "3º"
_UNSEEN = {
    0x34F,
    0x115F,
    0x1160,
    0x17B4,
    0x17B5,
    0x2065,
    0x3164,
    0xFFA0,
    *range(0x180B, 0x1810),
    *range(0xFE00, 0xFE10),
}
_READ = (range(0x20000), range(0xE0000, 0xE1000))  # beyond these nothing changes
_MARKS = "\u0300-\u036f\u0483-\u0487\u1ab0-\u1aff\u1dc0-\u1dff\u20d0-\u20ff\u3099\u309a\ufe00-\ufe0f\ufe20-\ufe2f"
_ESCAPE = (
    r"(?<!\\)\\(?:r\\n|[nrt]|u[0-9a-fA-F]{4})|"  # JSON
    r"&(?:#[0-9]{1,7}|#[xX][0-9a-fA-F]{1,6}|[a-zA-Z]{2,12});|"  # HTML
    r"%(?:0[9AaDd]|[2-7][0-9a-fA-F])"  # addresses of the web, and of mail in them
)
_BETWEEN_DIGITS = re.compile(r"(?<=\d)[\u30fc\u00b7\u30fb\u2022\u2027\u2219](?=\d)")
_APART = re.compile(
    r"(?<!\w)_+(?=\S)|(?<=[^\s_])_+(?!\w)|"  # _emphasis_
    "[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u2e80-\u2fdf\u3005-\u30ff\u3100-\u31ff\u3400-\u4dbf\u4e00-\u9fff"
    "\ua000-\ua4cf\uac00-\ud7af\uf900-\ufaff\U00020000-\U0003ffff]"
)
"""What parts numbers as blanks do: letters of scripts without blanks or with endings on numbers, marks of Markdown."""


class Plain(NamedTuple):
    """A copy of a text."""

    text: str
    starts: array[int] | None = None
    """For each character of the copy, where what it stands for begins in the text; None: at the same place."""
    ends: array[int] | None = None
    """Where that ends."""

    def span(self, start: int, end: int) -> tuple[int, int]:
        """Return the place in the text of a part of the copy that is not empty."""
        if self.starts is None or self.ends is None:
            return start, end
        return self.starts[start], self.ends[end - 1]


def plain_copies(text: str) -> list[Plain]:
    """Make the copies in which rules look.

    What does not show stands between the digits of a number, or between two numbers: there is a copy for each. Another
    copy leaves only those letters beside numbers that would be set apart from them.
    """
    copies = [_plain(text, parted=False)]
    if _table().doubtful.search(text):
        copies.append(_plain(text, parted=True))
    return copies + [copy._replace(text=_set_apart(copy.text)) for copy in copies if _APART.search(copy.text)]


def _set_apart(text: str) -> str:
    return _APART.sub(lambda part: OTHER * len(part[0]), text)


def matches(rules: Sequence[re.Pattern[str]], texts: Sequence[str]) -> bool:
    """Return whether a rule finds something in one of the texts, or in a plain copy of it."""
    return any(
        rule.search(form)
        for text in texts
        for form in {text, *(copy.text for copy in plain_copies(text))}
        for rule in rules
    )


class _Table(NamedTuple):
    changes: dict[int, str]
    """Character -> what it reads as."""
    parted: dict[int, str]
    """The same, where what does not show, and numbers that are signs, part what is beside them."""
    single: re.Pattern[str]
    """What is read anew: escapes, letters with marks, characters that read as one, and others."""
    doubtful: re.Pattern[str]
    """Characters that read as different things in the two tables."""


@lru_cache(maxsize=1)
def _table() -> _Table:
    changes: dict[int, str] = {}
    parted: dict[int, str] = {}
    for code in (code for part in _READ for code in part):
        letter = chr(code)
        reads = _reads(letter)
        if reads != letter:
            changes[code] = reads
        if not reads or (reads != letter and unicodedata.category(letter) == "No"):
            parted[code] = " "
    ones = _class([code for code, reads in changes.items() if len(reads) == 1])
    others = _class([code for code, reads in changes.items() if len(reads) != 1])
    single = re.compile(rf"{_ESCAPE}|\r\n|\w[{_MARKS}]+|({ones}+)|{others}")
    return _Table(changes, changes | parted, single, re.compile(_class(list(parted))))


def _reads(letter: str) -> str:
    """Return what a character reads as: itself, another, several or none."""
    category = unicodedata.category(letter)
    code = ord(letter)
    if letter in "\n " or letter in _KEPT:
        return letter
    if letter in _LINE_ENDS or letter == "\r":
        return "\n"
    if category == "Zs" or letter in "\t\x1f":
        return " "
    if category in ("Cf", "Cc") or code in _UNSEEN or 0xE0000 <= code <= 0xE0FFF:
        return ""
    if category == "Pd" or letter in _MINUS:
        return "-"
    if letter in _SLASHES:
        return "/"
    if category == "Nd":
        return str(unicodedata.decimal(letter))
    return "".join("/" if one in _SLASHES else one for one in unicodedata.normalize("NFKC", letter))


def _class(codes: list[int]) -> str:
    """Write characters as a class of a regular expression."""
    parts: list[list[int]] = []
    for code in sorted(codes):
        if parts and parts[-1][1] == code - 1:
            parts[-1][1] = code
        else:
            parts.append([code, code])
    return "[" + "".join(f"\\U{first:08x}-\\U{last:08x}" for first, last in parts) + "]"


def _plain(text: str, parted: bool) -> Plain:
    table = _table()
    changes = table.parted if parted else table.changes
    parts: list[str] = []
    starts, ends = array("L"), array("L")
    at = 0
    for match in table.single.finditer(text):
        start, end = match.span()
        parts.append(text[at:start])
        starts.extend(range(at, start))
        ends.extend(range(at + 1, start + 1))
        new = match[0].translate(changes) if match[1] else _read(match[0], changes)
        parts.append(new)
        if match[1]:
            starts.extend(range(start, end))
            ends.extend(range(start + 1, end + 1))
        else:
            starts.extend([start] * len(new))
            ends.extend([end] * len(new))
        at = end
    if not parts:
        return Plain(_BETWEEN_DIGITS.sub("-", text))
    parts.append(text[at:])
    starts.extend(range(at, len(text)))
    ends.extend(range(at + 1, len(text) + 1))
    return Plain(_BETWEEN_DIGITS.sub("-", "".join(parts)), starts, ends)


def _read(part: str, changes: dict[int, str]) -> str:
    """Return what an escape, a letter with marks or a single character reads as."""
    if part[0] in "&%" and len(part) > 1:
        return (html.unescape(part) if part[0] == "&" else unquote(part)).translate(changes)
    if part[0] == "\\":
        if part[1] == "u":
            letter = chr(int(part[2:], 16))
            return changes.get(ord(letter), letter)
        return " " if part[1] == "t" else "\n"
    if part == "\r\n":
        return "\n"
    if len(part) == 1:
        return changes[ord(part)]
    base = changes.get(ord(part[0]), part[0])
    if base.isdecimal() or not base:
        return base  # "1" in the box of a key cap
    return unicodedata.normalize("NFC", base + "".join(mark for mark in part[1:] if changes.get(ord(mark), mark)))
