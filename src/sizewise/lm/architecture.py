"""Small networks from scratch: one dial (the number of parameters) sets their shape."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from transformers import LlamaConfig, LlamaForCausalLM, MistralConfig, MistralForCausalLM

from sizewise.errors import UsageError

HEAD_SIZE = 64
# A small vocabulary keeps the embedding from eating a small network's parameters.
VOCABULARIES = ((10_000_000, 4_096), (50_000_000, 8_192), (10**12, 32_768))


class Shape(NamedTuple):
    """Shape of a network."""

    layers: int
    width: int
    vocabulary: int

    @property
    def heads(self) -> int:
        """Number of attention heads."""
        return self.width // HEAD_SIZE

    @property
    def inner(self) -> int:
        """Width inside the gated feed-forward part: 8/3 of the width, rounded up to 64."""
        return -(-8 * self.width // 3 // 64) * 64

    @property
    def parameters(self) -> int:
        """Exact number of parameters, embeddings tied."""
        block = 4 * self.width**2 + 3 * self.width * self.inner + 2 * self.width
        return self.vocabulary * self.width + self.layers * block + self.width


def shape_for(parameters: int) -> Shape:
    """Choose the shape whose size comes closest: about 40 of width for each layer.

    Raises:
        UsageError: fewer than 500,000 or more than 1 billion parameters.
    """
    if not 500_000 <= parameters <= 1_000_000_000:
        raise UsageError(
            f"A network of {parameters:,} parameters from scratch is out of range.",
            "500,000 to 1,000,000,000 parameters",
            "sizewise train scratch --data ID --parameters 5000000 --minutes 1",
        )
    vocabulary = next(size for limit, size in VOCABULARIES if parameters <= limit)
    shapes = [
        Shape(layers, width, vocabulary)
        for width in range(HEAD_SIZE, 4096 + 1, HEAD_SIZE)
        for layers in range(max(2, width // 80), max(3, width // 32) + 1)
    ]
    return min(shapes, key=lambda shape: (abs(shape.parameters - parameters), shape.layers))


def parse_attention(attention: str) -> int | None:
    """Read `full` (None) or `window:N` (N).

    Raises:
        UsageError: it is neither.
    """
    if attention == "full":
        return None
    kind, _, size = attention.partition(":")
    if kind == "window" and size.isdigit() and int(size) > 0:
        return int(size)
    raise UsageError(f"Unknown attention '{attention}'.", "full or window:N, for example window:128", "")


def build_network(shape: Shape, attention: str, context: int, token_ids: dict[str, int], seed: int) -> Any:
    """Make a Llama-shaped network, or a Mistral-shaped one with a sliding window, with random weights.

    Args:
        shape: its shape.
        attention: `full` or `window:N`.
        context: longest input in tokens.
        token_ids: ids of `bos`, `eos` and `pad`.
        seed: seed of the weights.

    Returns:
        A network in fp32.
    """
    window = parse_attention(attention)
    common: dict[str, Any] = {
        "vocab_size": shape.vocabulary,
        "hidden_size": shape.width,
        "intermediate_size": shape.inner,
        "num_hidden_layers": shape.layers,
        "num_attention_heads": shape.heads,
        "num_key_value_heads": shape.heads,
        "head_dim": HEAD_SIZE,
        "max_position_embeddings": context,
        "tie_word_embeddings": True,
        "rms_norm_eps": 1e-5,
        "bos_token_id": token_ids["bos"],
        "eos_token_id": token_ids["eos"],
        "pad_token_id": token_ids["pad"],
    }
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        if window is None:
            return LlamaForCausalLM(LlamaConfig(**common))
        return MistralForCausalLM(MistralConfig(**common, sliding_window=window))
