"""Read text files line by line, of any size and in constant memory; compressed ones too."""

from __future__ import annotations

import gzip
import io
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, NamedTuple, cast

from sizewise.documents.decoding import (
    HEAD,
    MAX_FILE_BYTES,
    SAMPLE,
    Lines,
    Unreadable,
    check_binary,
    decode_line,
    guess_encoding,
    is_damaged,
    wide_encoding,
)

MAX_ROW_CHARACTERS = 10_000_000
MAX_LINE_BYTES = 4 * MAX_ROW_CHARACTERS
COMPRESSED = (".gz",)
MAX_EXPANSION = 200
"""How many times its size a compressed file may grow beyond the first 64 MB."""
_FREE_BYTES = 64 * 2**20
_CHUNK = 2**20


class Line(NamedTuple):
    """A line of a file."""

    number: int
    """The first line is 1."""
    text: str
    """The line with its line break."""
    problem: str = ""
    """Why it cannot be used; the text is then empty."""


class TextLines:
    """The lines of a text file; its encoding is determined when it is opened.

    Args:
        path: The file, which may be compressed with gzip.

    Raises:
        Unreadable: The file is binary, damaged or inaccessible, or its encoding is unclear.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.guess = ""
        """How the encoding was guessed, for a note."""
        self._legacy = self._fallback = ""
        with self._open() as file:
            head = file.read(HEAD)
        self._wide = wide_encoding(head, path.stat().st_size if path.suffix not in COMPRESSED else len(head))
        self.count = 0
        """Number of lines; 0 for UTF-16 and UTF-32, whose lines aren't counted."""
        self._mixed = False
        if self._wide is None:
            check_binary(head)
            self._find_encoding(head)
        self.head = next(self.chunks(), "") if self._wide else self._decode_head(head)

    def lines(self) -> Iterator[Line]:
        """Yield the lines; a line that is too long or in another encoding has a problem instead of a text."""
        if self._wide is not None:
            yield from self._wide_lines()
            return
        with self._open() as file:
            for number, raw, size in _raw_lines(file):
                if size > len(raw):
                    yield Line(number, "", f"a row of {size:,} bytes, longer than {MAX_LINE_BYTES:,}")
                    continue
                text = self._decode_line(raw)
                if text is None:
                    name = self._legacy or "UTF-8"
                    yield Line(number, "", f"it isn't {name}, in contrast to other rows (save the file as UTF-8)")
                else:
                    yield Line(number, text.removeprefix("\ufeff"))

    def chunks(self) -> Iterator[str]:
        """Yield the text in pieces of any size, for files whose rows aren't lines.

        Invalid bytes become unpaired surrogates, so that only the rows that hold them are rejected.

        Raises:
            Unreadable: The file isn't in its encoding, or a line of several encodings is too long.
        """
        if self._mixed:
            yield from self._mixed_lines()
            return
        encoding = self._wide or self._legacy or "utf-8"
        with self._open() as file:
            reader = io.TextIOWrapper(file, encoding, newline="")
            first = True
            try:
                while piece := reader.read(_CHUNK):
                    yield piece.removeprefix("\ufeff") if first else piece
                    first = False
            except UnicodeDecodeError as error:
                raise Unreadable(f"not {encoding.upper()}") from error
            finally:
                reader.detach()

    def whole(self) -> str:
        """Return the whole text.

        Raises:
            Unreadable: The file is too large to load into memory.
        """
        pieces: list[str] = []
        size = 0
        for piece in self.chunks():
            pieces.append(piece)
            size += len(piece)
            if size > MAX_FILE_BYTES:
                raise Unreadable(f"larger than {MAX_FILE_BYTES // 2**20} MB")
        return "".join(pieces)

    def _mixed_lines(self) -> Iterator[str]:
        with self._open() as file:
            for number, raw, size in _raw_lines(file):
                if size > len(raw):
                    raise Unreadable(f"not UTF-8, and line {number} is too long to find out why")
                text = self._decode_line(raw)
                text = raw.decode("utf-8", "surrogateescape") if text is None else text
                yield text.removeprefix("\ufeff") if number == 1 else text

    def _find_encoding(self, head: bytes) -> None:
        """Decode every line once, to know whether all of them, or only some, are in another encoding."""
        count = utf8 = other = damaged = 0
        sample = b""
        with self._open() as file:
            for _, raw, size in _raw_lines(file):
                count += 1
                if size > len(raw) or raw.isascii():
                    continue
                try:
                    raw.decode("utf-8")
                    utf8 += 1
                except UnicodeDecodeError:
                    if is_damaged(raw):
                        damaged += 1
                        continue
                    other += 1
                    sample += raw[: SAMPLE - len(sample)]
        self.count, self._mixed = count, bool(other or damaged)
        if not other:
            return
        lines = Lines(count, utf8, other, damaged, sample)
        if lines.legacy:
            if b"\x00" in head:
                raise Unreadable("binary")
            self._legacy = self.guess = guess_encoding(head, sample)
            self._mixed = False
            return
        try:
            self._fallback = guess_encoding(sample, sample)
            self.guess = f"UTF-8, {self._fallback} in {other:,} row{'s' * (other != 1)}"
        except Unreadable:
            self._fallback = ""

    def _decode_line(self, raw: bytes) -> str | None:
        if not self._legacy:
            return decode_line(raw, self._fallback)
        try:
            return raw.decode(self._legacy)
        except UnicodeDecodeError:
            return None

    def _decode_head(self, head: bytes) -> str:
        return head.decode(self._legacy or "utf-8", "replace").removeprefix("\ufeff")

    def _wide_lines(self) -> Iterator[Line]:
        with self._open() as file:
            reader = io.TextIOWrapper(file, self._wide, newline="\n")
            number = 0
            try:
                while text := reader.readline(MAX_ROW_CHARACTERS + 1):
                    number += 1
                    size = len(text)
                    while len(text) > MAX_ROW_CHARACTERS and not text.endswith("\n") and text:
                        text = reader.readline(MAX_ROW_CHARACTERS + 1)
                        size += len(text)
                    if size > MAX_ROW_CHARACTERS + 1:
                        yield Line(number, "", f"a row of {size:,} characters")
                    else:
                        yield Line(number, text.removeprefix("\ufeff"))
            except UnicodeDecodeError as error:
                raise Unreadable(f"not {str(self._wide).upper()}") from error
            finally:
                reader.detach()

    @contextmanager
    def _open(self) -> Iterator[BinaryIO]:
        try:
            with self.path.open("rb") as raw:
                if self.path.suffix.lower() in COMPRESSED:
                    limit = _FREE_BYTES + MAX_EXPANSION * self.path.stat().st_size
                    with gzip.open(raw) as inflated, io.BufferedReader(_Limited(inflated, limit), _CHUNK) as file:
                        yield cast("BinaryIO", file)
                else:
                    yield raw
        except OSError as error:
            damaged = isinstance(error, gzip.BadGzipFile)
            raise Unreadable("damaged (gzip)" if damaged else f"unreadable ({error.strerror or error})") from error
        except (EOFError, zlib.error) as error:
            raise Unreadable("damaged (gzip)") from error


class _Limited(io.RawIOBase):
    """Stops where a compressed file grows out of proportion."""

    def __init__(self, file: gzip.GzipFile, limit: int) -> None:
        self._file, self._left = file, limit

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        found = self._file.read(len(buffer))
        self._left -= len(found)
        if self._left < 0:
            raise Unreadable(f"expands to more than {MAX_EXPANSION} times its size")
        buffer[: len(found)] = found
        return len(found)


def _raw_lines(file: BinaryIO) -> Iterator[tuple[int, bytes, int]]:
    """Yield (number, line, size) of each line; a line that is too long is cut, and its rest is skipped."""
    number = 0
    while raw := file.readline(MAX_LINE_BYTES + 1):
        number += 1
        size = len(raw)
        if size > MAX_LINE_BYTES and not raw.endswith(b"\n"):
            raw = raw[:0]
            while more := file.readline(_CHUNK):
                size += len(more)
                if more.endswith(b"\n"):
                    break
        yield number, raw, size
