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
_STATES = ("linear_attention", "mamba", "mamba2", "conv", "recurrent")  # blocks whose cache doesn't grow
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


def _attended_tokens(config: dict[str, Any], tokens: int) -> int:
    """Sum the tokens that each block attends to; a sliding window limits them."""
    layers = int(config["num_hidden_layers"])
    window = config.get("sliding_window")
    kinds = config.get("layer_types") or ["sliding_attention" if window else "full_attention"] * layers
    attending = [kind for kind in kinds if kind not in _STATES]
    return sum(min(tokens, window) if window and kind == "sliding_attention" else tokens for kind in attending)


def _heads(config: dict[str, Any]) -> int:
    return int(config.get("num_attention_heads") or 0)  # without attention, no cache grows


def _head_size(config: dict[str, Any]) -> int:
    heads = _heads(config)
    return int(config.get("head_dim") or (config["hidden_size"] // heads if heads else 0))


def cache_bytes(config: dict[str, Any], tokens: int, bytes_per_value: int) -> int:
    """Compute the size of one user's key-value cache in bytes.

    Blocks with a sliding window cache at most the window. Multi-head latent attention (DeepSeek-V2, 2024) caches one
    compressed vector per token and block.

    Args:
        config: settings of the network, see `lm.hf_format.settings_of`.
        tokens: tokens in the cache.
        bytes_per_value: 2 for bf16.
    """
    if config.get("kv_lora_rank"):
        values = int(config["kv_lora_rank"]) + int(config["qk_rope_head_dim"])
    else:
        heads = int(config.get("num_key_value_heads") or _heads(config))
        values = 2 * heads * _head_size(config)
    return values * bytes_per_value * _attended_tokens(config, tokens)


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
    full = counted.config | {"sliding_window": None}
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
        + 4 * heads * _attended_tokens(counted.config, OPERATIONS_AT),
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
