"""Pack token sequences into rows of equal length and order the rows, without torch."""

from __future__ import annotations

import hashlib
from bisect import bisect_left, insort
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

IntArray = npt.NDArray[np.int64]
NO_TARGET = -100
ROWS_VERSION = 3
"""Part of the id of a run. Increase it when the rows of the same recipe or their order change."""
ROUNDS = 8  # of the Feistel network; four are enough for large pools, small ones need more
_WORD = (1 << 64) - 1


class Unit(NamedTuple):
    """A token sequence that is packed into one row without being split."""

    ids: list[int]
    """Token ids; the first one is context and never predicted."""
    first_target: int
    """Index of the first token that counts in the loss (at least 1)."""


@dataclass(frozen=True)
class Rows:
    """Packed rows of token sequences.

    Attributes:
        ids: (rows, context) token ids.
        targets: (rows, context) id to predict at each position, or NO_TARGET.
        segments: (rows, context) number of the unit, 0 for padding.
        positions: (rows, context) position within the unit.
    """

    ids: IntArray
    targets: IntArray
    segments: IntArray
    positions: IntArray

    def __len__(self) -> int:
        return len(self.ids)

    def at(self, index: slice | Sequence[int]) -> Rows:
        """Return some of the rows."""
        return Rows(*(array[index] for array in self.arrays()))

    def arrays(self) -> tuple[IntArray, IntArray, IntArray, IntArray]:
        """Return ids, targets, segments and positions."""
        return self.ids, self.targets, self.segments, self.positions


def cut(ids: list[int], context: int, first: int = 1) -> list[Unit]:
    """Split a long text into units that overlap by one token, so each token from `first` on is predicted once."""
    starts = range(0, len(ids) - 1, context - 1)
    return [Unit(ids[start : start + context], 1 if start else first) for start in starts]


def cut_items(
    starts: IntArray, lengths: IntArray, firsts: IntArray, context: int
) -> tuple[IntArray, IntArray, IntArray]:
    """Split items like `cut`, given by their places in an array of tokens.

    Returns:
        Starts and lengths of the units, and the first token of each that counts.
    """
    counts = np.maximum(0, -(-(lengths - 1) // (context - 1)))
    number = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
    shift = number * (context - 1)
    lengths = np.minimum(context, np.repeat(lengths, counts) - shift)
    return np.repeat(starts, counts) + shift, lengths, np.where(number == 0, np.repeat(firsts, counts), 1)


class Pool:
    """Units packed into rows. Tokens may be memory-mapped; rows are assembled on demand.

    Args:
        tokens: arrays of tokens, seen as one after the other; units may overlap, but each lies within one array.
        starts: place of each unit's first token.
        lengths: number of tokens in each unit.
        firsts: index of the first token of each unit that counts in the loss.
        context: tokens in a row.
        padding: id that fills the rest of a row.
        learned: for each array of tokens, which of them count in the loss after a unit's first one; None for all.

    Raises:
        ValueError: a unit is longer than the context.
    """

    def __init__(
        self,
        tokens: Sequence[npt.NDArray[Any]],
        starts: IntArray,
        lengths: IntArray,
        firsts: IntArray,
        context: int,
        padding: int,
        learned: Sequence[npt.NDArray[Any] | None] = (),
    ) -> None:
        self._tokens, self._starts, self._lengths, self._firsts = tuple(tokens), starts, lengths, firsts
        self._learned = tuple(learned) or (None,) * len(self._tokens)
        self._bounds = np.concatenate([[0], np.cumsum([len(part) for part in tokens])]).astype(np.int64)
        self._context, self._padding = context, padding
        self._members, self._ends = fill_rows(lengths, context)
        self.tokens = int(lengths.sum())

    def __len__(self) -> int:
        return len(self._ends) - 1

    def take(self, index: Iterable[int]) -> Rows:
        """Assemble the rows with the given indices, in their order."""
        chosen = list(index)
        shape = (len(chosen), self._context)
        rows = Rows(
            np.full(shape, self._padding, np.int64),
            np.full(shape, NO_TARGET, np.int64),
            np.zeros(shape, np.int64),
            np.zeros(shape, np.int64),
        )
        for row, number in enumerate(chosen):
            start = 0
            inside = self._members[self._ends[number] : self._ends[number + 1]]
            for segment, unit in enumerate(inside, start=1):
                ids, learned = self._ids(unit)
                end, first = start + len(ids), max(1, int(self._firsts[unit]))
                rows.ids[row, start:end] = ids
                rows.targets[row, start + first - 1 : end - 1] = (
                    ids[first:] if learned is None else np.where(learned[first:], ids[first:], NO_TARGET)
                )
                rows.segments[row, start:end] = segment
                rows.positions[row, start:end] = np.arange(len(ids))
                start = end
        return rows

    def _ids(self, unit: int) -> tuple[npt.NDArray[Any], npt.NDArray[Any] | None]:
        start = int(self._starts[unit])
        part = int(np.searchsorted(self._bounds, start, side="right")) - 1
        start -= int(self._bounds[part])
        inside, learned = slice(start, start + int(self._lengths[unit])), self._learned[part]
        return self._tokens[part][inside].astype(np.int64), None if learned is None else learned[inside]

    def units_in(self, row: int) -> IntArray:
        """Return the units of a row in their order; segment n of the row is the nth of them."""
        return self._members[self._ends[row] : self._ends[row + 1]]

    def all(self) -> Rows:
        """Assemble all rows."""
        return self.take(range(len(self)))


def fill_rows(lengths: IntArray, context: int) -> tuple[IntArray, IntArray]:
    """Fill rows by best fit, longest unit first, without splitting units.

    Units of one length are placed together, so the time grows linearly with the number of units.

    Returns:
        Units in row order, and the offset of each row's first unit (rows + 1 entries).

    Raises:
        ValueError: a unit is longer than the context.
    """
    if not len(lengths):
        return np.zeros(0, np.int64), np.zeros(1, np.int64)
    order = np.argsort(-lengths, kind="stable")
    if lengths[order[0]] > context:
        raise ValueError(f"a unit of {lengths[order[0]]} tokens does not fit into rows of {context}")
    row_of = np.empty(len(lengths), np.int64)
    free = _Free(context)
    sizes, counts = np.unique(lengths, return_counts=True)
    done = 0
    for length, count in zip(sizes[::-1].tolist(), counts[::-1].tolist(), strict=True):
        end = done + count
        while done < end:
            rows, each = free.take(max(length, 1), end - done)
            placed = min(end - done, len(rows) * each)
            row_of[order[done : done + placed]] = np.repeat(rows, each)[:placed]
            free.put(rows, each, placed, length)
            done += placed
    members = order[np.argsort(row_of[order], kind="stable")]
    ends = np.concatenate([[0], np.cumsum(np.bincount(row_of, minlength=free.rows))])
    return members.astype(np.int64), ends.astype(np.int64)


class _Free:
    """Rows with room left, grouped by how much."""

    def __init__(self, context: int) -> None:
        self.rows = 0
        self._context = context
        self._by_room: dict[int, list[IntArray]] = {}
        self._rooms: list[int] = []  # sorted
        self._taken = 0

    def take(self, length: int, units: int) -> tuple[IntArray, int]:
        """Take the fullest rows that units of a length fit into, and return how many fit into each."""
        place = bisect_left(self._rooms, length)
        self._taken = self._rooms[place] if place < len(self._rooms) else self._context
        each = self._taken // length
        wanted = -(-units // each)
        if place == len(self._rooms):
            rows = np.arange(self.rows, self.rows + wanted, dtype=np.int64)
            self.rows += wanted
            return rows, each
        del self._rooms[place]
        rows = np.concatenate(self._by_room.pop(self._taken))
        if len(rows) > wanted:
            self._add(self._taken, rows[wanted:])
        return rows[:wanted], each

    def put(self, rows: IntArray, each: int, placed: int, length: int) -> None:
        """Return rows after units were placed in them; the last one may hold fewer than the others."""
        full = placed // each
        self._add(self._taken - each * length, rows[:full])
        if full < len(rows):
            self._add(self._taken - (placed - full * each) * length, rows[full:])

    def _add(self, room: int, rows: IntArray) -> None:
        if not room or not len(rows):
            return
        if room not in self._by_room:
            insort(self._rooms, room)
        self._by_room.setdefault(room, []).append(rows)


def pack(units: Sequence[Unit], context: int, padding: int) -> Pool:
    """Pack units held in memory.

    Raises:
        ValueError: a unit is longer than the context.
    """
    tokens = np.array([token for unit in units for token in unit.ids], np.int32)
    lengths = np.array([len(unit.ids) for unit in units], np.int64)
    firsts = np.array([unit.first_target for unit in units], np.int64)
    return Pool([tokens], np.cumsum(lengths) - lengths, lengths, firsts, context, padding)


def shuffled(index: int, size: int, key: tuple[int, ...]) -> int:
    """Return the element at a place of a pseudo-random order of 0 to size - 1, without computing the whole order.

    A Feistel network permutes the smallest power of four that is large enough; numbers outside are permuted again until
    one is inside (Black and Rogaway, 2002, Ciphers with Arbitrary Finite Domains).

    Args:
        index: place in the order.
        size: number of elements.
        key: determines the order.
    """
    half = max(1, ((size - 1).bit_length() + 1) // 2)
    mask, keys = (1 << half) - 1, _round_keys(key)
    while True:
        left, right = index >> half, index & mask
        for round_key in keys:
            left, right = right, left ^ (_mixed(right + round_key) & mask)
        index = (left << half) | right
        if index < size:
            return index


@lru_cache(maxsize=256)
def _round_keys(key: tuple[int, ...]) -> tuple[int, ...]:
    digest = hashlib.blake2b(repr(key).encode(), digest_size=8 * ROUNDS).digest()
    return tuple(int.from_bytes(digest[8 * i : 8 * i + 8], "little") for i in range(ROUNDS))


def _mixed(value: int) -> int:
    """Mix the bits of a number (Steele et al., 2014, splitmix64)."""
    value = (value ^ (value >> 30)) * 0xBF58476D1CE4E5B9 & _WORD
    value = (value ^ (value >> 27)) * 0x94D049BB133111EB & _WORD
    return value ^ (value >> 31)


@dataclass(frozen=True)
class Mix:
    """Rows of documents, examples and control text, mixed in fixed shares.

    The rows of a step are a pure function of (seed, step). Each pool is reshuffled every epoch.

    Attributes:
        prose: rows of documents.
        examples: rows of conversations.
        share: share of examples among domain rows (0 or 1 if one pool is empty).
        rows_per_step: rows in a step.
        seed: seed of the order.
        control: rows of unrelated text, replayed against forgetting.
        control_share: share of control text among all rows.
    """

    prose: Pool
    examples: Pool
    share: float
    rows_per_step: int
    seed: int
    control: Pool | None = None
    control_share: float = 0.0

    def step(self, number: int) -> Rows:
        """Return the rows of a step, counted from 0."""
        chosen = [self._slot(slot) for slot in range(number * self.rows_per_step, (number + 1) * self.rows_per_step)]
        return Rows(
            np.concatenate([rows.ids for rows in chosen]),
            np.concatenate([rows.targets for rows in chosen]),
            np.concatenate([rows.segments for rows in chosen]),
            np.concatenate([rows.positions for rows in chosen]),
        )

    def _slot(self, slot: int) -> Rows:
        if self.control is not None:
            done, after = int(slot * self.control_share), int((slot + 1) * self.control_share)
            if after > done:
                return self._draw(self.control, 2, done)
            slot -= done
        before, after = int(slot * self.share), int((slot + 1) * self.share)
        if after > before:
            return self._draw(self.examples, 1, before)
        return self._draw(self.prose, 0, slot - before)

    def _draw(self, pool: Pool, kind: int, number: int) -> Rows:
        epoch, index = divmod(number, len(pool))
        return pool.take([shuffled(index, len(pool), (self.seed, kind, epoch))])

    def pools(self) -> list[tuple[Pool, float]]:
        """Return the pools in use and their shares of all rows."""
        domain = 1 - (self.control_share if self.control is not None else 0.0)
        parts = [(self.prose, domain * (1 - self.share)), (self.examples, domain * self.share)]
        if self.control is not None:
            parts.append((self.control, self.control_share))
        return [(pool, part) for pool, part in parts if len(pool) and part]

    def tokens_per_step(self) -> float:
        """Compute the mean number of tokens per step, without padding."""
        return float(sum(part * pool.tokens / len(pool) for pool, part in self.pools()) * self.rows_per_step)

    def tokens_per_epoch(self) -> float:
        """Compute the tokens until both domain pools have been seen at least once."""
        steps = [len(p) / (part * self.rows_per_step) for p, part in self.pools() if p is not self.control]
        return max(steps) * self.tokens_per_step()
