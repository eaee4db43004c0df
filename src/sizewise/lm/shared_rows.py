"""Rows that hold sequences with a common beginning, and compute that beginning once.

The sequences of a row form a tree: each token sees its own sequence only, and tokens that several sequences begin with
are there once. The options of a question share its context this way, and questions share their few-shot examples.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch

from sizewise.lm.attention import additive_masks
from sizewise.lm.execution import execution_of

IntArray = npt.NDArray[np.int64]
MIN_SHARED = 8  # tokens; a shorter common beginning isn't worth an attention mask
MIN_SHARE = 0.25  # of the longer sequence
ROW_TOKENS, MAX_ROW_TOKENS = 1024, 4096  # attention within a row is quadratic
PLAIN_KINDS = ("attention", "full_attention", "sliding_attention")


class Row(NamedTuple):
    """Sequences that are computed together."""

    members: list[int]
    """Indices of the sequences."""
    ids: list[int]
    """Tokens of the row; what sequences share is there once."""
    positions: list[int]
    """Position of each token in its sequence."""
    places: list[IntArray]
    """Place in the row of each token of each member."""

    @property
    def branches(self) -> bool:
        """Whether the row holds several sequences, so that it needs a mask."""
        return len(self.members) > 1

    def with_places(self) -> Iterator[tuple[int, IntArray]]:
        """Yield each member with the places of its tokens."""
        yield from zip(self.members, self.places, strict=True)


def can_branch(network: Any) -> bool:
    """Check that all blocks are attention that takes our masks; blocks with a state, such as Mamba's, can't branch."""
    execution = execution_of(network)
    return execution.branches and not set(execution.layer_kinds) - set(PLAIN_KINDS)


def agreeing(one: Sequence[int], other: Sequence[int]) -> int:
    """Count the leading tokens that two sequences share."""
    return next((i for i, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))


def share_rows(sequences: Sequence[Sequence[int]]) -> list[Row]:
    """Group sequences into rows, so that what a row's sequences have in common is computed once.

    In sorted order, what a sequence shares with the row is what it shares with the sequence before it.

    Args:
        sequences: token ids, none empty.
    """
    rows: list[Row] = []
    before: Sequence[int] = ()
    for index in sorted(range(len(sequences)), key=lambda i: (sequences[i], i)):
        ids = sequences[index]
        shared = agreeing(before, ids) if rows else 0
        if not rows or not _joins(rows[-1], len(before), ids, shared):
            rows.append(Row([], [], [], []))
            shared = 0
        row = rows[-1]
        own = np.arange(len(row.ids), len(row.ids) + len(ids) - shared, dtype=np.int64)
        row.places.append(np.concatenate([row.places[-1][:shared], own]) if shared else own)
        row.members.append(index)
        row.ids.extend(ids[shared:])
        row.positions.extend(range(shared, len(ids)))
        before = ids
    return rows


def _joins(row: Row, before: int, ids: Sequence[int], shared: int) -> bool:
    """Decide whether a sequence joins a row that it shares tokens with."""
    if shared < max(MIN_SHARED, MIN_SHARE * max(before, len(ids))):
        return False
    limit = min(MAX_ROW_TOKENS, max(ROW_TOKENS, 2 * len(row.places[0])))
    return len(row.ids) + len(ids) - shared <= limit


def row_masks(network: Any, rows: Sequence[Row], length: int) -> torch.Tensor | dict[str, torch.Tensor]:
    """Build the attention masks of rows that are padded to a length: each token sees its sequence so far.

    Args:
        network: a causal language model.
        rows: rows of one batch.
        length: tokens per row, padding included.
    """
    allowed = np.zeros((len(rows), length, length), bool)
    distance = np.zeros((len(rows), length, length), np.int64)
    for number, row in enumerate(rows):
        filled = 0
        for places in row.places:
            first = int(np.searchsorted(places, filled))  # the tokens before it were there already
            own = places[first:]
            allowed[number, own[:, None], places[:first]] = True
            allowed[number, own[:, None], own] = own[:, None] >= own
            filled += len(own)
        positions = np.array(row.positions)
        distance[number, :filled, :filled] = positions[:, None] - positions
    device = network.device
    seen, apart = torch.from_numpy(allowed).to(device), torch.from_numpy(distance).to(device)
    return additive_masks(execution_of(network).text_config, seen, apart, network.dtype)
