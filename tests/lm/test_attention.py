"""Block-wise attention against PyTorch's own, forward and back."""

from __future__ import annotations

import pytest
import torch

from sizewise.lm import attention


def plain(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, segments: torch.Tensor, window: int
) -> torch.Tensor:
    place = torch.arange(query.shape[2])
    distance = place[:, None] - place[None]
    seen = (distance >= 0) & (distance < window) & (segments[:, :, None] == segments[:, None, :])
    groups = query.shape[1] // key.shape[1]
    key, value = key.repeat_interleave(groups, 1), value.repeat_interleave(groups, 1)
    return torch.nn.functional.scaled_dot_product_attention(query, key, value, attn_mask=seen[:, None], scale=0.3)


@pytest.mark.parametrize("window", [300, 131, 40, 1])
def test_equals_plain_attention_within_sequences_and_windows(window: int) -> None:
    generator = torch.Generator().manual_seed(window)
    query, key, value = (torch.randn(2, heads, 300, 8, generator=generator, requires_grad=True) for heads in (6, 2, 2))
    segments = torch.tensor([[1] * 100 + [2] * 150 + [3] * 10 + [0] * 40, [1] * 300])
    ours, _ = attention.packed_attention(
        None, query, key, value, attention.masks_for(_Config, segments), scaling=0.3, sliding_window=window
    )
    expected = plain(query, key, value, segments, window).transpose(1, 2)
    assert torch.allclose(ours, expected, atol=1e-5)
    gradient = torch.randn(ours.shape, generator=generator)
    for one, other in zip(
        torch.autograd.grad(ours, (query, key, value), gradient),
        torch.autograd.grad(expected, (query, key, value), gradient),
        strict=True,
    ):
        assert torch.allclose(one, other, atol=1e-5)


class _Config:
    model_type = "llama"


def test_the_work_outside_windows_and_sequences_is_skipped() -> None:
    one = torch.ones((1, 2048), dtype=torch.long)
    many = torch.arange(2048)[None] // 100
    pairs = {
        (name, window): sum((b.end - b.first) * (b.end - b.start) for b in attention._blocks(segments, window))
        for name, segments in (("one", one), ("many", many))
        for window in (2048, 128)
    }
    full = pairs["one", 2048]
    assert full < 0.6 * 2048**2  # what comes later costs nothing
    assert pairs["one", 128] < 0.25 * full
    assert pairs["many", 2048] < 0.25 * full


def test_the_operations_obey_autograd() -> None:
    query, key, value = (torch.randn(1, 2, 9, 4, dtype=torch.float64, requires_grad=True) for _ in range(3))
    segments = torch.tensor([[1, 1, 1, 1, 2, 2, 2, 2, 2]])
    torch.library.opcheck(attention._attend, (query, key, value, segments, 0.5, 3))


def test_gradients_of_a_single_row_lie_as_compiled_blocks_expect() -> None:
    """A network hands over keys as a view of (rows, tokens, heads, size); of one row, one layout looks like another."""
    query, key, value = (torch.randn(1, 9, heads, 4).transpose(1, 2).requires_grad_() for heads in (4, 2, 2))
    segments = torch.ones((1, 9), dtype=torch.long)
    output, normaliser = attention._attend(query, key, value, segments, 0.5, 9)
    given = (torch.randn_like(output), query, key, value, normaliser, segments, 0.5, 9)
    torch.library.opcheck(attention._attend_back, given, test_utils=("test_schema", "test_faketensor"))
    for some, of_some in zip((query, key, value), attention._attend_back(*given), strict=True):
        assert of_some.shape == some.shape
        assert of_some.is_contiguous()
