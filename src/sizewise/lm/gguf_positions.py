"""Scaled rotary positions in GGUF files: Llama 3's tensor of factors, and the settings of linear scaling and YaRN.

transformers doesn't read them. A Llama 3.2 file read without them computes other positions, without an error.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import gguf
import numpy as np
import numpy.typing as npt
import torch

FACTORS = "rope_freqs.weight"
"""Tensor of what each rotary frequency is divided by, (width of a head / 2,)."""
LONG, SHORT = "rope_factors_long.weight", "rope_factors_short.weight"
"""Tensors of what each rotary frequency is divided by in texts above and up to the original context."""
YARN_DEFAULTS = {"beta_fast": 32.0, "beta_slow": 1.0}
SAME = 1e-3
"""Largest relative difference between stored factors and those of the settings inferred from them."""

Vector = npt.NDArray[np.float32]


def why_not_writable(config: Any, architecture: str) -> str:
    """Return why GGUF doesn't support a network's positions; "" if it does.

    Args:
        config: the network's config.
        architecture: its name in GGUF.
    """
    rope = getattr(config, "rope_parameters", None) or {}
    parts = [rope] if "rope_type" in rope else [part for part in rope.values() if isinstance(part, dict)]
    kinds = {str(part.get("rope_type", "default")) for part in parts} - {"default"}
    if not kinds:
        return ""
    kind = min(kinds)
    if "rope_type" not in rope or kind not in ("linear", "llama3", "yarn"):
        return f"'{kind}' rotary positions aren't supported"
    if kind == "llama3" and architecture != "llama":
        return f"'{architecture}' networks have no tensor for 'llama3' rotary positions"
    usual = 0.1 * math.log(float(rope["factor"])) + 1
    stated = rope.get("attention_factor")
    if kind == "yarn" and (
        rope.get("mscale")
        or rope.get("mscale_all_dim")
        or not rope.get("truncate", True)
        or (stated is not None and not math.isclose(float(stated), usual, rel_tol=SAME))
    ):
        return "its YaRN positions scale attention by another factor than llama.cpp's"
    return ""


def add_positions(writer: gguf.GGUFWriter, config: Any) -> Vector | None:
    """Write the settings of scaled positions; return the tensor FACTORS if there is one.

    Args:
        writer: writes the file.
        config: config of a network that `why_not_writable` accepts.
    """
    rope = getattr(config, "rope_parameters", None) or {}
    kind = rope.get("rope_type", "default")
    if kind == "llama3":
        return llama3_factors(rope, _head_width(config))
    if kind in ("linear", "yarn"):
        writer.add_rope_scaling_type(gguf.RopeScalingType(kind))
        writer.add_rope_scaling_factor(float(rope["factor"]))
    if kind == "yarn":
        writer.add_rope_scaling_orig_ctx_len(
            int(rope.get("original_max_position_embeddings") or config.max_position_embeddings)
        )
        writer.add_rope_scaling_yarn_beta_fast(float(rope.get("beta_fast") or YARN_DEFAULTS["beta_fast"]))
        writer.add_rope_scaling_yarn_beta_slow(float(rope.get("beta_slow") or YARN_DEFAULTS["beta_slow"]))
    return None


def _head_width(config: Any) -> int:
    return int(getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads)


def _frequencies(base: float, width: int) -> npt.NDArray[np.float64]:
    return np.array(1.0 / base ** (np.arange(0, width, 2) / width), dtype=np.float64)


def llama3_factors(rope: Mapping[str, Any], width: int) -> Vector:
    """Compute what Llama 3 divides each rotary frequency by, (width / 2,).

    Long waves are stretched by `factor`, short ones not at all, those between by something between.
    Source: transformers, `_compute_llama3_parameters`.
    """
    rotations = rope["original_max_position_embeddings"] * _frequencies(rope["rope_theta"], width) / (2 * math.pi)
    slow, fast = rope["low_freq_factor"], rope["high_freq_factor"]
    smooth = np.clip((rotations - slow) / (fast - slow), 0, 1)
    return np.array(1 / ((1 - smooth) / rope["factor"] + smooth), dtype=np.float32)


def _llama3_settings(factors: Vector, base: float) -> dict[str, Any] | None:
    """Infer Llama 3's settings from its factors; None if no settings give these factors.

    Lengths are known up to a common factor, so `low_freq_factor` is 1, as in all Llama 3 models.
    """
    frequencies, largest = _frequencies(base, 2 * len(factors)), float(factors.max())
    if largest <= 1:
        return None
    smooth = (1 / factors.astype(np.float64) - 1 / largest) / (1 - 1 / largest)
    between = (smooth > SAME) & (smooth < 1 - SAME)
    candidates = [(8192.0, 4.0)]  # Llama 3.1 to 3.3
    rotations = 1 + 3 * smooth[between]  # within the trained length, if `high_freq_factor` is 4
    candidates += [(round(float(length)), 4.0) for length in rotations / frequencies[between] * 2 * math.pi]
    if between.sum() >= 2:
        slope, start = np.polyfit(frequencies[between] / (2 * math.pi), smooth[between], 1)
        if start < 0 < slope:
            candidates.append((round(float(-slope / start)), 1 - 1 / float(start)))
    for length, fast in candidates:
        settings = {
            "rope_type": "llama3",
            "rope_theta": base,
            "factor": round(largest, 6),
            "low_freq_factor": 1.0,
            "high_freq_factor": round(fast, 3),
            "original_max_position_embeddings": int(length),
        }
        if np.allclose(llama3_factors(settings, 2 * len(factors)), factors, rtol=SAME):
            return settings
    return None


def read_positions(reader: gguf.GGUFReader, config: Any) -> str:
    """Add the scaled positions of a file to the config that transformers read from it.

    Returns:
        Why that is impossible; "" if the config is right.
    """
    rope = getattr(config, "rope_parameters", None) or {}
    if rope.get("rope_type", "default") != "default" or "rope_theta" not in rope:
        return ""  # transformers has read them, or the layers have several kinds of positions
    prefix = f"{reader.fields['general.architecture'].contents()}.rope.scaling"
    found = {name: _field(reader, f"{prefix}.{name}") for name in ("type", "factor", "original_context_length")}
    stored = next((tensor for tensor in reader.tensors if tensor.name == FACTORS), None)
    base = float(rope["rope_theta"])
    partial = _read_partial_rotation(reader, config)
    settings: dict[str, Any] | None
    if any(tensor.name in (LONG, SHORT) for tensor in reader.tensors):
        settings = _longrope_settings(reader, prefix, base)
        if settings is None:
            return "its rotary positions for long and short texts are incomplete"
        config.original_max_position_embeddings = settings["original_max_position_embeddings"]
    elif stored is not None and not np.allclose(stored.data, 1):
        settings = _llama3_settings(np.array(stored.data, dtype=np.float32).ravel(), base)
        if settings is None:
            return "its rotary positions are scaled in a way that transformers doesn't know"
    elif found["type"] == "linear":
        settings = {"rope_type": "linear", "rope_theta": base, "factor": float(found["factor"])}
    elif found["type"] == "yarn":
        settings = {
            "rope_type": "yarn",
            "rope_theta": base,
            "factor": float(found["factor"]),
            "original_max_position_embeddings": int(found["original_context_length"]),
        }
        for name, usual in YARN_DEFAULTS.items():
            stated = _field(reader, f"{prefix}.yarn_{name}")
            settings[name] = usual if stated is None else float(stated)
        attention = _field(reader, f"{prefix}.yarn_attn_factor") or _field(reader, f"{prefix}.attn_factor")
        if attention is not None and not math.isclose(float(attention), 1, rel_tol=SAME):
            return f"its YaRN positions scale attention by {float(attention):g}"
    elif found["type"] not in (None, "none"):
        return f"its rotary positions of the kind '{found['type']}' aren't supported"
    elif partial:
        settings = dict(rope)
    else:
        return ""
    config.rope_parameters = settings | partial
    return ""


def _longrope_settings(reader: gguf.GGUFReader, prefix: str, base: float) -> dict[str, Any] | None:
    """Return LongRoPE's settings, as of Phi-3.5 and Phi-4 mini; None if a part of them is missing."""
    factors = {
        tensor.name: np.array(tensor.data, dtype=np.float32).ravel().tolist()
        for tensor in reader.tensors
        if tensor.name in (LONG, SHORT)
    }
    switch, attention = (_field(reader, f"{prefix}.{name}") for name in ("original_context_length", "attn_factor"))
    if len(factors) < 2 or switch is None:
        return None
    return {
        "rope_type": "longrope",
        "rope_theta": base,
        "long_factor": factors[LONG],
        "short_factor": factors[SHORT],
        "original_max_position_embeddings": int(switch),
    } | ({} if attention is None else {"attention_factor": float(attention)})


def _read_partial_rotation(reader: gguf.GGUFReader, config: Any) -> dict[str, float]:
    """Return the share of each head that is rotated, as a setting of Phi, for which transformers doesn't read it."""
    architecture = reader.fields["general.architecture"].contents()
    rotated = _field(reader, f"{architecture}.rope.dimension_count")
    width = _head_width(config)
    return {"partial_rotary_factor": int(rotated or width) / width} if architecture == "phi3" else {}


def _field(reader: gguf.GGUFReader, name: str) -> Any:
    field = reader.fields.get(name)
    return None if field is None else field.contents()


def renew_frequencies(network: Any) -> None:
    """Compute a network's rotary frequencies again from its config."""
    for name, module in list(network.named_modules()):
        if "inv_freq" in dict(module.named_buffers(recurse=False)):
            with torch.device("cpu"):
                network.set_submodule(name, type(module)(network.config))
