"""Tiny random networks of every causal language model in transformers, with and without a vision or audio part.

The config of an architecture starts from its defaults. All sizes are reduced by name, so that a network of any
architecture has a few hundred thousand weights, every type of block its default config has, and short windows.
"""

from __future__ import annotations

import re
import warnings
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoModelForImageTextToText, AutoModelForMultimodalLM
from transformers.models.auto import modeling_auto
from transformers.models.auto.configuration_auto import CONFIG_MAPPING

VOCABULARY = 128
WIDTH, HEADS, KEY_HEADS, HEAD, INNER, LAYERS, CONTEXT, WINDOW = 64, 4, 2, 16, 96, 4, 512, 12
SETTINGS: dict[str, Any] = {
    "vocab_size": VOCABULARY,
    "padded_vocab_size": VOCABULARY,
    "vocab_size_per_layer_input": VOCABULARY,
    "hidden_size": WIDTH,
    "d_model": WIDTH,
    "n_embd": WIDTH,
    "n_embed": WIDTH,
    "dim": WIDTH,
    "emb_dim": WIDTH,
    "embed_dim": WIDTH,
    "embedding_size": WIDTH,
    "input_embedding_size": WIDTH,
    "word_embed_proj_dim": WIDTH,
    "lru_width": WIDTH,
    "attention_hidden_size": WIDTH,
    "kv_channels": HEAD,
    "hidden_size_per_layer_input": 16,
    "intermediate_size": INNER,
    "ffn_dim": INNER,
    "n_inner": INNER,
    "d_ff": INNER,
    "ffn_hidden_size": INNER,
    "decoder_ffn_dim": INNER,
    "encoder_ffn_dim": INNER,
    "shared_expert_intermediate_size": 32,
    "moe_shared_expert_intermediate_size": 32,
    "moe_intermediate_size": 32,
    "expert_ffn_hidden_size": 32,
    "expert_intermediate_size": 32,
    "shared_intermediate_size": 32,
    "intermediate_size_mlp": INNER,
    "intermediate_size_mamba": 2 * WIDTH,
    "num_hidden_layers": LAYERS,
    "n_layer": LAYERS,
    "n_layers": LAYERS,
    "num_layers": LAYERS,
    "decoder_layers": LAYERS,
    "encoder_layers": 1,
    "num_decoder_layers": LAYERS,
    "num_encoder_layers": 1,
    "num_attention_heads": HEADS,
    "n_head": HEADS,
    "n_heads": HEADS,
    "num_heads": HEADS,
    "decoder_attention_heads": HEADS,
    "encoder_attention_heads": HEADS,
    "num_key_value_heads": KEY_HEADS,
    "num_kv_heads": KEY_HEADS,
    "n_head_kv": KEY_HEADS,
    "num_attention_groups": KEY_HEADS,
    "swa_num_attention_heads": HEADS,
    "swa_num_key_value_heads": KEY_HEADS,
    "num_global_key_value_heads": KEY_HEADS,
    "head_dim": HEAD,
    "swa_head_dim": HEAD,
    "global_head_dim": HEAD,
    "attention_head_dim": HEAD,
    "d_kv": HEAD,
    "dim_head": HEAD,
    "swa_v_head_dim": HEAD,
    "query_pre_attn_scalar": HEAD,
    "rotary_dim": 8,
    "q_lora_rank": 32,
    "kv_lora_rank": 32,
    "o_lora_rank": 32,
    "qk_rope_head_dim": 8,
    "qk_nope_head_dim": 8,
    "qk_head_dim": 16,
    "v_head_dim": HEAD,
    "index_head_dim": 16,
    "index_n_heads": 16,  # with few heads, many keys have a score of zero, and which of them are chosen is arbitrary
    "index_topk": 8,
    "num_experts": 4,
    "num_local_experts": 4,
    "n_routed_experts": 4,
    "moe_num_experts": 4,
    "num_routed_experts": 4,
    "zero_expert_num": 2,
    "num_experts_per_tok": 2,
    "num_experts_per_token": 2,
    "moe_topk": 2,
    "moe_k": 2,
    "top_k": 2,
    "moe_top_k": 2,
    "top_k_experts": 2,
    "num_experts_per_group": 1,
    "n_shared_experts": 1,
    "num_shared_experts": 1,
    "moe_num_shared_experts": 1,
    "n_group": 1,
    "topk_group": 1,
    "first_k_dense_replace": 1,
    "num_dense_layers": 1,
    "max_position_embeddings": CONTEXT,
    "n_positions": CONTEXT,
    "n_ctx": CONTEXT,
    "max_seq_len": CONTEXT,
    "context_length": CONTEXT,
    "sliding_window": WINDOW,
    "attention_chunk_size": WINDOW,
    "window_size": WINDOW,
    "attention_window_size": WINDOW,
    "local_attention": WINDOW,
    "conv_L_cache": 3,
    "linear_num_key_heads": 2,
    "linear_num_value_heads": 4,
    "linear_key_head_dim": 8,
    "linear_value_head_dim": 8,
    "mamba_n_heads": 8,
    "mamba_num_heads": 8,
    "mamba_d_head": 16,
    "mamba_headdim": 16,
    "mamba_head_dim": 16,
    "mamba_d_state": 8,
    "mamba_d_ssm": 128,
    "mamba_n_groups": 1,
    "mamba_ngroups": 1,
    "n_mamba_heads": 2,
    "n_groups": 1,
    "mamba_expand": 2,
    "mamba_dt_rank": 8,
    "mamba_chunk_size": 16,
    "chunk_size": 16,
    "state_size": 8,
    "ssm_state_size": 8,
    "time_step_rank": 8,
    "adapter_rank": 8,
    "laurel_rank": 8,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "decoder_start_token_id": 1,
}
"""Setting -> its value in a tiny network, wherever an architecture has it."""
_MAPPINGS = {
    "text": modeling_auto.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES,
    "image": modeling_auto.MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES,
    "any": modeling_auto.MODEL_FOR_MULTIMODAL_LM_MAPPING_NAMES,
}
_CLASSES = {"text": AutoModelForCausalLM, "image": AutoModelForImageTextToText, "any": AutoModelForMultimodalLM}
_LAYER_COUNTS = ("num_hidden_layers", "n_layer", "n_layers", "num_layers", "decoder_layers", "num_decoder_layers")


def architectures() -> list[tuple[str, str]]:
    """List (model type, task) of all architectures that predict the next token, with and without images."""
    text, image, other = _MAPPINGS.values()
    found = [(kind, "text") for kind in text] + [(kind, "image") for kind in image]
    return sorted(found + [(kind, "any") for kind in other if kind not in text and kind not in image])


def tiny_settings(default: Any) -> dict[str, Any]:
    """Reduce the settings of a config with default values, and those of the configs within it."""
    values = default.to_dict()
    layers = next((values[name] for name in _LAYER_COUNTS if isinstance(values.get(name), int)), None)
    reduced: dict[str, Any] = {}
    for name, value in values.items():
        part = getattr(default, name, None) if isinstance(value, dict) else None
        if hasattr(part, "to_dict"):
            of_part = SPECIAL.get(part.model_type, {}) | SPECIAL.get(f"{default.model_type}.{name}", {})
            reduced[name] = tiny_settings(part) | of_part
            if part.model_type:
                reduced[name]["model_type"] = part.model_type
        elif isinstance(value, dict) and "mrope_section" in value:
            reduced[name] = value | {"mrope_section": _mrope_section(value.get("partial_rotary_factor", 1.0))}
        elif name in ("head_dim", "qk_head_dim") and values.get("qk_rope_head_dim"):
            reduced[name] = 8 if name == "head_dim" else 16  # the part of a head that is rotated
        elif name == "num_key_value_heads" and values.get("kv_lora_rank"):
            reduced[name] = HEADS  # latent attention has a key for each query
        elif name in SETTINGS and isinstance(value, list):
            reduced[name] = [SETTINGS[name]] * len(value)
        elif name in SETTINGS and (value is not None or name.endswith("_token_id")):
            reduced[name] = SETTINGS[name]
        elif isinstance(value, list) and layers is not None and len(value) == layers > LAYERS:
            kinds = list(dict.fromkeys(map(_hashable, value)))
            reduced[name] = [value[list(map(_hashable, value)).index(kinds[i % len(kinds)])] for i in range(LAYERS)]
        elif re.search(r"_token_(id|index)$", name) and isinstance(value, int):
            reduced[name] = VOCABULARY - 1
    rotary = reduced.get("rope_parameters", values.get("rope_parameters"))
    if "mrope_section" in getattr(default, "ignore_keys_at_rope_validation", ()) and isinstance(rotary, dict):
        share = rotary.get("partial_rotary_factor", values.get("partial_rotary_factor")) or 1.0
        reduced["rope_parameters"] = rotary | {"mrope_section": _mrope_section(share)}
    return reduced


def _mrope_section(share: float) -> list[int]:
    """Return how many pairs of a head are rotated by each of the three coordinates of an image."""
    rotated = int(HEAD * share) // 2
    third = rotated // 3
    return [rotated - 2 * third, third, third]


def _hashable(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


def tiny_config(kind: str) -> Any:
    """Build the config of a tiny network of an architecture."""
    make = CONFIG_MAPPING[kind]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        settings = tiny_settings(make(**REQUIRED.get(kind, {}))) | SPECIAL.get(kind, {})
        return make(**settings)


def tiny_network(kind: str, task: str) -> Any:
    """Build a tiny network with random weights in fp32. Norms and biases are random too, so that none has no effect."""
    torch.manual_seed(5)
    network = _CLASSES[task].from_config(tiny_config(kind), dtype=torch.float32)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    return network.eval()


REQUIRED: dict[str, dict[str, Any]] = {
    "gemma4_assistant": {"text_config": {"hidden_size_per_layer_input": 0}},
}
"""Arguments without which an architecture's default config can't be built."""
_DECODER = {"is_decoder": True}
_BOTH = {"encoder_layers": LAYERS, "num_encoder_layers": LAYERS, "num_hidden_layers": LAYERS}
_GEMMA4 = {"global_head_dim": 32, "num_global_key_value_heads": KEY_HEADS, "hidden_size_per_layer_input": 16}
_MAMBA = {"layer_types": ["linear_attention", "linear_attention", "linear_attention", "full_attention"]}
_TWICE = {"attention_hidden_size": 2 * WIDTH, "attention_head_dim": 2 * WIDTH // HEADS}
_QSA = {
    "indexer_n_heads": 16,
    "indexer_kv_heads": 1,
    "indexer_head_dim": 16,
    "indexer_budget": 8,
    "indexer_compress_ratio": 2,
}
_ROTATED = {"rope_type": "default", "rope_theta": 10_000.0}
_TWO_KINDS = {"layer_types": ["sliding_attention", "full_attention"] * 2}
SPECIAL: dict[str, dict[str, Any]] = {
    "bailing_hybrid": {"linear_head_dim": 16, "linear_num_heads": 4, "num_expert_group": 1, "n_group": 1},
    "bamba": {"attn_layer_indices": [3]},
    "bart": _BOTH,
    "bigbird_pegasus": _BOTH,
    "blenderbot": _BOTH,
    "blenderbot-small": _BOTH,
    "cohere_compass_text": {
        "layer_types": ["sliding_attention", "full_attention"] * 2,
        "rope_parameters": dict.fromkeys(("sliding_attention", "full_attention"), _ROTATED),
    },
    "cpmant": {"dim_ff": INNER},
    "ctrl": {"dff": INNER},
    "dbrx": {"attn_config": {"rope_theta": 10_000.0, "kv_n_heads": KEY_HEADS, "clip_qkv": 8.0}},
    "deepseek_v2": {"num_experts_per_tok": 2, "first_k_dense_replace": 1},
    "dots3_note.vision_config": {"adapter_in_dim": WIDTH, "adapter_out_dim": WIDTH},
    "dots3_note.audio_config": {"adapter_input_size": WIDTH, "adapter_out_dim": WIDTH},
    "dots3_note_text": {
        "num_key_value_heads": HEADS,
        "swa_num_attention_heads": HEADS,
        "swa_num_key_value_heads": HEADS,
        "swa_q_lora_rank": 32,
        "swa_kv_lora_rank": 32,
        "swa_head_dim": HEAD,
        "swa_qk_nope_head_dim": HEAD // 2,
        "swa_v_head_dim": HEAD,
    },
    "dots1": {"n_routed_experts": 4, "n_shared_experts": 1, "n_group": 1, "topk_group": 1, "num_experts_per_tok": 2},
    "ernie4_5_vl_moe_text": {"rope_parameters": _ROTATED | {"mrope_section": [3, 3, 2]}},
    "gemma3n_text": {
        "num_kv_shared_layers": 2,
        "layer_types": ["sliding_attention", "full_attention"] * 2,
        "activation_sparsity_pattern": [0.95, 0.0, 0.0, 0.0],
        "intermediate_size": [INNER] * LAYERS,
    },
    "gemma4_text": _GEMMA4,
    "gemma4_unified_text": _GEMMA4,
    "granitemoehybrid": _MAMBA | {"num_local_experts": 4, "position_embedding_type": "rope"},
    "hunyuan_v1_dense": {"head_dim": HEAD},
    "hunyuan_v1_moe": {"head_dim": HEAD},
    "jamba": {"attn_layer_period": 2, "attn_layer_offset": 1},
    "hunyuan_vl_text": {"head_dim": HEAD},
    "mistral4": {"head_dim": HEAD},
    "lfm2_moe": {"layer_types": ["conv", "conv", "conv", "full_attention"]},
    "marian": _BOTH | {"decoder_vocab_size": VOCABULARY},
    "mamba2": {"num_heads": 8},
    "mbart": _BOTH,
    "ministral": {"head_dim": HEAD},
    "mvp": _BOTH,
    "nemotron": {"num_key_value_heads": KEY_HEADS, "head_dim": HEAD},
    "paddleocr_vl_text": {"rope_parameters": _ROTATED | {"mrope_section": [4, 2, 2]}},
    "pegasus": _BOTH,
    "plbart": _BOTH,
    "prophetnet": {
        "num_encoder_layers": LAYERS,
        "num_decoder_layers": LAYERS,
        "num_decoder_attention_heads": HEADS,
        "num_encoder_attention_heads": HEADS,
    },
    "qwen4_exp_text": _QSA,
    "step3p7.text_config": {"sliding_window": WINDOW},
    "reformer": _DECODER | {"attention_head_size": HEAD, "axial_pos_embds": False, "feed_forward_size": INNER},
    "roc_bert": _DECODER | {"pronunciation_vocab_size": 128, "shape_vocab_size": 128},
    "xlnet": {"d_inner": INNER, "d_head": HEAD},
    "xlstm": {  # its kernels round to bf16 by default
        "num_heads": 2,
        "hidden_size": 2 * WIDTH,
        "embedding_dim": 2 * WIDTH,
        "num_blocks": LAYERS,
        "autocast_kernel_dtype": "float32",
    },
    "xmod": _DECODER | {"default_language": "en_XX"},
    "zamba": {"mamba_d_state": 8, "n_mamba_heads": 1} | _TWICE,
    "zamba2": {"n_mamba_heads": 4, "mamba_headdim": 32, "num_key_value_heads": HEADS} | _TWICE,
    "emu3": {"vocabulary_map": {"<image>": VOCABULARY - 1, "<|extra_200|>": VOCABULARY - 2}},
    "chameleon": {"vocabulary_map": {"<image>": VOCABULARY - 1}},
    "deepseek_ocr2.text_config": {
        "mlp_layer_types": ["dense", "sparse", "sparse", "sparse"],
        "num_experts_per_tok": 2,
        "n_group": 1,
        "topk_group": 1,
    },
    "diffusion_gemma.text_config": {"num_experts": 4, "top_k_experts": 2, "moe_intermediate_size": 32},
    "fun_asr_nano.adaptor_config": {"intermediate_size": WIDTH // 4},
    "glm5_next.text_config": {"index_kpool": 4, "num_key_value_heads": HEADS, "qk_rope_head_dim": 0},
    "granite_docling.vision_config": {"out_hidden_size": WIDTH},
    "granite4_vision": {"deepstack_layer_map": [[0, 1]], "downsample_rate": "1/2"},
    "inkling2.vision_config": {"text_hidden_size": WIDTH},
    "inkling2.audio_config": {"text_hidden_size": WIDTH},
    "molmo2.adapter_config": {"vision_feature_layer": [1, 0]},
    "muse_spark.audio_config": {"out_hidden_size": WIDTH},
    "nemotron_h_omni.vision_config": {"video_temporal_patch_size": 2},
    "zaya": {"num_experts_per_tok": 1},
}
"""Settings of single architectures, and of a part of one."""
for _kind in (
    *("bert", "bert-generation", "big_bird", "camembert", "data2vec-text", "electra", "ernie", "megatron-bert"),
    *("rembert", "roberta", "roberta-prelayernorm", "roformer", "xlm-roberta", "xlm-roberta-xl"),
):
    SPECIAL[_kind] = _DECODER
