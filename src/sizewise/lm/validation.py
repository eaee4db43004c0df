"""Validation during training: bits per byte of held-out texts, computed in packed rows."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch

from sizewise.lm import loop
from sizewise.lm.distributed import ALONE, Workers
from sizewise.lm.execution import execution_of
from sizewise.lm.loss import token_nats
from sizewise.lm.packing import NO_TARGET, IntArray, Rows, Unit, cut, pack
from sizewise.lm.tokenizer import prefix_ids, text_ids

VALIDATION_ROWS = 4


class Held(NamedTuple):
    """Held-out texts, packed into rows in which each token is predicted once."""

    rows: Rows
    items: IntArray
    """(rows, context) index of the text whose token is predicted at each position."""
    sizes: tuple[int, ...]
    """UTF-8 bytes of the predicted part of each text."""

    @classmethod
    def of(
        cls, tokenizer: Any, units: Sequence[Unit], texts: Sequence[str], context: int, owners: Sequence[int] = ()
    ) -> Held:
        """Pack encoded units.

        Args:
            tokenizer: the model's tokenizer.
            units: the encoded units.
            texts: the part of each text that is predicted.
            context: tokens in a row.
            owners: index of the text that each unit belongs to; by default, each unit is a text.
        """
        pool = pack(units, context, tokenizer.pad_token_id)
        rows = pool.all()
        owner_of = np.array(list(owners) or range(len(units)), np.int64)
        items = np.zeros_like(rows.segments)
        for number in range(len(rows)):
            inside = np.concatenate([[0], owner_of[pool.units_in(number)]])
            items[number] = inside[rows.segments[number]]
        return cls(rows, items, tuple(len(text.encode("utf-8")) for text in texts))

    @classmethod
    def of_texts(cls, tokenizer: Any, texts: Sequence[str], context: int) -> Held:
        """Encode and pack complete texts."""
        prefix = prefix_ids(tokenizer)
        cuts = [cut(prefix + text_ids(tokenizer, text), context, len(prefix)) for text in texts]
        owners = [number for number, units in enumerate(cuts) for _ in units]
        return cls.of(tokenizer, [unit for units in cuts for unit in units], texts, context, owners)

    @property
    def bytes(self) -> int:
        """UTF-8 bytes of all predicted text."""
        return sum(self.sizes)


@torch.no_grad()
def validation_nats(network: Any, held: Held, workers: Workers = ALONE) -> npt.NDArray[np.float64]:
    """Compute the negative log-likelihood of each held-out text with a prepared network, (texts,) in nats.

    Args:
        network: a network from `loop.prepare`.
        held: the held-out texts.
        workers: processes that share the work.
    """
    nats = np.zeros(len(held.sizes))
    with _uncompiled_blocks(network):
        for number, counts in workers.turns(-(-len(held.rows) // VALIDATION_ROWS)):
            part = slice(number * VALIDATION_ROWS, (number + 1) * VALIDATION_ROWS)
            rows = held.rows.at(part)
            predicted = rows.targets != NO_TARGET
            found = workers.compute(partial(_nats_of, network, rows, predicted))
            if counts:
                np.add.at(nats, held.items[part][predicted], found.double().cpu().numpy())
    return workers.total(nats)


def _nats_of(network: Any, rows: Rows, predicted: npt.NDArray[np.bool_]) -> torch.Tensor:
    hidden = loop.hidden_of(network, rows)
    inside = hidden[torch.from_numpy(predicted).to(hidden.device)]
    targets = torch.from_numpy(rows.targets[predicted]).to(hidden.device)
    return token_nats(inside, execution_of(network).head, targets)


def validation_bits(network: Any, held: Held, workers: Workers = ALONE) -> float:
    """Compute bits per byte of held-out texts with a prepared network, in rows packed as in training."""
    return bits_per_byte(validation_nats(network, held, workers), held)


def bits_per_byte(nats: npt.NDArray[np.float64] | Sequence[float], held: Held) -> float:
    """Convert the nats of held-out texts to bits per byte."""
    return float(sum(nats)) / math.log(2) / held.bytes


@contextmanager
def _uncompiled_blocks(network: Any) -> Iterator[None]:
    """Run blocks uncompiled for a while; otherwise they would be compiled again just for the forward pass."""
    layers = list(execution_of(network).layers)
    compiled = [layer._compiled_call_impl for layer in layers]
    for layer in layers:
        layer._compiled_call_impl = None
    try:
        yield
    finally:
        for layer, implementation in zip(layers, compiled, strict=True):
            layer._compiled_call_impl = implementation
