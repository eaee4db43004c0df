"""Normalized copies of a text for pattern matching, with a mapping back to the original offsets.

The same value can be written in many ways: with no-break spaces, soft hyphens, invisible characters, other dashes,
full-width digits or digits of other scripts, or escaped as in JSON, HTML and URLs. Rules are written for one form and
match against a copy in that form (Unicode 16: NFKC, UAX #15; decimal digits, UAX #44; RFC 3986, section 2.1).
"""

from __future__ import annotations

import html
import re
import unicodedata
from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple
from urllib.parse import unquote

import numpy as np
import numpy.typing as npt

from sizewise.guard.places import Codes, Marks, codes_of, match_at

Offsets = npt.NDArray[np.int64]
SEPARATOR = "\0"  # replaces letters that numbers may touch without a space; not part of any value
_LINE_ENDS = "\x0b\x0c\x1c\x1d\x1e\x85\u2028\u2029"
_MINUS = "\u02d7\u2043\u2212\u2796"
_SLASHES = "\u2044\u2215\u29f8"
_KEPT = "\u2025\u2026\u3002\uff61\u00aa\u00ba"  # NFKC would turn these into periods, or into the letters of "3º"
_INVISIBLE = {
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
_CHANGING = (range(0x20000), range(0xE0000, 0xE1000))  # no other code points are changed
_MARKS = "\u0300-\u036f\u0483-\u0487\u1ab0-\u1aff\u1dc0-\u1dff\u20d0-\u20ff\u3099\u309a\ufe00-\ufe0f\ufe20-\ufe2f"
_ESCAPE = (
    r"(?<!\\)\\(?:r\\n|[nrt]|u[0-9a-fA-F]{4})|"  # JSON
    r"&(?:#[0-9]{1,7}|#[xX][0-9a-fA-F]{1,6}|[a-zA-Z]{2,12});|"  # HTML
    r"%(?:0[9AaDd]|[2-7][0-9a-fA-F])"  # URLs, and e-mail addresses in them
)
_ESCAPED_SIGN = re.compile(
    r"(?<!\\)\\u[0-9a-fA-F]{4}|&(?:#[0-9]{1,7}|#[xX][0-9a-fA-F]{1,6}|[a-zA-Z]{2,12});|%[2-7][0-9a-fA-F]"
)
_ASCII_REPLACED = re.compile(rf"{_ESCAPE}|\r\n|[\x00-\x09\x0b-\x1f\x7f]")
_BETWEEN_DIGITS = re.compile(r"(?<=\d)[\u30fc\u00b7\u30fb\u2022\u2027\u2219](?=\d)")
_UNDERSCORES = re.compile(r"(?<!\w)_+(?=\S)|(?<=[^\s_])_+(?!\w)")  # _emphasis_
_SCRIPTS = (
    "[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u2e80-\u2fdf\u3005-\u30ff\u3100-\u31ff\u3400-\u4dbf\u4e00-\u9fff"
    "\ua000-\ua4cf\uac00-\ud7af\uf900-\ufaff\U00020000-\U0003ffff]"
)
_SEPARATING = re.compile(f"{_UNDERSCORES.pattern}|{_SCRIPTS}")
"""Characters that separate numbers like spaces: scripts without spaces or with suffixes on numbers, and Markdown."""


class Plain(NamedTuple):
    """A normalized copy of a text."""

    text: str
    starts: Offsets | None = None
    """For each character of the copy, the start of its original in the text; None if offsets are equal."""
    ends: Offsets | None = None
    """The end of that original."""

    def span(self, start: int, end: int) -> tuple[int, int]:
        """Map a non-empty span of the copy to a span of the original text."""
        if self.starts is None or self.ends is None:
            return start, end
        return int(self.starts[start]), int(self.ends[end - 1])


def plain_copies(text: str) -> list[Plain]:
    """Create the copies that rules are matched against.

    An invisible character can occur within a number or between two numbers, so there is a copy for either reading. In
    a further copy of each, letters that can touch a number without a space are replaced by a separator.
    """
    copies = [_plain(text, separate=False)]
    if is_ambiguous(text):
        copies.append(_plain(text, separate=True))
    return copies + [copy._replace(text=_separated(copy.text)) for copy in copies if has_separating(copy.text)]


def _separated(text: str) -> str:
    return _SEPARATING.sub(lambda part: SEPARATOR * len(part[0]), text)


def is_ambiguous(text: str) -> bool:
    """Return whether an invisible character or an enclosed number gives a text a second reading."""
    return bool(_table().ambiguous[codes_of(text)].any())


def has_separating(text: str) -> bool:
    """Return whether a text has characters that separate numbers like spaces."""
    if "_" in text and _UNDERSCORES.search(text):
        return True
    return not text.isascii() and bool(_table().separators[codes_of(text)].any())


def may_have_readings(codes: Codes) -> Marks:
    """Return which characters may give a text a second reading, shape (characters,)."""
    marks: Marks = _table().ambiguous[codes] | _table().separators[codes] | (codes == ord("_"))
    return marks


def changed_codes() -> dict[int, str]:
    """Return the code points that a copy replaces, with their replacements."""
    return _table().changes


def escaped_signs(text: str, codes: Codes) -> list[int]:
    """Return the offsets of escaped digits and at signs, such as `&#64;`, in a text with these code points."""
    changes = _table().changes
    starts = np.flatnonzero((codes == ord("&")) | (codes == ord("%")) | (codes == ord("\\"))).tolist()
    return [
        match.start()
        for match in match_at(_ESCAPED_SIGN, text, starts)
        if any(letter == "@" or letter.isdecimal() for letter in _normalized(match[0], changes))
    ]


def matches(rules: Sequence[re.Pattern[str]], texts: Sequence[str]) -> bool:
    """Return whether a rule matches one of the texts or a normalized copy of it."""
    return any(
        rule.search(form)
        for text in texts
        for form in {text, *(copy.text for copy in plain_copies(text))}
        for rule in rules
    )


class _Table(NamedTuple):
    changes: dict[int, str]
    """Code point -> replacement."""
    separating: dict[int, str]
    """The same, except that invisible characters and enclosed or superscript numbers become spaces."""
    replaced: re.Pattern[str]
    """Matches what is replaced: escapes, letters with combining marks, and single characters."""
    begins: Marks
    """Whether a replaced part may begin with a code point, shape (code points,); a mark's begins before it."""
    marks: Marks
    """Whether a code point is a combining mark."""
    ambiguous: Marks
    """Whether the two tables replace a code point differently."""
    separators: Marks
    """Whether a code point separates numbers like a space."""


@lru_cache(maxsize=1)
def _table() -> _Table:
    changes: dict[int, str] = {}
    separating: dict[int, str] = {}
    for code in (code for part in _CHANGING for code in part):
        letter = chr(code)
        replacement = _replacement(letter)
        if replacement != letter:
            changes[code] = replacement
        if not replacement or (replacement != letter and unicodedata.category(letter) == "No"):
            separating[code] = " "
    ones = _class([code for code, replacement in changes.items() if len(replacement) == 1])
    others = _class([code for code, replacement in changes.items() if len(replacement) != 1])
    replaced = re.compile(rf"{_ESCAPE}|\r\n|\w[{_MARKS}]+|({ones}+)|{others}")
    begins = _marked([*changes, *map(ord, "\\&%\r")])
    letters = "".join(map(chr, range(0x40000)))
    marks, separators = (
        _marked([ord(found) for found in re.findall(rule, letters)]) for rule in (f"[{_MARKS}]", _SCRIPTS)
    )
    return _Table(changes, changes | separating, replaced, begins, marks, _marked(list(separating)), separators)


def _marked(codes: list[int]) -> Marks:
    marks = np.zeros(0x110000, np.bool_)
    marks[codes] = True
    return marks


def _replacement(letter: str) -> str:
    """Return the normal form of a character: itself, another character, several, or none."""
    category = unicodedata.category(letter)
    code = ord(letter)
    if letter in "\n " or letter in _KEPT:
        return letter
    if letter in _LINE_ENDS or letter == "\r":
        return "\n"
    if category == "Zs" or letter in "\t\x1f":
        return " "
    if category in ("Cf", "Cc") or code in _INVISIBLE or 0xE0000 <= code <= 0xE0FFF:
        return ""
    if category == "Pd" or letter in _MINUS:
        return "-"
    if letter in _SLASHES:
        return "/"
    if category == "Nd":
        return str(unicodedata.decimal(letter))
    return "".join("/" if part in _SLASHES else part for part in unicodedata.normalize("NFKC", letter))


def _class(codes: list[int]) -> str:
    """Format code points as a character class of a regular expression."""
    parts: list[list[int]] = []
    for code in sorted(codes):
        if parts and parts[-1][1] == code - 1:
            parts[-1][1] = code
        else:
            parts.append([code, code])
    return "[" + "".join(f"\\U{first:08x}-\\U{last:08x}" for first, last in parts) + "]"


def _plain(text: str, separate: bool) -> Plain:
    table = _table()
    changes = table.separating if separate else table.changes
    codes = codes_of(text)
    may_begin = table.begins[codes]
    if not text.isascii():
        may_begin[:-1] |= table.marks[codes[1:]]
    rule = _ASCII_REPLACED if text.isascii() else table.replaced
    parts: list[str] = []
    blocks: list[tuple[int, int, int]] = []  # start and end of a replaced part, and its new length or -1 if kept
    offset = 0
    for match in match_at(rule, text, np.flatnonzero(may_begin).tolist()):
        start, end = match.span()
        several = rule is table.replaced and match[1]
        new = match[0].translate(changes) if several else _normalized(match[0], changes)
        parts += [text[offset:start], new]
        blocks.append((start, end, -1 if several else len(new)))
        offset = end
    copy = "".join([*parts, text[offset:]])
    copy = copy if copy.isascii() else _BETWEEN_DIGITS.sub("-", copy)
    return Plain(copy, *_offsets(blocks, len(text))) if parts else Plain(copy)


def _offsets(blocks: list[tuple[int, int, int]], size: int) -> tuple[Offsets, Offsets]:
    """Return the start and the end of the original of each character of a copy.

    Args:
        blocks: start and end of each replaced part, and the length of its copy; -1: each character has its own.
        size: length of the text.
    """
    starts, ends, lengths = np.asarray(blocks, np.int64).T
    kept = lengths < 0
    bounds = np.stack([np.append(0, ends[:-1]), starts], 1)  # what stands before each part
    firsts = np.append(np.stack([bounds[:, 0], starts], 1).ravel(), ends[-1])
    lasts = np.append(np.stack([bounds[:, 0], np.where(kept, starts, ends - 1)], 1).ravel(), ends[-1])
    counts = np.append(
        np.stack([starts - bounds[:, 0], np.where(kept, ends - starts, lengths)], 1).ravel(), size - ends[-1]
    )
    own = np.append(np.stack([np.ones_like(kept), kept], 1).ravel(), True)
    first = np.repeat(np.cumsum(counts) - counts, counts)  # of the block that a character of the copy belongs to
    within = np.where(np.repeat(own, counts), np.arange(counts.sum()) - first, 0)
    return np.repeat(firsts, counts) + within, np.repeat(lasts, counts) + within + 1


def _normalized(part: str, changes: dict[int, str]) -> str:
    """Normalize an escape, a letter with combining marks, or a single character."""
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
        return base  # a keycap emoji is its digit
    return unicodedata.normalize("NFC", base + "".join(mark for mark in part[1:] if changes.get(ord(mark), mark)))
