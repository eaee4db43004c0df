"""How a network's logits are computed: its blocks, its last hidden states and the weights of its output head.

Scoring, generation and training never hold the logits of a whole vocabulary for a whole batch. They take the last
hidden states and multiply them by the head one tile at a time, so this module is the only place that knows what a
network does between its decoder and its logits.
"""

from __future__ import annotations

from typing import Any

import torch

from sizewise.errors import SizewiseError


def layers_of(network: Any) -> Any:
    """Return a network's transformer blocks, regardless of how its class names them."""
    blocks, decoder = network.config.num_hidden_layers, network.get_decoder()
    return next(part for part in decoder.modules() if isinstance(part, torch.nn.ModuleList) and len(part) == blocks)


def decoder_of(network: Any) -> Any:
    """Return the network without its head: token ids in, hidden states out."""
    return network.get_decoder()


def hidden_states(network: Any, **inputs: Any) -> torch.Tensor:
    """Compute the last hidden states, (rows, tokens, width), scaled so that `head_of` maps them to logits."""
    hidden: torch.Tensor = decoder_of(network)(**inputs).last_hidden_state
    config = network.config
    divisor, factor = getattr(config, "logits_scaling", None), getattr(config, "logit_scale", None)
    if divisor:  # Granite divides its logits by this setting; HyperCLOVA multiplies by a setting of the same name
        return hidden * divisor if config.model_type.startswith("hyperclovax") else hidden / divisor
    return hidden if factor is None else hidden * factor  # Cohere


def head_of(network: Any) -> Any:
    """Return the weights that map hidden states to logits, (vocabulary, width).

    Raises:
        SizewiseError: the network adds a bias or caps its logits after the head.
    """
    head = network.get_output_embeddings()
    if getattr(head, "bias", None) is not None or getattr(network.config, "final_logit_softcapping", None):
        raise SizewiseError(
            f"{type(network).__name__} changes its logits after the head (bias or soft-capping).",
            "Llama, Mistral, Qwen, Granite, Gemma 3, Phi-3 or Phi-4-mini",
            "choose another model: sizewise models",
        )
    return head.weight
