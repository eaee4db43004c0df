"""Find edited copies: stretches of test text that training text holds with some words or characters changed.

Seed and extend, as in sequence search (Altschul et al., 1990, BLAST): sampled letter n-grams that both texts share vote
for a place in the training text, and the longest common subsequence of the stretch and that place decides, corrected
for chance. The result doesn't depend on how large the training text is, and the work is done on disk.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator
from contextlib import closing
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import IO, NamedTuple

import numpy as np
import numpy.typing as npt

from sizewise.datasets.spool import Spool, parts_of
from sizewise.text.ngrams import Hashes, seed_lengths, seeds

Letters = npt.NDArray[np.uint32]
Codes = npt.NDArray[np.uint16]
MIN_SIMILARITY = 0.8
"""Least share of a stretch's letters in the longest common subsequence with a place in the training text."""
MIN_ABOVE_CHANCE = 0.6
"""Least similarity above that of other places, as a share of the possible: text of a fixed form is alike anywhere."""
AROUND = (-8, -4, -2, 2, 4, 8)  # other places, in lengths of the stretch
STRETCH = 250  # letters
BLOCK = 50_000  # seeds whose places are looked up at once
MAX_PLACES = 20  # in training that one seed votes for
LETTERS_PER_VOTE, MAX_NEEDED = 75, 3  # a stretch of 150 letters needs two votes for a place, a longer one three
MAX_CANDIDATES = 8
MARGIN, MAX_SHIFT = 16, 40  # letters that insertions and deletions may shift a copy
PRECISION = 8
"""Letters to which the place of a seed is known."""
_PLACES = np.uint64((1 << 31) - 1)  # bits of a seed's place; the other 33 are of its hash
_POSITION_BITS = 16
_LAST_CODE = 0xFFFF  # stands for all letters beyond the basic plane
_SHIFT_BITS = np.uint64(36)
_STRETCHES = np.uint64((1 << 28) - 1)
# Votes are divided by the first bits of their stretch, so its number is mixed, by a factor that has an inverse.
_MIX = np.uint64(0x9E3779B)
_UNMIX = np.uint64(pow(0x9E3779B, -1, 1 << 28))


class Copy(NamedTuple):
    """A stretch of a test text that training text holds in an edited form."""

    part: int
    """Number of the test text, as passed to `Copies.look_for`."""
    item: int
    """Number of the training text, as returned by `Copies.add`."""


class Copies:
    """Training text on the one side and test text on the other, and the copies between them.

    Args:
        folder: Folder for working files.
        characters: Number of characters in the training text, about; it decides how long a seed is.
    """

    def __init__(self, folder: Path, characters: int) -> None:
        self._lengths = seed_lengths(characters)
        self._train, self._test = Spool(folder, "train-seeds", 1), Spool(folder, "test-seeds", 2)
        self._votes = Spool(folder, "votes", 1)
        self._letters, self._stretches = (folder / name for name in ("train-letters", "test-letters"))
        self._train_file, self._test_file = self._letters.open("wb"), self._stretches.open("wb")
        self._ends = array("q")
        self._starts, self._owners = array("q", [0]), array("q")

    def add(self, letters: Letters) -> int:
        """Add a training text and return its number."""
        begin = self._ends[-1] if self._ends else 0
        _write(letters, self._train_file)
        self._ends.append(begin + len(letters))
        places, hashes = seeds(letters, self._lengths)
        self._train.add(hashes & ~_PLACES | ((places + begin) // PRECISION).astype(np.uint64))
        return len(self._ends) - 1

    def look_for(self, letters: Letters, part: int) -> None:
        """Add a test text under a number."""
        count = -(-len(letters) // STRETCH)
        for stretch in np.array_split(letters, count) if count else ():
            number = np.uint64(len(self._owners))
            places, hashes = seeds(stretch, self._lengths)
            self._test.add(hashes & ~_PLACES, number << np.uint64(_POSITION_BITS) | places.astype(np.uint64))
            _write(stretch, self._test_file)
            self._starts.append(self._starts[-1] + len(stretch))
            self._owners.append(part)

    def found(self) -> Iterator[Copy]:
        """Yield the copies, at most one per stretch and training text."""
        self._train_file.close()
        self._test_file.close()
        if not self._ends or not self._ends[-1] or not self._owners:
            return
        self._vote()
        ends, starts = np.frombuffer(self._ends, np.int64), np.frombuffer(self._starts, np.int64)
        with closing(_CodeFile(self._letters)) as letters, closing(_CodeFile(self._stretches)) as stretches:
            for (votes,) in parts_of(self._votes):
                for number, first, last in _candidates(votes, starts):
                    stretch = stretches[int(starts[number]) : int(starts[number + 1])]
                    item = int(np.searchsorted(ends, (first + last + len(stretch)) // 2, "right"))
                    if item == len(ends):
                        continue
                    begin = max(int(ends[item - 1]) if item else 0, first - MARGIN)
                    end = min(int(ends[item]), last + len(stretch) + len(stretch) // 8 + MARGIN)
                    if begin < end and _is_copy(stretch, letters, begin, end):
                        yield Copy(self._owners[number], item)

    def _vote(self) -> None:
        """Collect (stretch, shift) of each seed that both sides have."""
        for train, test in parts_of(self._train, self._test):
            places = np.sort(train[:, 0])
            for start in range(0, len(test) if len(places) else 0, BLOCK):
                self._vote_for(places, *test[start : start + BLOCK].T)

    def _vote_for(self, places: Hashes, hashes: Hashes, origins: Hashes) -> None:
        """Vote for the places of some seeds.

        Args:
            places: Sorted hashes and places of the training text.
            hashes: Hashes of the seeds.
            origins: Stretch and position of each seed.
        """
        first, end = (np.searchsorted(places, bound) for bound in (hashes, hashes | _PLACES))
        counts = np.minimum(end - first, MAX_PLACES)
        rows = np.repeat(np.arange(len(hashes)), counts)
        nth = np.arange(len(rows)) - np.repeat(np.cumsum(counts) - counts, counts)
        numbers = origins[rows] >> np.uint64(_POSITION_BITS)
        inside = origins[rows] & np.uint64((1 << _POSITION_BITS) - 1)
        begins = (places[first[rows] + nth] & _PLACES) * np.uint64(PRECISION)
        shifts = begins + np.uint64(1 << _POSITION_BITS) - inside
        self._votes.add((numbers * _MIX & _STRETCHES) << _SHIFT_BITS | shifts // np.uint64(PRECISION))


def _candidates(votes: Hashes, starts: npt.NDArray[np.int64]) -> Iterator[tuple[int, int, int]]:
    """Yield (stretch, first shift, last shift) of the places with the most votes.

    Args:
        votes: (votes, 1) rows of the stretch, mixed, and the shift.
        starts: (stretches + 1,) offset of each stretch.
    """
    if not len(votes):
        return
    votes = np.sort(votes[:, 0])
    numbers = ((votes >> _SHIFT_BITS) * _UNMIX & _STRETCHES).astype(np.int64)
    shifts = (votes & ((np.uint64(1) << _SHIFT_BITS) - np.uint64(1))).astype(np.int64)
    shifts = shifts * PRECISION - (1 << _POSITION_BITS)
    new = np.flatnonzero((np.diff(numbers) != 0) | (np.diff(shifts) > MAX_SHIFT)) + 1
    firsts, ends = np.concatenate([[0], new]), np.concatenate([new, [len(votes)]])
    counts = ends - firsts
    lengths = np.diff(starts)[numbers[firsts]]
    kept = np.flatnonzero(counts >= np.clip(lengths // LETTERS_PER_VOTE, 1, MAX_NEEDED))
    kept = kept[np.lexsort((-counts[kept], numbers[firsts[kept]]))]
    previous, rank = -1, 0
    for cluster in kept.tolist():
        number = int(numbers[firsts[cluster]])
        rank = rank + 1 if number == previous else 0
        previous = number
        if rank < MAX_CANDIDATES:
            middle = int(shifts[(firsts[cluster] + ends[cluster]) // 2])
            first, last = int(shifts[firsts[cluster]]), int(shifts[ends[cluster] - 1])
            yield number, max(first, middle - MAX_SHIFT), min(last, middle + MAX_SHIFT)


class _CodeFile:
    """A file of codes that is read a stretch at a time, so that the system may forget the rest."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file = path.open("rb")
        self._size = path.stat().st_size // 2

    def __len__(self) -> int:
        return self._size

    def __getitem__(self, part: slice) -> Codes:
        self._file.seek(2 * part.start)
        return np.frombuffer(self._file.read(2 * (part.stop - part.start)), np.uint16)

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def _write(letters: Letters, file: IO[bytes]) -> None:
    """Write letters in two bytes each."""
    file.write(np.minimum(letters, _LAST_CODE).astype(np.uint16).tobytes())


def _is_copy(stretch: Codes, letters: _CodeFile, begin: int, end: int) -> bool:
    """Check whether a place of the training text holds the stretch, and clearly more of it than other places do."""
    similarity = common_letters(stretch, letters[begin:end]) / len(stretch)
    if similarity < MIN_SIMILARITY:
        return False
    places = [begin + steps * len(stretch) for steps in AROUND]
    others = [letters[place : place + end - begin] for place in places if 0 <= place <= len(letters) - (end - begin)]
    if not others or similarity == 1:
        return True
    chance = sum(common_letters(stretch, other) for other in others) / len(others) / len(stretch)
    return similarity - chance >= MIN_ABOVE_CHANCE * (1 - chance)


def common_letters(one: Codes, other: Codes) -> int:
    """Return the length of the longest common subsequence of two texts."""
    texts = [letters.astype("<u4").tobytes().decode("utf-32-le", "surrogatepass") for letters in (one, other)]
    if _has_rapidfuzz():
        from rapidfuzz.distance import LCSseq

        return LCSseq.similarity(*texts)
    return _common_subsequence(*texts)


@cache
def _has_rapidfuzz() -> bool:
    return find_spec("rapidfuzz") is not None


def _common_subsequence(one: str, other: str) -> int:
    """Compute the same with whole numbers as bit vectors (Hyyrö, 2004)."""
    places: dict[str, int] = {}
    for i, letter in enumerate(one):
        places[letter] = places.get(letter, 0) | 1 << i
    all_bits = (1 << len(one)) - 1
    row = all_bits
    for letter in other:
        matched = row & places.get(letter, 0)
        row = (row + matched | row - matched) & all_bits
    return len(one) - row.bit_count()
