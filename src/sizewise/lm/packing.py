"""Pack token sequences into rows of equal length, and order the rows: pure functions, no torch."""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

IntArray = npt.NDArray[np.int64]
NO_TARGET = -100


class Unit(NamedTuple):
    """Token ids that stay together in a row."""

    ids: list[int]
    """Token ids; the first is context only."""
    first_target: int
    """Index of the first token that counts in the loss (at least 1)."""


@dataclass(frozen=True)
class Rows:
    """Packed rows.

    Attributes:
        ids: (rows, context) token ids.
        targets: (rows, context) id to predict at each place, or NO_TARGET.
        segments: (rows, context) number of the unit, 0 for padding.
        positions: (rows, context) place within the unit.
    """

    ids: IntArray
    targets: IntArray
    segments: IntArray
    positions: IntArray

    def __len__(self) -> int:
        return len(self.ids)

    def tokens(self, index: IntArray) -> int:
        """Count the tokens, padding left out, in some rows."""
        return int(np.count_nonzero(self.segments[index]))

    def take(self, index: IntArray) -> Rows:
        """Take some rows, in order of the index."""
        return Rows(self.ids[index], self.targets[index], self.segments[index], self.positions[index])


def cut(ids: list[int], context: int) -> list[Unit]:
    """Cut a long text into units that overlap by one token, so that each token but the first is predicted once."""
    if len(ids) < 2:
        return []
    return [Unit(ids[start : start + context], 1) for start in range(0, len(ids) - 1, context - 1)]


def pack(units: Sequence[Unit], context: int, padding: int) -> Rows:
    """Fill rows by best fit, longest unit first; no token is lost and no unit is cut.

    Raises:
        ValueError: a unit is longer than the context.
    """
    order = sorted(range(len(units)), key=lambda i: (-len(units[i].ids), i))
    free: list[tuple[int, int]] = []  # (room left, row), sorted
    members: list[list[int]] = []
    for i in order:
        need = len(units[i].ids)
        if need > context:
            raise ValueError(f"a unit of {need} tokens does not fit into rows of {context}")
        place = bisect_left(free, (need, -1))
        if place < len(free):
            room, row = free.pop(place)
        else:
            room, row = context, len(members)
            members.append([])
        members[row].append(i)
        if room > need:
            insort(free, (room - need, row))
    shape = (len(members), context)
    rows = Rows(
        np.full(shape, padding, np.int64),
        np.full(shape, NO_TARGET, np.int64),
        np.zeros(shape, np.int64),
        np.zeros(shape, np.int64),
    )
    for row, inside in enumerate(members):
        start = 0
        for number, i in enumerate(inside, start=1):
            unit = units[i]
            end = start + len(unit.ids)
            rows.ids[row, start:end] = unit.ids
            first = max(1, unit.first_target)
            rows.targets[row, start + first - 1 : end - 1] = unit.ids[first:]
            rows.segments[row, start:end] = number
            rows.positions[row, start:end] = np.arange(len(unit.ids))
            start = end
    return rows


@dataclass(frozen=True)
class Mix:
    """Rows of prose and rows of examples, drawn in a fixed share.

    Which rows a step takes is a pure function of (seed, step): each pool is shuffled anew in each epoch.

    Attributes:
        prose: rows of documents.
        examples: rows of conversations.
        share: share of the rows that are examples (0 or 1 where one pool is empty).
        rows_per_step: rows in a step.
        seed: seed of the order.
    """

    prose: Rows
    examples: Rows
    share: float
    rows_per_step: int
    seed: int

    def step(self, number: int) -> Rows:
        """Give the rows of a step, counted from 0."""
        chosen: list[Rows] = []
        for slot in range(number * self.rows_per_step, (number + 1) * self.rows_per_step):
            before, after = int(slot * self.share), int((slot + 1) * self.share)
            pool, place = (self.examples, before) if after > before else (self.prose, slot - before)
            epoch, index = divmod(place, len(pool))
            chosen.append(pool.take(self._order(pool is self.examples, epoch, len(pool))[index : index + 1]))
        return Rows(
            np.concatenate([rows.ids for rows in chosen]),
            np.concatenate([rows.targets for rows in chosen]),
            np.concatenate([rows.segments for rows in chosen]),
            np.concatenate([rows.positions for rows in chosen]),
        )

    def _order(self, of_examples: bool, epoch: int, size: int) -> IntArray:
        return np.random.default_rng([self.seed, int(of_examples), epoch]).permutation(size).astype(np.int64)

    def tokens_per_step(self) -> float:
        """Give the mean number of tokens, padding left out, in a step."""
        mean = 0.0
        for pool, part in ((self.prose, 1 - self.share), (self.examples, self.share)):
            if len(pool) and part:
                mean += part * np.count_nonzero(pool.segments) / len(pool)
        return float(mean * self.rows_per_step)

    def tokens_per_epoch(self) -> float:
        """Give the tokens until the larger of the two pools has been seen once."""
        steps = [
            len(pool) / (part * self.rows_per_step)
            for pool, part in ((self.prose, 1 - self.share), (self.examples, self.share))
            if len(pool) and part
        ]
        return max(steps) * self.tokens_per_step()
