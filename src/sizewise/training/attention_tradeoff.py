"""Attention trade-off: cache size against prediction quality by position, measured on the data."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from sizewise.lm.score import PositionRange, bits_by_position
from sizewise.models.size import cache_bytes
from sizewise.records import AttentionTradeoff, PositionBits
from sizewise.training.intervals import ratio_score

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
        positions=tuple(_position(span) for span in bits_by_position(network, tokenizer, chosen, context)),
    )


def _position(span: PositionRange) -> PositionBits:
    """Add the interval over texts to the bits of a range of positions."""
    bits, tokens = zip(*span.by_text, strict=True)
    score = ratio_score("bits_per_token", bits, tokens, unit="bits/token", signature=f"{span.first}-{span.last}")
    return PositionBits(
        first=span.first,
        last=span.last,
        tokens=span.tokens,
        bits=span.bits,
        ci_low=score.ci_low,
        ci_high=score.ci_high,
        texts=len(span.by_text),
    )


def format_tradeoff(tradeoff: AttentionTradeoff) -> str:
    """Format the trade-off as one line."""
    cache = f"KV cache at {tradeoff.context} tokens: {tradeoff.cache_bytes / 1e6:.1f} MB"
    if tradeoff.cache_bytes != tradeoff.full_cache_bytes:
        cache += f" ({tradeoff.full_cache_bytes / 1e6:.1f} MB with full attention)"
    positions = ", ".join(f"{span.first}-{span.last} {span.bits:.2f}{_ends(span)}" for span in tradeoff.positions)
    return cache + (f"; bits per token by position: {positions}" if positions else "")


def _ends(span: PositionBits) -> str:
    if span.ci_low is None or span.ci_high is None:
        return f" (no interval: {span.texts} text{'s' * (span.texts != 1)})"
    return f" [{span.ci_low:.2f}, {span.ci_high:.2f}]"
