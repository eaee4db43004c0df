"""Attention by plain matrix products over packed rows.

On CPU in bf16, PyTorch's fused attention is slower than this at 512 tokens once the block is compiled,
and it takes no mask of documents without leaving its fast path.
"""

from __future__ import annotations

from typing import Any

import torch
from transformers import AttentionInterface

NAME = "sizewise_packed"
BLOCK = 256  # queries at once; smaller blocks skip more but make smaller products


def packed_attention(
    module: Any,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor,
    scaling: float,
    dropout: float = 0.0,
    sliding_window: int | None = None,
    **unused: Any,
) -> tuple[torch.Tensor, None]:
    """Attend with an additive mask; several query heads share a key head without copies.

    Queries go in blocks, each against the keys that it may see: what lies after it, or before its window, costs
    nothing.

    Args:
        module: the attention module (not used).
        query: (rows, heads, tokens, head size).
        key: (rows, key heads, tokens, head size).
        value: like key.
        attention_mask: (rows, 1, tokens, tokens), 0 or minus infinity, fp32.
        scaling: factor of the scores.
        dropout: not used, there is none.
        sliding_window: keys further back are not even looked at.
        unused: further arguments of transformers' interface.

    Returns:
        (rows, tokens, heads, head size) and no weights.
    """
    rows, heads, tokens, size = query.shape
    groups = key.shape[1]
    query = query * scaling
    mixed = []
    for start in range(0, tokens, BLOCK):
        end = min(start + BLOCK, tokens)
        first = 0 if sliding_window is None else max(0, start - sliding_window + 1)
        length = heads // groups * (end - start)
        part = query[:, :, start:end].reshape(rows, groups, length, size)
        scores = torch.matmul(part, key[:, :, first:end].transpose(2, 3)).view(rows, heads, end - start, end - first)
        masked = scores.float() + attention_mask[:, :, start:end, first:end]
        weights = torch.softmax(masked, dim=-1).to(query.dtype).view(rows, groups, length, end - first)
        mixed.append(torch.matmul(weights, value[:, :, first:end]).view(rows, heads, end - start, size))
    return torch.cat(mixed, dim=2).transpose(1, 2).contiguous(), None


AttentionInterface.register(NAME, packed_attention)


def packed_mask(segments: torch.Tensor, window: int | None = None) -> torch.Tensor:
    """Build the additive mask of packed rows: causal, within a segment, and within the window if given.

    Args:
        segments: (rows, tokens) number of the sequence that each token belongs to.
        window: a token sees itself and the `window - 1` before it.

    Returns:
        (rows, 1, tokens, tokens) of 0 and minus infinity, fp32.
    """
    tokens = segments.shape[1]
    position = torch.arange(tokens)
    distance = position[:, None] - position[None, :]
    seen = distance >= 0
    if window is not None:
        seen = seen & (distance < window)
    allowed = (segments[:, None, :, None] == segments[:, None, None, :]) & seen
    return torch.zeros(allowed.shape).masked_fill_(~allowed, float("-inf"))


def masks_for(config: Any, segments: torch.Tensor) -> torch.Tensor | dict[str, torch.Tensor]:
    """Build what a network's decoder takes as attention_mask: one mask, or one for each kind of block."""
    window = getattr(config, "sliding_window", None)
    kinds = set(getattr(config, "layer_types", None) or ())
    if config.model_type in ("mistral",):
        return packed_mask(segments, window)
    if "sliding_attention" in kinds:
        masks = {"full_attention": packed_mask(segments), "sliding_attention": packed_mask(segments, window)}
        return {kind: masks[kind] for kind in ("full_attention", "sliding_attention")}
    return packed_mask(segments)
