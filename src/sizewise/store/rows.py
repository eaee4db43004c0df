"""Rows of a JSON Lines file as a sequence: parsed when they are asked for, so that a file may exceed the memory."""

from __future__ import annotations

import contextlib
import json
import os
from array import array
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import IO, Any, Generic, TypeVar, overload

from pydantic_core import from_json

from sizewise.errors import SizewiseError
from sizewise.records import Record
from sizewise.store.files import cannot_write, open_private, whole_characters

R = TypeVar("R", bound=Record)


class RowFile(Sequence[R], Generic[R]):
    """Rows of a file, one JSON object per line; a row costs eight bytes of memory (its offset).

    Blank lines don't count. The file must not change while it is open for reading.

    Args:
        path: The file.
        row_type: Type of the rows.
        upgrade: Convert a row of an earlier schema, as parsed JSON, to the present one.
        new: Start an empty, private file to which rows are appended.
        size: Keep so many bytes of an existing file and append rows after them.

    Raises:
        SizewiseError: A row is missing or damaged.
    """

    def __init__(
        self,
        path: Path,
        row_type: type[R],
        upgrade: Callable[[Any], Any] | None = None,
        *,
        new: bool = False,
        size: int | None = None,
    ) -> None:
        self.path = path
        self._type, self._upgrade = row_type, upgrade
        self._offsets: array[int] | None = None
        self._end = 0
        self._writer: IO[bytes] | None = None
        self._reader: IO[bytes] | None = None
        if size is not None:
            os.truncate(path, size)
            self._starts()
            self._end = size
        elif new:
            self._offsets = array("q")
        if new or size is not None:
            mode = "wb" if size is None else "ab"
            self._writer = open(path, mode, opener=open_private)  # noqa: SIM115 - held until `close`

    def append(self, row: R) -> None:
        """Add a row to a file that was started with `new`."""
        assert self._writer is not None
        assert self._offsets is not None
        line = whole_characters(row.model_dump_json()).encode() + b"\n"
        self._write(line)
        self._offsets.append(self._end)
        self._end += len(line)

    def _write(self, line: bytes) -> None:
        assert self._writer is not None
        try:
            self._writer.write(line)
        except OSError as error:
            raise cannot_write(self.path, error) from error

    def flush(self) -> int:
        """Write what was appended to the disk and return the size of the file in bytes."""
        if self._writer is not None:
            try:
                self._writer.flush()
                os.fsync(self._writer.fileno())
            except OSError as error:
                raise cannot_write(self.path, error) from error
        return self._end

    def close(self) -> None:
        """Flush the rows that were appended and release the file."""
        for file in (self._writer, self._reader):
            if file is not None:
                file.close()
        self._writer = self._reader = None

    def __del__(self) -> None:
        with contextlib.suppress(OSError, AttributeError):
            self.close()

    def __len__(self) -> int:
        return len(self._starts())

    def __iter__(self) -> Iterator[R]:
        if self._writer is not None:
            self._writer.flush()
        with self.path.open("rb") as file:
            for line in file:
                if line.strip():
                    yield self._parse(line)

    def plain(self) -> Iterator[dict[str, Any]]:
        """Read rows as parsed JSON without checking their types, several times as fast as rows.

        Raises:
            SizewiseError: A line isn't a JSON object.
        """
        with self.path.open("rb") as file:
            for line in file:
                if line.strip():
                    try:
                        row = from_json(line) if self._upgrade is None else self._upgrade(json.loads(line))
                    except (ValueError, RecursionError) as error:
                        raise damaged(self.path, error) from error
                    if not isinstance(row, dict):
                        raise damaged(self.path, TypeError("a line is no JSON object"))
                    yield row

    @overload
    def __getitem__(self, index: int) -> R: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[R]: ...
    def __getitem__(self, index: int | slice) -> R | Sequence[R]:
        """Read one row, or a list of the rows of a slice."""
        starts = self._starts()
        if isinstance(index, slice):
            return [self._at(start) for start in starts[index]]
        return self._at(starts[index])

    def __add__(self, other: Sequence[R]) -> Sequence[R]:
        return Joined((self, other))

    def _at(self, start: int) -> R:
        if self._writer is not None:
            self._writer.flush()
        if self._reader is None:
            self._reader = self.path.open("rb")
        self._reader.seek(start)
        return self._parse(self._reader.readline())

    def _parse(self, line: bytes) -> R:
        try:
            if self._upgrade is None:
                return self._type.model_validate_json(line, extra="ignore")
            return self._type.model_validate(self._upgrade(json.loads(line)), extra="ignore")
        except (ValueError, RecursionError) as error:
            raise damaged(self.path, error) from error

    def _starts(self) -> array[int]:
        if self._offsets is None:
            offsets, start = array("q"), 0
            with self.path.open("rb") as file:
                for line in file:
                    if line.strip():
                        offsets.append(start)
                    start += len(line)
            self._offsets = offsets
        return self._offsets


def damaged(path: Path, error: Exception) -> SizewiseError:
    """Return the error of a file of rows that cannot be read."""
    return SizewiseError(
        f"{path} is missing or damaged: {str(error).splitlines()[0]}",
        "a file written by Sizewise",
        f"remove the folder {path.parent} and rerun the command that created it",
    )


class Joined(Sequence[R], Generic[R]):
    """Several sequences of rows, one after the other, without copying them."""

    def __init__(self, parts: Sequence[Sequence[R]]) -> None:
        self._parts = tuple(parts)

    def __len__(self) -> int:
        return sum(map(len, self._parts))

    def __iter__(self) -> Iterator[R]:
        for part in self._parts:
            yield from part

    @overload
    def __getitem__(self, index: int) -> R: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[R]: ...
    def __getitem__(self, index: int | slice) -> R | Sequence[R]:
        """Read one row, or a list of the rows of a slice."""
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        position = index + len(self) if index < 0 else index
        for part in self._parts:
            if position < len(part):
                return part[position]
            position -= len(part)
        raise IndexError(index)

    def __add__(self, other: Sequence[R]) -> Sequence[R]:
        return Joined((*self._parts, other))
