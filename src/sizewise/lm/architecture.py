"""Small networks trained from scratch. The number of parameters determines their shape."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from transformers import (
    LlamaConfig,
    LlamaForCausalLM,
    MinistralConfig,
    MinistralForCausalLM,
    MistralConfig,
    MistralForCausalLM,
)

from sizewise.errors import UsageError

HEAD_SIZE = 64
QUANTIZED = ("is_loaded_in_4bit", "is_quantized", "hf_quantizer", "quantization_method")
"""Attributes by which transformers and peft recognize a network with 4-bit weights."""
NETWORKS = {LlamaConfig: LlamaForCausalLM, MistralConfig: MistralForCausalLM, MinistralConfig: MinistralForCausalLM}
# Small networks get a small vocabulary, because the embedding would otherwise take most of their parameters.
VOCABULARIES = ((10_000_000, 4_096), (50_000_000, 8_192), (10**12, 32_768))


class Shape(NamedTuple):
    """Shape of a Llama-style network."""

    layers: int
    width: int
    vocabulary: int

    @property
    def heads(self) -> int:
        """Number of attention heads."""
        return self.width // HEAD_SIZE

    @property
    def inner(self) -> int:
        """Width of the gated feed-forward layer: 8/3 of the width, rounded up to a multiple of 64."""
        return -(-8 * self.width // 3 // 64) * 64

    @property
    def parameters(self) -> int:
        """Exact number of parameters, with tied embeddings."""
        block = 4 * self.width**2 + 3 * self.width * self.inner + 2 * self.width
        return self.vocabulary * self.width + self.layers * block + self.width


def shape_for(parameters: int) -> Shape:
    """Choose the shape closest to a number of parameters, with a width of 32 to 80 per layer.

    Raises:
        UsageError: fewer than 500,000 or more than 1 billion parameters.
    """
    if not 500_000 <= parameters <= 1_000_000_000:
        raise UsageError(
            f"A network trained from scratch can't have {parameters:,} parameters.",
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


class Attention(NamedTuple):
    """Attention pattern of a network's blocks."""

    pattern: str
    """One letter per block, repeated: `L` attends to all earlier tokens, `S` to a sliding window. The last block is
    `L` unless all blocks are `S`."""
    window: int | None
    """Window of `S` blocks in tokens, the current one included; None means a quarter of the context."""

    def kinds(self, layers: int) -> list[str]:
        """Return the attention type of each block under transformers' names."""
        letters = [self.pattern[i % len(self.pattern)] for i in range(layers)]
        if "L" in self.pattern:
            letters[-1] = "L"
        return ["full_attention" if letter == "L" else "sliding_attention" for letter in letters]


def parse_attention(attention: str) -> Attention:
    """Parse `full`, `window:N`, `pattern:SSSL` or `pattern:SSSL:N`.

    Raises:
        UsageError: the text has none of these forms.
    """
    kind, _, rest = attention.partition(":")
    if attention == "full":
        return Attention("L", None)
    if kind == "window" and rest.isdigit() and int(rest) > 0:
        return Attention("S", int(rest))
    pattern, _, size = rest.partition(":")
    if kind == "pattern" and set(pattern) == {"S", "L"} and (not size or (size.isdigit() and int(size) > 0)):
        return Attention(pattern, int(size) if size else None)
    raise UsageError(
        f"Unknown attention '{attention}'.",
        "full, window:N, pattern:SSSL or pattern:SSSL:N (S: a window of N tokens, L: all earlier tokens)",
        "--attention window:128",
    )


def _config(attention: Attention, context: int, layers: int, common: dict[str, Any]) -> Any:
    if attention.pattern == "L":
        return LlamaConfig(**common)
    window = attention.window or max(1, context // 4)
    if attention.pattern == "S":
        return MistralConfig(**common, sliding_window=window)
    return MinistralConfig(**common, sliding_window=window, layer_types=attention.kinds(layers))


def build_network(shape: Shape, attention: str, context: int, token_ids: dict[str, int], seed: int) -> Any:
    """Build a Llama network with random weights; a Mistral or Ministral network if it has attention windows.

    Args:
        shape: shape of the network.
        attention: attention in the notation of `parse_attention`.
        context: longest input in tokens.
        token_ids: ids of `bos`, `eos` and `pad`.
        seed: seed of the weights.

    Returns:
        A network in fp32.
    """
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
        config = _config(parse_attention(attention), context, shape.layers, common)
        return NETWORKS[type(config)](config)


def with_attention(network: Any, attention: str, context: int) -> Any:
    """Change the attention windows of a pretrained network, not its weights; training adapts the network to them.

    Only Llama-style networks support this: in other architectures the windows are fixed by the class.

    Args:
        network: a Llama, Mistral or Ministral network.
        attention: attention in the notation of `parse_attention`; `full` returns the network unchanged.
        context: tokens in a training row; the default window is a quarter of it.

    Raises:
        UsageError: the network is of another architecture.
    """
    wanted = parse_attention(attention)
    if attention == "full":
        return network
    config = network.config
    if type(config) not in NETWORKS or getattr(config, "attention_bias", False) or getattr(config, "mlp_bias", False):
        raise UsageError(
            f"The attention of {config.model_type} is fixed by its architecture and can't be changed to {attention}.",
            "a Llama or Mistral network, or --attention full",
            f"sizewise train scratch --data ID --attention {attention} --minutes 1",
        )
    kept = config.to_dict()
    fixed = ("model_type", "architectures", "sliding_window", "layer_types", "attention_bias", "mlp_bias")
    common = {
        key: value for key, value in kept.items() if key not in (*fixed, "pretraining_tp", "transformers_version")
    }
    changed = _config(wanted, context, config.num_hidden_layers, common)
    changed.dtype = network.dtype
    with torch.device("meta"):
        other = NETWORKS[type(changed)](changed)
    for (
        name,
        part,
    ) in network.named_modules():  # modules rather than weights: those in 4 bits have a format of their own
        if next(part.parameters(recurse=False), None) is not None:
            other.set_submodule(name, part, strict=True)
    other.model.rotary_emb = network.model.rotary_emb  # position frequencies aren't part of the weights
    other.generation_config = network.generation_config
    for name in QUANTIZED:
        if hasattr(network, name):
            setattr(other, name, getattr(network, name))
    return other.eval()
