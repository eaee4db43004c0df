"""Block-wise attention over packed rows that skips masked-out keys.

Queries are processed in blocks. Each block is multiplied with the keys from the start of its sequence (or window) to
its own end; all other keys are skipped, so windows and short sequences in a long row save time. The forward pass
stores one number per query, and the backward pass recomputes the weights (Dao et al., 2022, FlashAttention). On CPU in
bf16 this is faster than PyTorch's fused attention, which leaves its fast path as soon as it gets a sequence mask.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from typing import Any, NamedTuple

import torch
from transformers import AttentionInterface

from sizewise.errors import SizewiseError
from sizewise.lm.device_kernels import device_masks, masked_attention
from sizewise.lm.kernels import fused

NAME = "sizewise_packed"
STEP = 64  # a block's first key is a multiple of this: every new matrix shape costs time and memory
IGNORED = ("position_ids", "is_causal", "output_attentions", "use_cache", "past_key_values", "cache_position")
BLOCK = 128  # queries per block; smaller blocks skip more keys but make smaller matrix products


@fused
def _softmax(scores: torch.Tensor, bias: torch.Tensor, scaling: float) -> torch.Tensor:
    """Turn scores (rows, heads, queries, keys) into attention weights in place; return the log of their normalizer."""
    masked = scores.float() * scaling + bias
    highest = masked.amax(-1, keepdim=True)
    raised = torch.exp(masked - highest)
    total = raised.sum(-1, keepdim=True)
    scores.copy_(raised / total)
    return (highest + total.log()).squeeze(-1)


@fused
def _softmax_backward(
    scores: torch.Tensor, gradient: torch.Tensor, normalizer: torch.Tensor, bias: torch.Tensor, scaling: float
) -> None:
    """Recompute weights from scores, and turn the weights' gradient into the scores' gradient, both in place."""
    weights = torch.exp(scores.float() * scaling + bias - normalizer[..., None])
    weighted = weights * gradient.float()
    gradient.copy_((weighted - weights * weighted.sum(-1, keepdim=True)) * scaling)
    scores.copy_(weights)


@lru_cache(maxsize=64)
def _window_bias(length: int, seen: int, window: int, device: torch.device) -> torch.Tensor:
    """Return a block's bias, (1, 1, queries, keys): 0 within reach, minus infinity for later or too distant keys."""
    query = torch.arange(seen - length, seen, device=device)[:, None]
    distance = query - torch.arange(seen, device=device)
    return torch.where((distance >= 0) & (distance < window), 0.0, float("-inf"))[None, None]


class _Block(NamedTuple):
    """Queries `start` to `end`, which attend to the keys `first` to `end`."""

    first: int
    start: int
    end: int
    bias: torch.Tensor
    """(rows or 1, 1, queries, keys), added to the scores, fp32."""


def _blocks(segments: torch.Tensor, window: int) -> Iterator[_Block]:
    tokens = segments.shape[1]
    new = torch.ones_like(segments, dtype=torch.bool)
    new[:, 1:] = segments[:, 1:] != segments[:, :-1]
    begins = torch.where(new, torch.arange(tokens, device=segments.device), 0).cummax(dim=1).values
    earliest = begins.amin(dim=0)[::BLOCK].tolist()
    latest = begins.amax(dim=0).tolist()
    for number, start in enumerate(range(0, tokens, BLOCK)):
        end = min(start + BLOCK, tokens)
        first = max(earliest[number], start - window + 1)
        first -= first % STEP
        bias = _window_bias(end - start, end - first, window, segments.device)
        if latest[end - 1] > first:  # several sequences: mask keys of other sequences
            same = segments[:, start:end, None] == segments[:, None, first:end]
            bias = torch.where(same[:, None], bias, float("-inf"))
        yield _Block(first, start, end, bias)


@torch.library.custom_op("sizewise::attend", mutates_args=())
def _attend(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, segments: torch.Tensor, scaling: float, window: int
) -> tuple[torch.Tensor, torch.Tensor]:
    rows, heads, tokens, size = query.shape
    groups = key.shape[1]
    output = query.new_empty(rows, heads, tokens, value.shape[-1])
    normalizer = query.new_empty(rows, heads, tokens, dtype=torch.float32)
    keys, values = key.flatten(0, 1), value.flatten(0, 1)
    for first, start, end, bias in _blocks(segments, window):
        length = end - start
        part = query[:, :, start:end].reshape(rows * groups, -1, size)
        scores = torch.bmm(part, keys[:, first:end].transpose(1, 2)).view(rows, heads, length, end - first)
        normalizer[:, :, start:end] = _softmax(scores, bias, scaling)
        mixed = torch.bmm(scores.view(rows * groups, -1, end - first), values[:, first:end])
        output[:, :, start:end] = mixed.view(rows, heads, length, -1)
    return output, normalizer


@_attend.register_fake
def _(query: torch.Tensor, _key: torch.Tensor, value: torch.Tensor, *_others: Any) -> tuple[torch.Tensor, torch.Tensor]:
    rows, heads, tokens, _size = query.shape
    normalizer = query.new_empty(rows, heads, tokens, dtype=torch.float32)
    return query.new_empty(rows, heads, tokens, value.shape[-1]), normalizer


@torch.library.custom_op("sizewise::attend_back", mutates_args=())
def _attend_back(
    gradient: torch.Tensor,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    normalizer: torch.Tensor,
    segments: torch.Tensor,
    scaling: float,
    window: int,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    rows, heads, _tokens, size = query.shape
    groups = key.shape[1]
    keys, values = key.flatten(0, 1), value.flatten(0, 1)
    of_query = torch.empty_like(query, memory_format=torch.contiguous_format)
    # Blocks overlap in keys, and summing their gradients in bf16 would lose digits, so these buffers are fp32.
    of_keys, of_values = (torch.zeros(x.shape, dtype=torch.float32, device=x.device) for x in (keys, values))
    for first, start, end, bias in _blocks(segments, window):
        length, seen = end - start, end - first
        part = query[:, :, start:end].reshape(rows * groups, -1, size)
        of_output = gradient[:, :, start:end].reshape(rows * groups, -1, value.shape[-1])
        scores = torch.bmm(part, keys[:, first:end].transpose(1, 2)).view(rows, heads, length, seen)
        of_weights = torch.bmm(of_output, values[:, first:end].transpose(1, 2)).view(rows, heads, length, seen)
        _softmax_backward(scores, of_weights, normalizer[:, :, start:end], bias, scaling)
        weights, of_scores = (x.view(rows * groups, -1, seen) for x in (scores, of_weights))
        of_query[:, :, start:end] = torch.bmm(of_scores, keys[:, first:end]).view(rows, heads, length, size)
        of_keys[:, first:end] += torch.bmm(of_scores.transpose(1, 2), part)
        of_values[:, first:end] += torch.bmm(weights.transpose(1, 2), of_output)
    return of_query, of_keys.to(key.dtype).view(key.shape), of_values.to(value.dtype).view(value.shape)


@_attend_back.register_fake
def _(
    _gradient: torch.Tensor, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, *_others: Any
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    return query.new_empty(query.shape), key.new_empty(key.shape), value.new_empty(value.shape)


def _save_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[torch.Tensor, torch.Tensor]) -> None:
    query, key, value, segments, ctx.scaling, ctx.window = inputs
    ctx.save_for_backward(query, key, value, output[1], segments)


def _backward(ctx: Any, gradient: torch.Tensor, _unused: torch.Tensor | None) -> tuple[torch.Tensor | None, ...]:
    query, key, value, normalizer, segments = ctx.saved_tensors
    gradients = _attend_back(gradient, query, key, value, normalizer, segments, ctx.scaling, ctx.window)
    return (*gradients, None, None, None)


_attend.register_autograd(_backward, setup_context=_save_context)


def packed_attention(
    module: Any,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor,
    scaling: float | None = None,
    dropout: float = 0.0,
    sliding_window: int | None = None,
    **others: Any,
) -> tuple[torch.Tensor, None]:
    """Compute causal attention within packed sequences. Query heads that share a key head need no copies.

    Args:
        module: the attention module (not used).
        query: (rows, heads, tokens, head size).
        key: (rows, key heads, tokens, head size).
        value: same shape as key.
        attention_mask: from `masks_for`; on a graphics card it includes the window.
        scaling: factor of the scores; by default 1 / sqrt(head size).
        dropout: not used.
        sliding_window: each token attends to itself and the `sliding_window - 1` tokens before it.
        others: further arguments of transformers' interface; only those without effect here are accepted.

    Returns:
        (rows, tokens, heads, head size), and None in place of the weights.

    Raises:
        SizewiseError: the network needs another kind of attention, such as sinks or soft-capping.
    """
    unsupported = sorted(name for name, value in others.items() if value is not None and name not in IGNORED)
    if unsupported or others.get("is_causal") is False:
        raise SizewiseError(
            f"Training doesn't support this network's attention: {', '.join(unsupported) or 'bidirectional'}.",
            "plain causal attention, with or without a window",
            "choose another model to train: sizewise models",
        )
    factor = scaling if scaling is not None else query.shape[-1] ** -0.5
    if query.device.type != "cpu":
        return masked_attention(query, key, value, attention_mask, factor).transpose(1, 2).contiguous(), None
    output, _ = _attend(query, key, value, attention_mask[:, 0, 0], factor, sliding_window or query.shape[2])
    return output.transpose(1, 2).contiguous(), None


AttentionInterface.register(NAME, packed_attention)


def masks_for(config: Any, segments: torch.Tensor) -> torch.Tensor | dict[str, torch.Tensor]:
    """Build the decoder's attention_mask from segments, once or for each type of block.

    Args:
        config: config of the network.
        segments: (rows, tokens) number of the sequence that each token belongs to, on the network's device.
    """
    kinds = set(getattr(config, "layer_types", None) or ())
    by_kind = "sliding_attention" in kinds and config.model_type != "mistral"
    if segments.device.type != "cpu":
        window = getattr(config, "sliding_window", None) if not kinds or "sliding_attention" in kinds else None
        windowed = device_masks(segments, window)
        return {"full_attention": device_masks(segments, None), "sliding_attention": windowed} if by_kind else windowed
    mask = segments[:, None, None, :]  # transformers passes masks of four dimensions through unchanged
    return dict.fromkeys(("full_attention", "sliding_attention"), mask) if by_kind else mask


def additive_masks(
    config: Any, allowed: torch.Tensor, distance: torch.Tensor, dtype: torch.dtype
) -> torch.Tensor | dict[str, torch.Tensor]:
    """Build the decoder's attention_mask for transformers' own attention, once or for each type of block.

    Args:
        config: config of the network.
        allowed: (queries, keys), or one for each row, whether a token may see another one, windows aside.
        distance: positions between them, in the same shape.
        dtype: type of the network's weights.
    """

    def added(mask: torch.Tensor) -> torch.Tensor:
        zeros = torch.zeros(1, dtype=dtype, device=mask.device)
        return torch.where(mask, zeros, zeros + torch.finfo(dtype).min).reshape(-1, 1, *mask.shape[-2:])

    window = getattr(config, "sliding_window", None)
    kinds = set(getattr(config, "layer_types", None) or ())
    if not window or (kinds and "sliding_attention" not in kinds):
        return added(allowed)
    windowed = added(allowed & (distance < window))
    if kinds and config.model_type != "mistral":
        return {"full_attention": added(allowed), "sliding_attention": windowed}
    return windowed
