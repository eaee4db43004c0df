"""Low-rank adapters on all linear layers (LoRA), in the format that every server loads."""

from __future__ import annotations

import warnings
from typing import Any

import torch
from peft import LoraConfig, get_peft_model


def add_lora(network: Any, rank: int, seed: int, dora: bool = False) -> Any:
    """Add adapters to all linear layers but the head; only they are trained.

    Source: Hu et al. (2021), LoRA. The factor alpha / rank is 2; the adapters start as no change.

    Args:
        network: a causal language model.
        rank: rank of the adapters.
        seed: seed of their first weights.
        dora: learn the length of each weight row apart from its direction (Liu et al., 2024, DoRA).

    Returns:
        The network wrapped by peft.
    """
    config = LoraConfig(r=rank, lora_alpha=2 * rank, target_modules="all-linear", task_type="CAUSAL_LM", use_dora=dora)
    with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
        # peft asks transformers by a name that transformers is about to drop; it does no harm.
        warnings.filterwarnings("ignore", category=FutureWarning, message=".*is_gradient_checkpointing.*")
        torch.manual_seed(seed)
        return get_peft_model(network, config, autocast_adapter_dtype=False)


def merge_lora(wrapped: Any) -> Any:
    """Add the adapters to the weights, in fp32, and give back a plain network."""
    return wrapped.float().merge_and_unload()


def base_of(network: Any) -> Any:
    """Give the plain causal language model inside, whether or not it carries adapters."""
    return network.get_base_model() if hasattr(network, "get_base_model") else network
