"""Decode text files: UTF-8, UTF-16 and UTF-32 reliably, other encodings if the guess is unambiguous."""

from __future__ import annotations

import codecs
import contextlib
from pathlib import Path
from typing import NamedTuple

from sizewise.documents.east_asian import east_asian_encoding
from sizewise.documents.single_byte import languages, plausible
from sizewise.text import detect_language

MAX_FILE_BYTES = 512 * 1024 * 1024
_BYTE_ORDER_MARKS = (
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
WESTERN = "cp1252"
_ISO_2022_JP = (b"\x1b$B", b"\x1b$@")
SAMPLE = 200_000
HEAD = 65_536
MAX_NUL_SHARE = 0.5  # of the lines at the beginning
MAX_DAMAGED_SHARE = 0.05  # of a text's lines, whose bytes become U+FFFD
MIN_LEGACY_SHARE = 0.9  # of the lines with other letters than ASCII
# Accented letters of Western Europe. The š, ž, ý, þ and ð of windows-1252 indicate that Czech or Turkish was meant, and
# õ and û Hungarian.
_WESTERN_LETTERS = frozenset("àâäáãåæçéèêëíìîïñóòôöøœúùüßÿ")
_MAX_ACCENTED_SHARE = 0.3


AS_UTF_8 = "save FILE as UTF-8 (in Excel: CSV UTF-8), and run the same command again"


class Unreadable(Exception):
    """A file that cannot be read; files are counted by this message.

    Args:
        reason: The reason.
        command: The command that reads the file, with FILE for its path; empty if there is none.
    """

    def __init__(self, reason: str, command: str = "") -> None:
        super().__init__(reason)
        self.command = command


class Decoded(NamedTuple):
    """The decoded text of a file."""

    text: str
    """Text without a byte order mark."""
    guess: str = ""
    """The encoding, if it was guessed."""


class Lines(NamedTuple):
    """What the lines of a file say about its encoding."""

    total: int
    utf8: int
    """Lines with other characters than ASCII that are valid UTF-8."""
    other: int
    """Lines in another encoding."""
    damaged: int
    """Lines in UTF-8 with invalid bytes."""
    sample: bytes
    """Some of the lines in another encoding."""

    @property
    def legacy(self) -> bool:
        """Whether the whole file is in another encoding, rather than a few of its lines."""
        return bool(self.other) and self.other >= MIN_LEGACY_SHARE * (self.other + self.utf8 + self.damaged)


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

    A line in another encoding than the rest is decoded by itself; if its encoding is unclear, U+FFFD replaces bytes.

    Raises:
        Unreadable: The file is binary, too large, or its encoding is unclear.
    """
    check_size(path)
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise Unreadable(f"unreadable ({error.strerror})") from error
    return decode(raw)


def decode(raw: bytes) -> Decoded:
    """Decode the bytes of a text file, as `decode_file` does.

    Raises:
        Unreadable: The bytes are binary, or their encoding is unclear.
    """
    wide = wide_encoding(raw[:HEAD], len(raw))
    try:
        text = raw.decode(wide or "utf-8-sig")
    except UnicodeDecodeError as error:
        if wide is not None:
            raise Unreadable(f"not {wide.upper()}") from error
        if b"\x00" in raw[:HEAD]:
            raise Unreadable("binary") from error
    else:
        check_binary(raw[:HEAD] if wide is None else b"")
        if any(mark in raw[:HEAD] for mark in _ISO_2022_JP) and raw.isascii():
            with contextlib.suppress(UnicodeDecodeError):
                return Decoded(raw.decode("iso2022_jp"), "iso2022_jp")
        return Decoded(text.removeprefix("\ufeff"))
    lines = raw.split(b"\n")
    found = tally_lines(lines)
    if found.legacy:
        guess = guess_encoding(raw, found.sample)
        try:
            return Decoded(raw.decode(guess), guess)
        except UnicodeDecodeError as error:
            raise Unreadable("not UTF-8") from error
    return _decode_mixed(lines, found)


def _decode_mixed(lines: list[bytes], found: Lines) -> Decoded:
    guess, unclear, damaged = "", "not UTF-8", found.damaged
    if found.other:
        try:
            guess = guess_encoding(found.sample, found.sample)
        except Unreadable as error:
            unclear, damaged = str(error), found.damaged + found.other
    if damaged > MAX_DAMAGED_SHARE * found.total:
        raise Unreadable(f"{unclear} in {damaged:,} of {found.total:,} lines")
    text = "\n".join(decode_line(line, guess) or line.decode("utf-8", "replace") for line in lines)
    described = [f"{guess} in {found.other:,} line{'s' * (found.other != 1)}"] if guess else []
    if damaged:
        described.append(f"with U+FFFD for invalid bytes in {damaged:,} line{'s' * (damaged != 1)}")
    return Decoded(text.removeprefix("\ufeff"), f"UTF-8, {' and '.join(described)}")


def decode_line(line: bytes, fallback: str) -> str | None:
    """Decode a line as UTF-8, or else in another encoding; None if it is in neither, or damaged UTF-8."""
    try:
        return line.decode("utf-8")
    except UnicodeDecodeError:
        pass
    try:
        return line.decode(fallback) if fallback and not is_damaged(line) else None
    except UnicodeDecodeError:
        return None


def is_damaged(line: bytes) -> bool:
    """Check whether a line that isn't UTF-8 mostly consists of UTF-8, so that it isn't in another encoding."""
    kept = line.decode("utf-8", "ignore")
    others = len(line) - len(line.decode("ascii", "ignore"))
    return len(kept.encode()) - len(kept.encode("ascii", "ignore")) > others / 2


def check_binary(head: bytes) -> None:
    """Check that most lines at the beginning of a file have no NUL bytes; a few may be damaged.

    Raises:
        Unreadable: It is.
    """
    lines = head.split(b"\n")
    if sum(b"\x00" in line for line in lines) > MAX_NUL_SHARE * len(lines):
        raise Unreadable("binary")


def tally_lines(lines: list[bytes]) -> Lines:
    """Count the lines that are UTF-8 and those that aren't."""
    utf8, damaged = 0, 0
    others = []
    for line in lines:
        if line.isascii():
            continue
        try:
            line.decode("utf-8")
            utf8 += 1
        except UnicodeDecodeError:
            if is_damaged(line):
                damaged += 1
            else:
                others.append(line)
    return Lines(len(lines), utf8, len(others), damaged, b"\n".join(others)[:SAMPLE])


def wide_encoding(head: bytes, size: int) -> str | None:
    """Detect UTF-16 and UTF-32 by their byte order mark; in mostly Latin UTF-16, every second byte is zero."""
    marked = next((name for mark, name in _BYTE_ORDER_MARKS if head.startswith(mark)), None)
    if marked:
        return marked
    even, odd = head[::2].count(0), head[1::2].count(0)
    if size % 2 == 0 and max(even, odd) > 0.4 * len(head) / 2 and min(even, odd) == 0:
        return "utf-16-le" if odd > even else "utf-16-be"
    return None


def guess_encoding(raw: bytes, other: bytes) -> str:
    """Guess a legacy encoding; ties between several encodings aren't broken.

    Args:
        raw: The file, or its beginning.
        other: Lines that aren't UTF-8, for a file that begins with ASCII only.

    Raises:
        Unreadable: The encoding is unclear.
    """
    sample = raw[:SAMPLE]
    sample = other if sample.isascii() else sample
    east_asian = east_asian_encoding(sample)
    if east_asian:
        return east_asian
    found = plausible(sample)
    if len(found) > 1:
        by_language = {
            text: name
            for text, name in found.items()
            if (language := detect_language(text)) and language in languages(text)
        }
        western = {text: name for text, name in found.items() if name == WESTERN and _looks_western(sample)}
        found = by_language or western or found
    names = list(found.values())
    if len(names) != 1:
        raise Unreadable(f"not UTF-8 (could be {' or '.join(names)})" if names else "not UTF-8", AS_UTF_8)
    return names[0]


def _looks_western(raw: bytes) -> bool:
    letters = [letter for letter in raw[:SAMPLE].decode(WESTERN, "replace").lower() if letter.isalpha()]
    accented = [letter for letter in letters if letter > "\x7f"]
    return len(accented) <= _MAX_ACCENTED_SHARE * len(letters) and _WESTERN_LETTERS.issuperset(accented)
