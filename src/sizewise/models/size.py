"""Compute a model's size from its files and config, without loading weights."""

from __future__ import annotations

import json
import math
import os
import re
from pathlib import Path
from typing import Any

from sizewise.errors import SizewiseError
from sizewise.lm.weight_files import weight_files
from sizewise.records import ModelSize

BITS = {"fp32": 32.0, "bf16": 16.0, "int8": 8.5, "int4": 4.5}
"""Bits per weight, including the scales of 32-weight blocks (as in GGUF's Q8_0 and Q4_0)."""
CONTEXTS = (1_024, 8_192, 32_768, 131_072)
OPERATIONS_AT = 1_024
BF16 = 2
CGROUP = Path("/sys/fs/cgroup")
_STATES = ("linear_attention", "mamba", "mamba2", "conv", "recurrent", "moe", "mlp")  # blocks whose cache doesn't grow
# Weights of a multimodal model outside its text part.
_NOT_TEXT = re.compile(
    r"(^|\.)(vision|visual|audio|image|multi_modal|mm_|connector|projector|embed_vision|embed_audio)"
)


def weight_bytes(folder: Path) -> int:
    """Compute the total size of a folder's weight files in bytes."""
    return sum(path.stat().st_size for path in weight_files(folder))


def stored_parameters(folder: Path) -> int | None:
    """Count the parameters in the headers of a folder's weight files; None without weight files.

    Of a multimodal model, weights whose names belong to a vision or audio part are left out.

    Raises:
        SizewiseError: a file is damaged.
    """
    shapes = stored_shapes(folder)
    return sum(map(math.prod, shapes.values())) if shapes else None


def stored_shapes(folder: Path) -> dict[str, list[int]]:
    """Read the shapes of a model's weights from the headers of its files; of a multimodal model only the text part.

    Raises:
        SizewiseError: a file is damaged.
    """
    from safetensors import SafetensorError, safe_open

    sizes = dict[str, list[int]]()
    for path in weight_files(folder):
        try:
            with safe_open(path, "np") as file:
                for name in file.keys():  # noqa: SIM118 (not a dict)
                    sizes[name] = list(file.get_slice(name).get_shape())
        except (OSError, SafetensorError) as error:
            raise SizewiseError(
                f"{path} is not a complete safetensors file: {error}", "a complete file", "download the model again"
            ) from error
    if "text_config" in read_config(folder):
        sizes = {name: size for name, size in sizes.items() if not _NOT_TEXT.search(name)}
    return sizes


def _block_types(config: dict[str, Any]) -> list[str]:
    """Return the type of each block under transformers' names, which hybrids state in different ways."""
    layers = int(config.get("decoder_layers") or config["num_hidden_layers"])
    if stated := config.get("layer_types") or config.get("layers_block_type"):
        return list(stated)[:layers]
    if (period := config.get("attn_layer_period")) is not None:
        attending = set(range(int(config.get("attn_layer_offset") or 0), layers, int(period)))
    elif (indices := config.get("attn_layer_indices")) is not None:
        attending = set(indices)
    else:
        attending = set(range(layers))
    attending -= set(config.get("cross_attention_layers") or ())  # they attend to images
    kind = "sliding_attention" if config.get("sliding_window") else "full_attention"
    return [kind if number in attending else "recurrent" for number in range(layers)]


def _attended_tokens(config: dict[str, Any], tokens: int) -> list[int]:
    """Return the tokens that each block attends to; a sliding window or chunks limit them."""
    limits = {"sliding_attention": "sliding_window", "chunked_attention": "attention_chunk_size"}
    found = []
    for kind in _block_types(config):
        limit = config.get(limits.get(kind, "")) or tokens
        found.append(0 if kind in _STATES else min(tokens, limit))
    return found


def _heads(config: dict[str, Any]) -> int:
    return int(config.get("num_attention_heads") or 0)  # without attention, no cache grows


def _head_size(config: dict[str, Any]) -> int:
    heads = _heads(config)
    stated = config.get("head_dim") or config.get("attention_head_dim")
    return int(stated or (config["hidden_size"] // heads if heads else 0))


def _key_value_heads(config: dict[str, Any]) -> int:
    """Return the heads of keys and values. Falcon and StarCoder may share one among all heads."""
    heads = _heads(config)
    if config.get("new_decoder_architecture"):
        return int(config.get("num_kv_heads") or heads)
    if "multi_query" in config:
        return 1 if config["multi_query"] else heads
    return int(config.get("num_key_value_heads") or heads)


def _cached_values(config: dict[str, Any]) -> list[int]:
    """Return the numbers that each block caches for a token; blocks that share those of another one cache none."""
    kinds = _block_types(config)
    if config.get("kv_lora_rank"):
        indexer = int(config.get("index_head_dim") or 0)  # sparse attention finds its tokens by a key of its own
        sources = config.get("indexer_types") or ["full"] * len(kinds)
        latent = int(config["kv_lora_rank"]) + int(config["qk_rope_head_dim"])
        return [latent + (indexer if source == "full" else 0) for source in sources[: len(kinds)]]
    # A config.json of Gemma 4 states the heads of its global blocks so; transformers turns that into exceptions.
    of_global = {"head_dim": config.get("global_head_dim")}
    if config.get("attention_k_eq_v"):
        of_global["num_key_value_heads"] = config.get("num_global_key_value_heads")
    special = {int(block): more for block, more in (config.get("per_layer_config") or {}).items()}
    values = []
    for number, kind in enumerate(kinds):
        more = {name: value for name, value in of_global.items() if value and kind == "full_attention"}
        block = config | more | special.get(number, {})
        values.append(2 * _key_value_heads(block) * _head_size(block))
    own = len(values) - int(config.get("num_kv_shared_layers") or 0)
    return values[:own] + [0] * (len(values) - own)


def cache_bytes(config: dict[str, Any], tokens: int, bytes_per_value: int) -> int:
    """Compute the size of one user's key-value cache in bytes.

    Blocks with a sliding window cache at most the window, and recurrent ones nothing that grows. Multi-head latent
    attention (DeepSeek-V2, 2024) caches one compressed vector per token and block.

    Args:
        config: settings of the network, see `lm.hf_format.settings_of`.
        tokens: tokens in the cache.
        bytes_per_value: 2 for bf16.
    """
    pairs = zip(_cached_values(config), _attended_tokens(config, tokens), strict=True)
    return bytes_per_value * sum(values * attended for values, attended in pairs)


def read_config(folder: Path) -> dict[str, Any]:
    """Load a folder's config.json.

    Raises:
        SizewiseError: the file is missing or not a JSON object.
    """
    path = folder / "config.json"
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(found, dict):
            raise ValueError("not an object")
    except (OSError, ValueError, RecursionError) as error:
        raise SizewiseError(
            f"{path} can't be read: {error}", "the config.json of a Hugging Face model", "sizewise models"
        ) from error
    return found


def size_of(config: dict[str, Any], uri: str, stored: int | None = None, free_bytes: int | None = None) -> ModelSize:
    """Compute the size of a model: parameters, memory of weights and cache, and operations per token.

    Args:
        config: contents of config.json.
        uri: URI of the model.
        stored: parameters in the weight files, if they are on this machine.
        free_bytes: free memory of this machine.

    Raises:
        SizewiseError: the config can't be interpreted or doesn't match the weights.
    """
    from sizewise.lm.sizing import count

    counted = count(config)
    least, most = counted.parameters, counted.parameters + counted.table + counted.buffers
    if "text_config" in config:  # it may tie the head where its text part doesn't, and name other parts as it likes
        least, most = least - counted.table, max(most, stored or 0)
    if stored is not None and not least <= stored <= most and not counted.whole:
        raise SizewiseError(
            f"The config of {uri} describes {counted.parameters:,} parameters, but its weight files hold {stored:,}.",
            "a config.json that belongs to the weights",
            "download the model again",
        )
    full = counted.config | {"sliding_window": None, "attention_chunk_size": None}
    longest = counted.config.get("max_position_embeddings")
    contexts = [tokens for tokens in CONTEXTS if not longest or tokens <= longest] or [int(longest or CONTEXTS[0])]
    weights = {name: round(counted.parameters * bits / 8) for name, bits in BITS.items()}
    cache = {tokens: cache_bytes(counted.config, tokens, BF16) for tokens in contexts}
    heads = _heads(counted.config) * _head_size(counted.config)
    room = cache[contexts[0]]
    return ModelSize(
        uri=uri,
        architecture=str((config.get("architectures") or [config.get("model_type")])[0]),
        attention=counted.attention,
        context=longest,
        parameters=counted.parameters,
        active_parameters=counted.active,
        weight_bytes=weights,
        cache_bytes=cache,
        full_cache_bytes={tokens: cache_bytes(full, tokens, BF16) for tokens in contexts},
        operations=2 * (counted.active - counted.looked_up)
        + 4 * heads * sum(_attended_tokens(counted.config, OPERATIONS_AT)),
        free_bytes=free_bytes,
        fits={} if free_bytes is None else {name: size + room <= free_bytes for name, size in weights.items()},
    )


def _reclaimable(statistics: Path) -> int:
    """Return the bytes in a container's page cache, which counts as used but is given up when memory is short."""
    try:
        rows = dict(line.split() for line in statistics.read_text(encoding="utf-8").splitlines())
        return sum(int(rows.get(name, 0)) for name in ("active_file", "inactive_file", "slab_reclaimable"))
    except (OSError, ValueError):
        return 0


def available_bytes() -> int | None:
    """Return the free memory in bytes, within a container's limit; None if the system doesn't report it."""
    found: list[int] = []
    try:
        for line in Path("/proc/meminfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("MemAvailable:"):
                found.append(int(line.split()[1]) * 1024)
    except OSError:
        if hasattr(os, "sysconf") and "SC_PHYS_PAGES" in os.sysconf_names:
            found.append(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    try:
        limit = (CGROUP / "memory.max").read_text(encoding="utf-8").strip()
        used = int((CGROUP / "memory.current").read_text(encoding="utf-8"))
        if limit.isdigit():
            found.append(int(limit) - used + _reclaimable(CGROUP / "memory.stat"))
    except (OSError, ValueError):
        pass
    return min(found) if found else None
