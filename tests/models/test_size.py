"""Sizes computed from configs, against what the models' publishers state."""

from __future__ import annotations

import importlib
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import CONFIG_MAPPING

from sizewise.errors import SizewiseError, UsageError
from sizewise.lm.hf_format import settings_of
from sizewise.models import model_size
from sizewise.models.size import cache_bytes, size_of

LLAMA_8B: dict[str, Any] = {
    "model_type": "llama",
    "hidden_size": 4096,
    "intermediate_size": 14336,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "vocab_size": 128256,
    "tie_word_embeddings": False,
    "max_position_embeddings": 131072,
}
QWEN: dict[str, Any] = {"model_type": "qwen2", "num_key_value_heads": 2, "vocab_size": 151936}
DEEPSEEK_R1: dict[str, Any] = {
    "model_type": "deepseek_v3",
    "hidden_size": 7168,
    "intermediate_size": 18432,
    "moe_intermediate_size": 2048,
    "num_hidden_layers": 61,
    "num_attention_heads": 128,
    "num_key_value_heads": 128,
    "n_shared_experts": 1,
    "n_routed_experts": 256,
    "num_experts_per_tok": 8,
    "q_lora_rank": 1536,
    "kv_lora_rank": 512,
    "qk_rope_head_dim": 64,
    "v_head_dim": 128,
    "qk_nope_head_dim": 128,
    "vocab_size": 129280,
    "first_k_dense_replace": 3,
    "tie_word_embeddings": False,
    "max_position_embeddings": 163840,
}
MISTRAL_7B = LLAMA_8B | {"model_type": "mistral", "vocab_size": 32000, "sliding_window": 4096}
# Totals as the weight files on the hub state them.
PUBLISHED: dict[str, tuple[int, dict[str, Any]]] = {
    "Mistral 7B v0.1": (7_241_732_096, MISTRAL_7B),
    "Llama 3.1 8B, DeepSeek-R1-Distill-Llama-8B": (8_030_261_248, LLAMA_8B),
    "SmolLM2-135M": (
        134_515_008,
        {
            "model_type": "llama",
            "hidden_size": 576,
            "intermediate_size": 1536,
            "num_hidden_layers": 30,
            "num_attention_heads": 9,
            "num_key_value_heads": 3,
            "vocab_size": 49152,
            "tie_word_embeddings": True,
        },
    ),
    "Qwen2.5 0.5B": (
        494_032_768,
        QWEN
        | {
            "hidden_size": 896,
            "intermediate_size": 4864,
            "num_hidden_layers": 24,
            "num_attention_heads": 14,
            "tie_word_embeddings": True,
        },
    ),
    "DeepSeek-R1-Distill-Qwen-1.5B": (
        1_777_088_000,
        QWEN
        | {
            "hidden_size": 1536,
            "intermediate_size": 8960,
            "num_hidden_layers": 28,
            "num_attention_heads": 12,
            "tie_word_embeddings": False,
        },
    ),
    "Phi-3 mini": (
        3_821_079_552,
        {
            "model_type": "phi3",
            "hidden_size": 3072,
            "intermediate_size": 8192,
            "num_hidden_layers": 32,
            "num_attention_heads": 32,
            "num_key_value_heads": 32,
            "vocab_size": 32064,
            "pad_token_id": 0,
            "tie_word_embeddings": False,
            "sliding_window": 2047,
        },
    ),
    "Mixtral 8x7B": (
        46_702_792_704,
        LLAMA_8B | {"model_type": "mixtral", "vocab_size": 32000, "num_local_experts": 8, "num_experts_per_tok": 2},
    ),
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_parameters_equal_the_published_ones(name: str) -> None:
    published, config = PUBLISHED[name]
    assert size_of(config, name).parameters == published


def test_of_experts_only_the_chosen_ones_work() -> None:
    mixtral = size_of(PUBLISHED["Mixtral 8x7B"][1], "mixtral")
    assert mixtral.active_parameters / 1e9 == pytest.approx(12.9, abs=0.05)  # Jiang et al., 2024: 13B active
    deepseek = size_of(DEEPSEEK_R1, "deepseek")
    assert deepseek.parameters / 1e9 == pytest.approx(671, abs=0.5)  # DeepSeek-AI, 2024: 671B, 37B for each token
    assert deepseek.active_parameters / 1e9 == pytest.approx(37, abs=1)
    assert deepseek.cache_bytes[1024] == 61 * (512 + 64) * 2 * 1024


def test_a_window_bounds_the_cache_and_the_work() -> None:
    mistral, full = size_of(MISTRAL_7B, "m"), size_of(MISTRAL_7B | {"sliding_window": None}, "m")
    one = 2 * 8 * 128 * 2 * 32
    assert mistral.cache_bytes[32_768] == one * 4096
    assert mistral.full_cache_bytes[32_768] == full.cache_bytes[32_768] == one * 32_768
    assert size_of(MISTRAL_7B | {"sliding_window": 256}, "m").operations < mistral.operations == full.operations
    worked = 7_241_732_096 - 32_000 * 4096  # the table of tokens is looked up, not multiplied
    assert mistral.operations == 2 * worked + 4 * 4096 * 32 * 1024


def test_what_is_free_decides_what_fits() -> None:
    found = size_of(LLAMA_8B, "llama", free_bytes=10_000_000_000)
    assert found.fits == {"fp32": False, "bf16": False, "int8": True, "int4": True}
    assert found.weight_bytes["bf16"] == 2 * found.parameters


def test_a_config_that_lies_about_its_weights_is_refused(tiny_folder: Path) -> None:
    assert model_size(str(tiny_folder))[0].parameters > 0
    path = tiny_folder / "config.json"
    config = json.loads(path.read_text(encoding="utf-8"))
    layers = config["num_hidden_layers"]
    path.write_text(json.dumps(config | {"num_hidden_layers": 2 * layers, "layer_types": None}), encoding="utf-8")
    with pytest.raises(SizewiseError, match="weight files hold"):
        model_size(str(tiny_folder))


@pytest.mark.parametrize(
    "config",
    [
        {},
        {"model_type": "no-such-network"},
        LLAMA_8B | {"num_hidden_layers": 10**9},
        LLAMA_8B | {"hidden_size": "wide"},
        LLAMA_8B | {"num_attention_heads": 0},
    ],
)
def test_a_config_that_is_none_is_refused(config: dict[str, Any]) -> None:
    with pytest.raises(SizewiseError):
        size_of(config, "nothing")


def test_a_folder_needs_no_weights(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps(LLAMA_8B), encoding="utf-8")
    assert model_size(str(tmp_path))[0].parameters == 8_030_261_248
    (tmp_path / "config.json").write_text("[1]", encoding="utf-8")
    with pytest.raises(SizewiseError, match=r"config\.json"):
        model_size(str(tmp_path))
    with pytest.raises(UsageError):
        model_size("no-such:model")


@pytest.mark.parametrize(
    "kind",
    [
        *("falcon", "gpt_bigcode", "gemma3n_text", "gemma4_text", "bamba", "jamba", "nemotron_h", "granitemoehybrid"),
        *("llama4_text", "deepseek_v32", "hy_v4", "mllama", "zamba2", "qwen3_next", "mistral", "deepseek_v3"),
    ],
)
def test_the_cache_grows_as_that_of_transformers(kind: str) -> None:
    network = importlib.import_module("benchmarks.tiny_networks").tiny_network(kind, "text")
    settings = settings_of(network.config)

    def held(tokens: int) -> int:
        with torch.no_grad():
            cache = network(torch.randint(5, 100, (1, tokens)), use_cache=True).past_key_values
        parts = {id(one): one for layer in cache.layers for one in vars(layer).values() if torch.is_tensor(one)}
        return sum(one.numel() * one.element_size() for one in parts.values())

    assert cache_bytes(settings, 128, 4) - cache_bytes(settings, 64, 4) == held(128) - held(64)


def test_falcon_7b_shares_one_key_head() -> None:
    falcon = {"model_type": "falcon", "hidden_size": 4544, "num_hidden_layers": 32, "num_attention_heads": 71}
    found = size_of(falcon | {"multi_query": True, "vocab_size": 65024}, "hf:falcon")
    assert found.cache_bytes[1024] == 2 * 64 * 32 * 2 * 1024
    more = falcon | {"multi_query": True, "new_decoder_architecture": True, "num_kv_heads": 8}
    assert cache_bytes(more, 1024, 2) == 8 * found.cache_bytes[1024]


def test_global_blocks_of_gemma_4_have_heads_of_their_own() -> None:
    stated = {"num_key_value_heads": 4, "head_dim": 256, "sliding_window": 512, "num_kv_shared_layers": 2}
    kinds = ["sliding_attention", "full_attention", "sliding_attention", "full_attention"]
    blocks = {"model_type": "gemma4_text", "num_hidden_layers": 4, "layer_types": kinds, "attention_k_eq_v": True}
    config = stated | blocks | {"num_global_key_value_heads": 2, "global_head_dim": 512}
    expected = 2 * 2 * (4 * 256 * 512 + 2 * 512 * 2048)  # of the first two blocks; the others share theirs
    assert cache_bytes(config, 2048, 2) == expected
    assert cache_bytes(settings_of(CONFIG_MAPPING["gemma4_text"].from_dict(config)), 2048, 2) == expected
