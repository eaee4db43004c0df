"""Decode text files: UTF-8, UTF-16 and UTF-32 reliably, other encodings if the guess is unambiguous."""

from __future__ import annotations

import codecs
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

MAX_FILE_BYTES = 512 * 1024 * 1024
_BYTE_ORDER_MARKS = (
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
WESTERN = "cp1252"
CANDIDATES = (
    *(WESTERN, "cp1250", "cp1251", "cp1253", "cp1254", "cp1255", "cp1256", "cp1257", "cp874"),
    *("cp932", "cp949", "gb18030", "big5"),
)
_SAMPLE, _HEAD = 200_000, 65_536
# Accented letters of Western Europe. The š, ž, ý, þ and ð of windows-1252 indicate that Czech or Turkish was meant.
_WESTERN_LETTERS = frozenset("àâäáãåæçéèêëíìîïñóòôöõøœúùûüßÿ")
_MAX_ACCENTED_SHARE = 0.3


class Unreadable(Exception):
    """A file that cannot be read; files are counted by this message."""


class Decoded(NamedTuple):
    """The decoded text of a file."""

    text: str
    """Text without a byte order mark."""
    guess: str = ""
    """The encoding, if it was guessed."""


def check_size(path: Path) -> None:
    """Check that a file is small enough to load into memory.

    Raises:
        Unreadable: The file is too large or inaccessible.
    """
    try:
        if path.stat().st_size > MAX_FILE_BYTES:
            raise Unreadable(f"larger than {MAX_FILE_BYTES // 2**20} MB")
    except OSError as error:
        raise Unreadable(f"unreadable ({error.strerror})") from error


def decode_file(path: Path) -> Decoded:
    """Read a text file.

    Raises:
        Unreadable: The file is binary, too large, or its encoding is unclear.
    """
    check_size(path)
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise Unreadable(f"unreadable ({error.strerror})") from error
    encoding = next((name for mark, name in _BYTE_ORDER_MARKS if raw.startswith(mark)), None) or _unmarked_utf16(raw)
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
    """Detect UTF-16 without a byte order mark: in mostly Latin text, every second byte is zero."""
    head = raw[:_HEAD]
    even, odd = head[::2].count(0), head[1::2].count(0)
    if len(raw) % 2 == 0 and max(even, odd) > 0.4 * len(head) / 2 and min(even, odd) == 0:
        return "utf-16-le" if odd > even else "utf-16-be"
    return None


def _guess(raw: bytes) -> str:
    """Guess a legacy encoding; ties between several encodings aren't broken.

    Raises:
        Unreadable: The encoding is unclear.
    """
    if find_spec("charset_normalizer") is None:
        raise Unreadable("not UTF-8")
    from charset_normalizer import from_bytes

    encodings: dict[str, str] = {}  # decoded text -> encoding
    matches = list(from_bytes(raw[:_SAMPLE], cp_isolation=list(CANDIDATES)))
    for match in matches:
        if (match.chaos, match.coherence) == (matches[0].chaos, matches[0].coherence):
            names = [name for name in CANDIDATES if name in match.could_be_from_charset]
            encodings.setdefault(str(match), names[0] if names else match.encoding)
    names = list(encodings.values())
    if WESTERN in names and (len(names) == 1 or _looks_western(raw)):
        names = [WESTERN]
    if len(names) != 1:
        raise Unreadable(f"not UTF-8 (could be {' or '.join(names)})" if names else "not UTF-8")
    try:
        raw.decode(names[0])
    except UnicodeDecodeError as error:
        raise Unreadable("not UTF-8") from error
    return names[0]


def _looks_western(raw: bytes) -> bool:
    letters = [letter for letter in raw[:_SAMPLE].decode(WESTERN, "replace").lower() if letter.isalpha()]
    accented = [letter for letter in letters if letter > "\x7f"]
    return len(accented) <= _MAX_ACCENTED_SHARE * len(letters) and _WESTERN_LETTERS.issuperset(accented)
