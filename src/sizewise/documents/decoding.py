"""Bytes of a file become text: UTF-8 and UTF-16 for certain, other encodings where only one is likely."""

from __future__ import annotations

import codecs
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

MAX_FILE_BYTES = 512 * 1024 * 1024
_MARKS = (
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
WESTERN = "cp1252"
GUESSED = (
    *(WESTERN, "cp1250", "cp1251", "cp1253", "cp1254", "cp1255", "cp1256", "cp1257", "cp874"),
    *("cp932", "cp949", "gb18030", "big5"),
)
_SAMPLE, _HEAD = 200_000, 65_536
# Letters that Western Europe writes; š, ž, ý, þ and ð of windows-1252 stand where Czech or Turkish is meant.
_WESTERN_LETTERS = frozenset("àâäáãåæçéèêëíìîïñóòôöõøœúùûüßÿ")
_WESTERN_SHARE = 0.3


class Unreadable(Exception):
    """A file that cannot be read; the message is its kind in the count of files not read."""


class Decoded(NamedTuple):
    """The text of a file."""

    text: str
    """Without a mark of the byte order."""
    guess: str = ""
    """The encoding, where it had to be guessed."""


def check_size(path: Path) -> None:
    """Refuse a file that is too large to be held in memory.

    Raises:
        Unreadable: it is, or it cannot be looked at.
    """
    try:
        if path.stat().st_size > MAX_FILE_BYTES:
            raise Unreadable(f"larger than {MAX_FILE_BYTES // 2**20} MB")
    except OSError as error:
        raise Unreadable(f"unreadable ({error.strerror})") from error


def decoded(path: Path) -> Decoded:
    """Read a text file.

    Raises:
        Unreadable: it is binary, too large, or in an encoding that cannot be told.
    """
    check_size(path)
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise Unreadable(f"unreadable ({error.strerror})") from error
    encoding = next((name for mark, name in _MARKS if raw.startswith(mark)), None) or _unmarked_utf16(raw)
    if encoding is None and b"\x00" in raw[:_HEAD]:
        raise Unreadable("binary")
    try:
        return Decoded(raw.decode(encoding or "utf-8-sig").removeprefix("\ufeff"))
    except UnicodeDecodeError as error:
        if encoding is not None:
            raise Unreadable(f"not {encoding.upper()}") from error
    guess = _guess(raw)
    return Decoded(raw.decode(guess), guess)


def _unmarked_utf16(raw: bytes) -> str | None:
    """Tell UTF-16 without a mark by its zero bytes: every second one, where the text is mostly Latin letters."""
    head = raw[:_HEAD]
    even, odd = head[::2].count(0), head[1::2].count(0)
    if len(raw) % 2 == 0 and max(even, odd) > 0.4 * len(head) / 2 and min(even, odd) == 0:
        return "utf-16-le" if odd > even else "utf-16-be"
    return None


def _guess(raw: bytes) -> str:
    """Guess an encoding of one or two bytes a letter; where several are as likely, none is taken.

    Raises:
        Unreadable: it cannot be told.
    """
    if find_spec("charset_normalizer") is None:
        raise Unreadable("not UTF-8")
    from charset_normalizer import from_bytes

    found: dict[str, str] = {}
    matches = list(from_bytes(raw[:_SAMPLE], cp_isolation=list(GUESSED)))
    for match in matches:
        if (match.chaos, match.coherence) == (matches[0].chaos, matches[0].coherence):
            names = [name for name in GUESSED if name in match.could_be_from_charset]
            found.setdefault(str(match), names[0] if names else match.encoding)
    names = list(found.values())
    if WESTERN in names and (len(names) == 1 or _looks_western(raw)):
        names = [WESTERN]
    if len(names) != 1:
        raise Unreadable(f"not UTF-8, but {' or '.join(names)}" if names else "not UTF-8")
    try:
        raw.decode(names[0])
    except UnicodeDecodeError as error:
        raise Unreadable("not UTF-8") from error
    return names[0]


def _looks_western(raw: bytes) -> bool:
    letters = [letter for letter in raw[:_SAMPLE].decode(WESTERN, "replace").lower() if letter.isalpha()]
    accented = [letter for letter in letters if letter > "\x7f"]
    return len(accented) <= _WESTERN_SHARE * len(letters) and _WESTERN_LETTERS.issuperset(accented)
