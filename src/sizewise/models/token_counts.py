"""Estimate token counts from bytes, for models without a tokenizer on this machine."""

from __future__ import annotations

from collections.abc import Sequence

BYTES_PER_TOKEN = 2
"""Conservative: English has about four bytes per token and Chinese three; scripts rare in the vocabulary have fewer."""


def estimate_tokens(texts: Sequence[str]) -> list[int]:
    """Estimate the tokens of each text from its UTF-8 bytes, erring on the high side."""
    return [-(-len(text.encode("utf-8", "surrogatepass")) // BYTES_PER_TOKEN) for text in texts]
