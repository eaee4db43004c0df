"""Cluster near-duplicates with MinHash and locality-sensitive hashing, without comparing all pairs.

Source: Broder (1997), On the resemblance and containment of documents; Leskovec, Rajaraman and Ullman, Mining of
Massive Datasets, chapter 3.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from sizewise.text.ngrams import Hashes, Words, letters_of, ngrams, shingles

PERMUTATIONS, BANDS = 128, 32
SIMILARITY = 0.5
"""Least Jaccard similarity of two items in a cluster, as estimated from the signatures (standard error 0.04)."""
WORD_SHINGLE, LETTER_SHINGLE = 5, 5
_BLOCK = 256
_random = np.random.default_rng(1997)
_FACTORS = _random.integers(1, 2**63, PERMUTATIONS, np.uint64) * np.uint64(2) + np.uint64(1)
_NONE = np.uint32(2**32 - 1)


class Signatures:
    """MinHash signatures of items, one row of 512 bytes each, in a file.

    Args:
        path: The file.
    """

    def __init__(self, path: Path) -> None:
        self._path, self._file = path, path.open("wb")
        self._count = 0
        self._hashed = np.empty((PERMUTATIONS, _BLOCK), np.uint64)  # reused: small enough for the cache

    def __len__(self) -> int:
        return self._count

    def add(self, shingles: Hashes) -> None:
        """Add an item by its shingles; an item without any is like no other."""
        row = np.full(PERMUTATIONS, 2**64 - 1, np.uint64)
        for start in range(0, len(shingles), _BLOCK):
            block = shingles[None, start : start + _BLOCK]
            hashed = np.multiply(block, _FACTORS[:, None], out=self._hashed[:, : block.shape[1]])
            np.minimum(row, hashed.min(axis=1), out=row)
        self._file.write((row >> np.uint64(32)).astype(np.uint32).tobytes())  # tofile doesn't notice a full disk
        self._count += 1

    def clusters(self, similarity: float = SIMILARITY) -> npt.NDArray[np.int64]:
        """Return for each item the number of the first item in its cluster.

        Items are linked if their estimated similarity is at least `similarity`; a cluster is what links connect.
        """
        self._file.close()
        first = np.arange(self._count)
        if self._count < 2:
            return first
        rows = np.memmap(self._path, np.uint32, "r", shape=(self._count, PERMUTATIONS))
        for one, other in _pairs(rows, similarity):
            a, b = _root(first, one), _root(first, other)
            first[max(a, b)] = min(a, b)
        return np.array([_root(first, item) for item in range(self._count)], np.int64)


def _pairs(rows: npt.NDArray[np.uint32], similarity: float) -> Iterator[tuple[int, int]]:
    """Yield pairs of similar items; each is compared with the first of those that share a band with it."""
    size = PERMUTATIONS // BANDS
    for band in range(BANDS):
        part = np.ascontiguousarray(rows[:, band * size : (band + 1) * size])
        keys = np.zeros(len(part), np.uint64)
        for column in part.T:
            keys = (keys ^ column) * _FACTORS[0]
        order = np.argsort(keys, kind="stable")
        same = keys[order[1:]] == keys[order[:-1]]
        leader = -1
        for place in np.flatnonzero(same).tolist():
            if leader < 0 or not same[place - 1]:
                leader = int(order[place])
                if (part[leader] == _NONE).all():
                    leader = -1
            item = int(order[place + 1])
            if leader >= 0 and (rows[leader] == rows[item]).mean() >= similarity:
                yield leader, item


def _root(first: npt.NDArray[np.int64], item: int) -> int:
    while first[item] != item:
        first[item] = first[first[item]]
        item = int(first[item])
    return item


def document_shingles(words: Words) -> Hashes:
    """Return the shingles of a document: runs of five words."""
    found = ngrams(words, WORD_SHINGLE).hashes
    return found if len(found) else words.hashes


def prompt_shingles(words: Words, left_out: npt.NDArray[np.bool_] | None = None) -> Hashes:
    """Return the shingles of a prompt, which may be short: runs of five letters, fewer in scripts without spaces.

    Args:
        words: Words of the prompt.
        left_out: Words of a template.
    """
    return shingles(letters_of(words, left_out), LETTER_SHINGLE)


def without_giants(first: Sequence[int] | npt.NDArray[np.int64], max_size: int) -> npt.NDArray[np.int64]:
    """Dissolve clusters with more items than `max_size`: what so many have in common is a template, not a copy."""
    numbers = np.asarray(first, np.int64)
    sizes = np.bincount(numbers, minlength=len(numbers)) if len(numbers) else numbers
    return np.where(sizes[numbers] > max_size, np.arange(len(numbers)), numbers)
