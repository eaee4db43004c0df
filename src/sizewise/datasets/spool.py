"""Arrays of hashes on disk, divided by hash, so that two of them are joined a part at a time in bounded memory."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from sizewise.text.ngrams import Hashes

PARTS = 256
MAX_PENDING = 4_000_000  # values held in memory before they are divided and written


class Spool:
    """Rows of 64-bit values, divided by their first column. Small ones never touch the disk.

    Args:
        folder: Folder for the files.
        name: Name of the files.
        width: Values in a row.
    """

    def __init__(self, folder: Path, name: str, width: int = 1) -> None:
        self._folder, self._name, self._width = folder, name, width
        self._pending: list[Hashes] = []
        self._count = 0
        self.spilled = False

    def add(self, *columns: Hashes) -> None:
        """Append rows, given as one array per column."""
        rows = np.stack(columns, axis=1)
        if len(rows):
            self._pending.append(rows)
            self._count += rows.size
            if self._count > MAX_PENDING:
                self._spill()

    def whole(self) -> Hashes:
        """Return all rows of a spool that wasn't spilled."""
        return np.concatenate(self._pending) if self._pending else np.zeros((0, self._width), np.uint64)

    def part(self, number: int) -> Hashes:
        """Read the rows whose first value begins with the bits of `number`."""
        if self._pending:
            self._spill()
        path = self._path(number)
        rows = np.fromfile(path, np.uint64) if path.exists() else np.zeros(0, np.uint64)
        return rows.reshape(-1, self._width)

    def _path(self, number: int) -> Path:
        return self._folder / f"{self._name}.{number:03}"

    def _spill(self) -> None:
        rows, self._pending, self._count, self.spilled = self.whole(), [], 0, True
        parts = (rows[:, 0] >> np.uint64(56)).astype(np.uint8)
        order = np.argsort(parts, kind="stable")
        ends = np.cumsum(np.bincount(parts, minlength=PARTS))
        for number, (start, end) in enumerate(zip([0, *ends[:-1]], ends, strict=True)):
            if end > start:
                with self._path(number).open("ab") as file:
                    file.write(rows[order[start:end]].tobytes())


def parts_of(*spools: Spool) -> Iterator[tuple[Hashes, ...]]:
    """Yield the parts of several spools side by side; equal first values are in the same part."""
    if not any(spool.spilled for spool in spools):
        yield tuple(spool.whole() for spool in spools)
        return
    for number in range(PARTS):
        yield tuple(spool.part(number) for spool in spools)


def repeated(spool: Spool, min_count: int) -> Hashes:
    """Return the first values that occur in at least `min_count` rows, sorted."""
    found = []
    for (rows,) in parts_of(spool):
        values, counts = np.unique(rows[:, 0], return_counts=True)
        found.append(values[counts >= min_count])
    return np.concatenate(found)


def shared(one: Spool, other: Spool) -> Hashes:
    """Return the first values that occur in both spools, sorted."""
    return np.concatenate([np.intersect1d(a[:, 0], b[:, 0]) for a, b in parts_of(one, other)])
