"""Attention and loss on graphics cards, from libraries: flex_attention or SDPA, and Liger's fused cross-entropy.

The kernels in `attention` and `loss` are written for processors. A library's kernel is used only after it has given the
same numbers on this machine's card as plain PyTorch does, forward and backward, on a small input.
"""

from __future__ import annotations

import importlib.util
from functools import lru_cache
from typing import Any

import torch

TOLERANCE = 0.05
"""Relative error that is rounding in bf16; a wrong mask or scale is far above it."""


def device_masks(segments: torch.Tensor, window: int | None) -> Any:
    """Build the mask of packed rows for a graphics card: causal, within a sequence and within a window.

    Args:
        segments: (rows, tokens) number of the sequence that each token belongs to.
        window: tokens that each token attends to, itself included; None for all earlier ones.

    Returns:
        A BlockMask for flex_attention where it works, or else (rows, 1, tokens, tokens) booleans for SDPA.
    """
    if segments.device.type == "cuda" and flex_works():
        return _block_mask(segments, window)
    return dense_mask(segments, window)


def dense_mask(segments: torch.Tensor, window: int | None) -> torch.Tensor:
    """Build a mask as booleans, (rows, 1, tokens, tokens); True where a token may attend."""
    places = torch.arange(segments.shape[1], device=segments.device)
    distance = places[:, None] - places
    allowed = (distance >= 0) & (segments[:, :, None] == segments[:, None, :])
    return (allowed if window is None else allowed & (distance < window))[:, None]


def _block_mask(segments: torch.Tensor, window: int | None) -> Any:
    from torch.nn.attention.flex_attention import create_block_mask

    def allowed(row: torch.Tensor, _head: torch.Tensor, query: torch.Tensor, key: torch.Tensor) -> torch.Tensor:
        seen = (query >= key) & (segments[row, query] == segments[row, key])
        return seen if window is None else seen & (query - key < window)

    rows, tokens = segments.shape
    return create_block_mask(allowed, rows, None, tokens, tokens, device=segments.device)


def masked_attention(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, mask: Any, scaling: float
) -> torch.Tensor:
    """Compute attention with a mask from `device_masks`: (rows, heads, tokens, size), in the shape of the query.

    Args:
        query: (rows, heads, tokens, size).
        key: (rows, key heads, tokens, size).
        value: same shape as key.
        mask: from `device_masks`.
        scaling: factor of the scores.
    """
    if isinstance(mask, torch.Tensor):
        groups = query.shape[1] // key.shape[1]  # SDPA's fast kernels take a mask, or grouped heads, but not both
        key, value = (part.repeat_interleave(groups, dim=1) for part in (key, value)) if groups > 1 else (key, value)
        return torch.nn.functional.scaled_dot_product_attention(query, key, value, attn_mask=mask, scale=scaling)
    return _flex()(query, key, value, block_mask=mask, scale=scaling, enable_gqa=query.shape[1] != key.shape[1])


@lru_cache(maxsize=1)
def _flex() -> Any:
    from torch.nn.attention.flex_attention import flex_attention

    return torch.compile(flex_attention, dynamic=False)


def _agree(one: list[torch.Tensor], other: list[torch.Tensor]) -> bool:
    return all(float((a - b).abs().max()) <= TOLERANCE * float(b.abs().max()) for a, b in zip(one, other, strict=True))


def _with_gradients(result: torch.Tensor, inputs: tuple[torch.Tensor, ...]) -> list[torch.Tensor]:
    gradients = torch.autograd.grad(result.float().square().sum(), inputs)
    return [part.detach().float() for part in (result, *gradients)]


@lru_cache(maxsize=1)
def flex_works() -> bool:
    """Check once that flex_attention compiles on this card and agrees with SDPA; it needs Triton and a C compiler."""
    try:
        generator = torch.Generator("cuda").manual_seed(0)
        shape = (2, 4, 256, 64)
        query = torch.randn(shape, device="cuda", dtype=torch.bfloat16, generator=generator, requires_grad=True)
        key, value = (
            torch.randn(
                (2, 2, *shape[2:]), device="cuda", dtype=torch.bfloat16, generator=generator, requires_grad=True
            )
            for _ in range(2)
        )
        segments = torch.arange(shape[2], device="cuda").div(100, rounding_mode="floor").expand(2, -1)
        inputs = (query, key, value)
        for window in (None, 48):
            flex, dense = (
                _with_gradients(masked_attention(*inputs, make(segments, window), 0.125), inputs)
                for make in (_block_mask, dense_mask)
            )
            if not _agree(flex, dense):
                return False
    except Exception:  # Triton or the compiler may fail in any way
        return False
    return True


@lru_cache(maxsize=1)
def liger_loss() -> Any:
    """Return Liger's cross-entropy (hidden, head, targets) -> mean nats; None if it isn't installed or disagrees.

    Source: Hsu et al. (2024), Liger Kernel: the head's product and the loss in one kernel, without all logits.
    """
    if importlib.util.find_spec("liger_kernel") is None:
        return None
    try:
        from liger_kernel.transformers.functional import liger_fused_linear_cross_entropy

        def loss(hidden: torch.Tensor, head: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
            found: torch.Tensor = liger_fused_linear_cross_entropy(hidden, head, targets)
            return found

        generator = torch.Generator("cuda").manual_seed(0)
        hidden, head = (
            torch.randn(shape, device="cuda", dtype=torch.bfloat16, generator=generator, requires_grad=True)
            for shape in ((96, 64), (512, 64))
        )
        targets = torch.arange(96, device="cuda") * 5
        plain = torch.nn.functional.cross_entropy((hidden @ head.T).float(), targets)
        inputs = (hidden, head)
        agrees = _agree(_with_gradients(loss(hidden, head, targets), inputs), _with_gradients(plain, inputs))
    except Exception:  # Triton or the compiler may fail in any way
        return None
    return loss if agrees else None
