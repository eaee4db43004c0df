"""Passages in a file, read one at a time."""

from __future__ import annotations

import json
import mmap
import os
from collections.abc import Sequence
from pathlib import Path
from typing import overload

import numpy as np

from sizewise.retrieval.passages import Passage

PASSAGES, OFFSETS = "passages.jsonl", "offsets.npy"


class StoredPassages(Sequence[Passage]):
    """Passages in a file, read one at a time."""

    def __init__(self, folder: Path) -> None:
        self._offsets = np.load(folder / OFFSETS)
        with (folder / PASSAGES).open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            self._lines = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) if size else b""
        if not len(self._offsets) or self._offsets[-1] != size:
            raise ValueError("the file of passages is incomplete")

    def __len__(self) -> int:
        return len(self._offsets) - 1

    @overload
    def __getitem__(self, index: int) -> Passage: ...
    @overload
    def __getitem__(self, index: slice) -> list[Passage]: ...
    def __getitem__(self, index: int | slice) -> Passage | list[Passage]:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        if not 0 <= index < len(self):
            raise IndexError(index)
        return Passage(*json.loads(self._lines[self._offsets[index] : self._offsets[index + 1]]))
