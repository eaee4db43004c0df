"""Validation during training: bits per byte of held-out text, computed in packed rows."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch

from sizewise.lm import loop
from sizewise.lm.execution import execution_of
from sizewise.lm.packing import NO_TARGET, Rows, Unit, cut, pack
from sizewise.lm.tokenizer import prefix_id, text_ids

VALIDATION_ROWS = 4


class Held(NamedTuple):
    """Held-out text, packed into rows in which each token is predicted once."""

    rows: Rows
    bytes: int
    """UTF-8 bytes of the predicted text."""

    @classmethod
    def of(cls, tokenizer: Any, units: Sequence[Unit], texts: Sequence[str], context: int) -> Held:
        """Pack encoded units. `texts` holds the part of each unit that is predicted."""
        rows = pack(units, context, tokenizer.pad_token_id).all()
        return cls(rows, sum(len(text.encode("utf-8")) for text in texts))

    @classmethod
    def of_texts(cls, tokenizer: Any, texts: Sequence[str], context: int) -> Held:
        """Encode and pack complete texts."""
        prefix = prefix_id(tokenizer)
        units = [unit for text in texts for unit in cut([prefix, *text_ids(tokenizer, text)], context)]
        return cls.of(tokenizer, units, texts, context)


@torch.no_grad()
def validation_bits(network: Any, held: Held) -> float:
    """Compute bits per byte of held-out text with a prepared network, in rows packed as in training."""
    nats = 0.0
    with _uncompiled_blocks(network):
        for start in range(0, len(held.rows), VALIDATION_ROWS):
            rows = Rows(*(array[start : start + VALIDATION_ROWS] for array in held.rows.arrays()))
            predicted = int((rows.targets != NO_TARGET).sum())
            nats += float(loop.loss_of(network, rows)) * predicted
    return nats / math.log(2) / held.bytes


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
