"""Size of a model from its files alone: no torch."""

from __future__ import annotations

from pathlib import Path
from typing import Any


def weight_bytes(folder: Path) -> int:
    """Add up the weight files of a folder, in bytes."""
    return sum(path.stat().st_size for path in folder.glob("*.safetensors"))


def cache_bytes(config: dict[str, Any], tokens: int, bytes_per_value: int) -> int:
    """Give the key-value cache of one user in bytes.

    A block with a sliding window keeps at most the window.

    Args:
        config: a network's config.json.
        tokens: tokens in the cache.
        bytes_per_value: 2 for bf16.
    """
    layers = int(config["num_hidden_layers"])
    heads = int(config.get("num_key_value_heads") or config["num_attention_heads"])
    size = int(config.get("head_dim") or config["hidden_size"] // config["num_attention_heads"])
    window = config.get("sliding_window")
    kinds = config.get("layer_types") or ["sliding_attention" if window else "full_attention"] * layers
    kept = sum(min(tokens, window) if window and kind == "sliding_attention" else tokens for kind in kinds)
    return 2 * heads * size * bytes_per_value * kept
