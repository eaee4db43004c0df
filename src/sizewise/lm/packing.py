"""Pack token sequences into rows of equal length and order the rows, without torch."""

from __future__ import annotations

import contextlib
from array import array
from bisect import bisect_left, insort
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

IntArray = npt.NDArray[np.int64]
NO_TARGET = -100


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

    def arrays(self) -> tuple[IntArray, IntArray, IntArray, IntArray]:
        """Return ids, targets, segments and positions."""
        return self.ids, self.targets, self.segments, self.positions


def cut(ids: list[int], context: int) -> list[Unit]:
    """Split a long text into units that overlap by one token, so each token but the first is predicted once."""
    if len(ids) < 2:
        return []
    return [Unit(ids[start : start + context], 1) for start in range(0, len(ids) - 1, context - 1)]


class Pool:
    """Units packed into rows. Tokens may be memory-mapped; rows are assembled on demand.

    Args:
        tokens: tokens of all units, concatenated.
        lengths: number of tokens in each unit.
        firsts: index of the first token of each unit that counts in the loss.
        context: tokens in a row.
        padding: id that fills the rest of a row.

    Raises:
        ValueError: a unit is longer than the context.
    """

    def __init__(
        self, tokens: npt.NDArray[np.int32], lengths: IntArray, firsts: IntArray, context: int, padding: int
    ) -> None:
        self._tokens, self._lengths, self._firsts = tokens, lengths, firsts
        self._starts = np.concatenate([[0], np.cumsum(lengths)])
        self._context, self._padding = context, padding
        self._members, self._ends = _fill(lengths, context)
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
                ids = self._tokens[self._starts[unit] : self._starts[unit + 1]]
                end, first = start + len(ids), max(1, int(self._firsts[unit]))
                rows.ids[row, start:end] = ids
                rows.targets[row, start + first - 1 : end - 1] = ids[first:]
                rows.segments[row, start:end] = segment
                rows.positions[row, start:end] = np.arange(len(ids))
                start = end
        return rows

    def all(self) -> Rows:
        """Assemble all rows."""
        return self.take(range(len(self)))


def _fill(lengths: IntArray, context: int) -> tuple[IntArray, IntArray]:
    """Fill rows by best fit, longest unit first, without splitting units.

    Returns:
        Units in row order, and the offset of each row's first unit (rows + 1 entries).
    """
    order = np.argsort(-lengths, kind="stable")
    if len(order) and lengths[order[0]] > context:
        raise ValueError(f"a unit of {lengths[order[0]]} tokens does not fit into rows of {context}")
    free: list[tuple[int, int]] = []  # (room left, row), sorted
    row_of = np.empty(len(lengths), np.int64)
    rows = 0
    for unit in order.tolist():
        need = int(lengths[unit])
        place = bisect_left(free, (need, -1))
        if place < len(free):
            room, row = free.pop(place)
        else:
            room, row = context, rows
            rows += 1
        row_of[unit] = row
        if room > need:
            insort(free, (room - need, row))
    members = order[np.argsort(row_of[order], kind="stable")]
    ends = np.concatenate([[0], np.cumsum(np.bincount(row_of, minlength=rows))]) if rows else np.zeros(1)
    return members.astype(np.int64), ends.astype(np.int64)


def pack(units: Sequence[Unit], context: int, padding: int) -> Pool:
    """Pack units held in memory.

    Raises:
        ValueError: a unit is longer than the context.
    """
    tokens = np.array([token for unit in units for token in unit.ids], np.int32)
    lengths = np.array([len(unit.ids) for unit in units], np.int64)
    return Pool(tokens, lengths, np.array([unit.first_target for unit in units], np.int64), context, padding)


class TokenFile:
    """Units appended to a file, for training text larger than memory."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._path, self._file = path, path.open("wb")
        self._lengths, self._firsts = array("q"), array("q")

    def __enter__(self) -> TokenFile:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()

    def __len__(self) -> int:
        return len(self._lengths)

    def add(self, unit: Unit) -> None:
        """Append a unit."""
        np.array(unit.ids, np.int32).tofile(self._file)
        self._lengths.append(len(unit.ids))
        self._firsts.append(unit.first_target)

    def pool(self, context: int, padding: int) -> Pool:
        """Pack the written units. The file is memory-mapped."""
        self._file.close()
        lengths, firsts = (
            np.frombuffer(values, np.int64) if values else np.zeros(0, np.int64)
            for values in (self._lengths, self._firsts)
        )
        tokens: Any = np.memmap(self._path, np.int32, "r") if len(lengths) else np.zeros(0, np.int32)
        return Pool(tokens, lengths, firsts, context, padding)

    @staticmethod
    def remove(path: Path) -> None:
        """Delete a token file."""
        with contextlib.suppress(OSError):
            path.unlink()


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
        order = np.random.default_rng([self.seed, kind, epoch]).permutation(len(pool))
        return pool.take([int(order[index])])

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
