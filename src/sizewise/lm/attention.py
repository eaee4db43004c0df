"""Attention by plain matrix products over packed rows.

On CPU in bf16, PyTorch's fused attention is slower than this at 512 tokens once the block is compiled,
and it takes no mask of documents without leaving its fast path.
"""

from __future__ import annotations

from typing import Any

import torch
from transformers import AttentionInterface

NAME = "sizewise_packed"


def packed_attention(
    module: Any,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor,
    scaling: float,
    dropout: float = 0.0,
    **unused: Any,
) -> tuple[torch.Tensor, None]:
    """Attend with an additive mask; several query heads share a key head without copies.

    Args:
        module: the attention module (not used).
        query: (rows, heads, tokens, head size).
        key: (rows, key heads, tokens, head size).
        value: like key.
        attention_mask: (rows, 1, tokens, tokens), 0 or minus infinity, fp32.
        scaling: factor of the scores.
        dropout: not used, there is none.
        unused: further arguments of transformers' interface.

    Returns:
        (rows, tokens, heads, head size) and no weights.
    """
    rows, heads, tokens, size = query.shape
    groups = key.shape[1]
    grouped = (query * scaling).reshape(rows, groups, heads // groups * tokens, size)
    scores = torch.matmul(grouped, key.transpose(2, 3)).view(rows, heads, tokens, tokens)
    weights = torch.softmax(scores.float() + attention_mask, dim=-1).to(query.dtype)
    mixed = torch.matmul(weights.view(rows, groups, heads // groups * tokens, tokens), value)
    return mixed.view(rows, heads, tokens, size).transpose(1, 2).contiguous(), None


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
