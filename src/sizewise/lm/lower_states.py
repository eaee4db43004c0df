"""States of the blocks below the adapted ones: they don't change in training, so they are computed once for each text.

Every pass over the texts then costs the upper blocks alone, forward and backward.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch

from sizewise.lm.adapt import base_of
from sizewise.lm.execution import execution_of
from sizewise.lm.packing import NO_TARGET, Rows

MAX_BYTES = 1 << 30
"""Memory for states; those of texts beyond it are computed again in each step."""
TOLERANCE = {torch.float32: 1e-4, torch.bfloat16: 3e-2, torch.float16: 1e-2}
"""Maximum difference of last states as a share of the largest value, from those of an undivided pass."""
CHECKED_TOKENS = 24


class _Reached(Exception):
    """The lower blocks are done, and the others needn't run."""


class Span(NamedTuple):
    """Place of a text in packed rows."""

    key: bytes
    """The text's token ids."""
    row: int
    start: int
    end: int


class LowerStates:
    """Runs the blocks from `first` on, with remembered states of those below.

    A text's states are always computed in the same row, wherever a run was interrupted, so that a resumed run is
    bit-identical.

    Args:
        network: a network from `loop.prepare`, with or without adapters.
        first: number of the first block that training changes, at least 1.
        max_bytes: memory for states.
    """

    def __init__(self, network: Any, first: int, max_bytes: int = MAX_BYTES) -> None:
        self._network, self._execution = base_of(network), execution_of(network)
        self._below, self._first = self._execution.layers[:first], self._execution.layers[first]
        self._room = max_bytes
        self._homes: dict[bytes, int] = {}
        self._batches: list[Rows] = []
        self._states: dict[bytes, torch.Tensor] = {}
        self._wrapped = False  # whether blocks return a tuple

    def remember(self, batches: Sequence[Rows]) -> None:
        """Name rows whose texts' states are to be kept, as far as memory allows; they are computed when needed."""
        width, size = self._execution.text_config.hidden_size, self._network.dtype.itemsize
        for rows in batches:
            spans = [span for span in spans_of(rows) if span.key not in self._homes]
            needed = sum(span.end - span.start for span in spans) * width * size
            if needed > self._room:
                return
            self._room -= needed
            self._homes.update((span.key, len(self._batches)) for span in spans)
            self._batches.append(rows)

    def row_states(self, rows: Rows) -> torch.Tensor:
        """Compute the last hidden states of packed rows, (rows, tokens, width)."""
        return self._above(rows, self.states(rows))

    @torch.no_grad()
    def states(self, rows: Rows) -> torch.Tensor:
        """Return what the lower blocks make of packed rows, (rows, tokens, width)."""
        spans = list(spans_of(rows))
        for span in spans:
            if span.key in self._homes and span.key not in self._states:
                self._fill(self._homes[span.key])
        if all(span.key in self._states for span in spans):
            embedding = self._network.get_input_embeddings().weight
            width = self._execution.text_config.hidden_size
            found = torch.zeros((*rows.ids.shape, width), dtype=self._network.dtype, device=embedding.device)
        else:
            found = self._reached(rows)
        for span in spans:
            if span.key in self._states:
                found[span.row, span.start : span.end] = self._states[span.key]
        return found

    def agrees(self) -> bool:
        """Check that the divided network computes what the whole one does, on two texts in a row."""
        vocabulary = self._execution.text_config.vocab_size
        ids = np.arange(CHECKED_TOKENS, dtype=np.int64)[None] * 37 % vocabulary
        half = CHECKED_TOKENS // 2
        segments = np.repeat([1, 2], half)[None]
        positions = np.tile(np.arange(half), 2)[None]
        rows = Rows(ids, np.full_like(ids, NO_TARGET), segments, positions)
        if self._execution.rows == "separate":
            return False
        with torch.no_grad():
            whole = self._execution.row_states(rows, self._execution.decoded).float()
            try:
                divided = self._above(rows, self._reached(rows)).float()
            except (RuntimeError, TypeError, ValueError, IndexError):  # blocks that take more than hidden states
                return False
        limit = TOLERANCE.get(self._network.dtype, 1e-2) * float(whole.abs().max())
        return whole.shape == divided.shape and float((whole - divided).abs().max()) <= limit

    def _fill(self, number: int) -> None:
        """Compute and keep the states of one of the remembered batches."""
        rows = self._batches[number]
        found = self._reached(rows)
        for span in spans_of(rows):
            if self._homes.get(span.key) == number and span.key not in self._states:
                self._states[span.key] = found[span.row, span.start : span.end].clone()

    @torch.no_grad()
    def _reached(self, rows: Rows) -> torch.Tensor:
        """Run the lower blocks alone, without dropout."""
        reached: list[torch.Tensor] = []

        def catch(_block: Any, inputs: tuple[Any, ...], named: dict[str, Any]) -> None:
            reached.append(inputs[0] if inputs else named["hidden_states"])
            raise _Reached

        def look(_block: Any, _inputs: Any, output: Any) -> None:
            self._wrapped = isinstance(output, tuple)

        hooks = [
            self._first.register_forward_pre_hook(catch, with_kwargs=True),
            self._below[-1].register_forward_hook(look),
        ]
        was_training = self._network.training
        self._network.eval()
        try:
            self._execution.row_states(rows, self._execution.decoded)
        except _Reached:
            return reached[0].detach()
        finally:
            for hook in hooks:
                hook.remove()
            self._network.train(was_training)
        raise ValueError("the block was never reached")

    def _above(self, rows: Rows, states: torch.Tensor) -> torch.Tensor:
        """Run the upper blocks alone on the states that the lower ones made."""

        def passed(hidden_states: torch.Tensor, *_inputs: Any, **_named: Any) -> Any:
            return (hidden_states,) if self._wrapped else hidden_states

        def replace(_block: Any, inputs: tuple[Any, ...], named: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
            return ((states, *inputs[1:]), named) if inputs else (inputs, {**named, "hidden_states": states})

        hook = self._first.register_forward_pre_hook(replace, with_kwargs=True)
        before = [_replace_forward(block, passed) for block in self._below]
        try:
            return self._execution.row_states(rows, self._execution.decoded)
        finally:
            hook.remove()
            for undo in before:
                undo()


def spans_of(rows: Rows) -> Iterator[Span]:
    """List the texts of packed rows."""
    for row, segments in enumerate(rows.segments):
        edges = np.flatnonzero(np.diff(segments)) + 1
        for start, end in zip([0, *edges], [*edges, len(segments)], strict=True):
            if segments[start]:
                yield Span(rows.ids[row, start:end].tobytes(), row, int(start), int(end))


def _replace_forward(block: Any, forward: Callable[..., Any]) -> Callable[[], None]:
    """Replace a block's forward pass, and return a function that undoes it."""
    own = block.__dict__.get("forward")
    block.forward = forward

    def undo() -> None:
        if own is None:
            del block.forward
        else:
            block.forward = own

    return undo
