"""What a choice of attention costs and saves, measured on the data."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sizewise.lm.score import bits_by_place
from sizewise.models.size import cache_bytes
from sizewise.records import AttentionTradeoff, PositionBits

CHARACTERS = 60_000  # of held-out text
BF16 = 2


def measure_trade(network: Any, tokenizer: Any, texts: Sequence[str], context: int) -> AttentionTradeoff:
    """Give the cache of one user with and without windows, and how held-out text is predicted by place.

    Args:
        network: a causal language model.
        tokenizer: its tokenizer.
        texts: held-out texts, each from its beginning.
        context: tokens of a training row.
    """
    config = network.config.to_dict()
    chosen: list[str] = []
    for text in texts:
        if sum(map(len, chosen)) >= CHARACTERS:
            break
        chosen.append(text)
    return AttentionTradeoff(
        context=context,
        cache_bytes=cache_bytes(config, context, BF16),
        full_cache_bytes=cache_bytes(config | {"sliding_window": None}, context, BF16),
        positions=tuple(
            PositionBits(first=some.first, last=some.last, tokens=some.tokens, bits=some.bits)
            for some in bits_by_place(network, tokenizer, chosen, context)
        ),
    )


def trade_words(trade: AttentionTradeoff) -> str:
    """Say it in a line."""
    cache = f"a user's cache at {trade.context} tokens is {trade.cache_bytes / 1e6:.1f} MB"
    if trade.cache_bytes != trade.full_cache_bytes:
        cache += f" ({trade.full_cache_bytes / 1e6:.1f} MB if all blocks saw all)"
    places = ", ".join(f"{some.first}-{some.last} {some.bits:.2f}" for some in trade.positions)
    return cache + (f"; bits a token by place in a text: {places}" if places else "")
