"""Attention trade-off: cache size against prediction quality by position, measured on the data."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from sizewise.lm.score import bits_by_position
from sizewise.models.size import cache_bytes
from sizewise.records import AttentionTradeoff, PositionBits

CHARACTERS = 60_000  # of held-out text
BF16_BYTES = 2


def measure_attention_tradeoff(network: Any, tokenizer: Any, texts: Iterable[str], context: int) -> AttentionTradeoff:
    """Measure the cache of one sequence with and without windows, and the loss on held-out text by position.

    Args:
        network: a causal language model.
        tokenizer: its tokenizer.
        texts: held-out texts, each starting at its beginning.
        context: tokens in a training row.
    """
    config = network.config.to_dict()
    chosen: list[str] = []
    for text in texts:
        if sum(map(len, chosen)) >= CHARACTERS:
            break
        chosen.append(text[: max(CHARACTERS, 20 * context)])
    return AttentionTradeoff(
        context=context,
        cache_bytes=cache_bytes(config, context, BF16_BYTES),
        full_cache_bytes=cache_bytes(config | {"sliding_window": None}, context, BF16_BYTES),
        positions=tuple(
            PositionBits(first=span.first, last=span.last, tokens=span.tokens, bits=span.bits)
            for span in bits_by_position(network, tokenizer, chosen, context)
        ),
    )


def format_tradeoff(tradeoff: AttentionTradeoff) -> str:
    """Format the trade-off as one line."""
    cache = f"KV cache at {tradeoff.context} tokens: {tradeoff.cache_bytes / 1e6:.1f} MB"
    if tradeoff.cache_bytes != tradeoff.full_cache_bytes:
        cache += f" ({tradeoff.full_cache_bytes / 1e6:.1f} MB with full attention)"
    positions = ", ".join(f"{span.first}-{span.last} {span.bits:.2f}" for span in tradeoff.positions)
    return cache + (f"; bits per token by position: {positions}" if positions else "")
