"""What a run will take, told before it starts: arithmetic says whether it fits, a short probe how much and how long."""

from __future__ import annotations

import contextlib
import os
import resource
import sys
from pathlib import Path
from typing import Any, NamedTuple

from sizewise.errors import SizewiseError
from sizewise.models.size import available_bytes as available_bytes
from sizewise.records import Estimate, Range, Recipe

PROCESS_BYTES = 700_000_000  # Python, PyTorch and transformers before any weight
CHUNK_TOKENS = 512  # of the loss, see lm/loss.py
WATTS_A_CORE = (3.0, 8.0, 15.0)  # assumed: idle servers to busy laptops, the whole machine's share
# How far the time of a run lay from its probe; the machine is shared.
TIME_SPREAD = (0.9, 1.35)
MEMORY_SPREAD = (0.9, 1.25)
OPTIMISER_BYTES = 16  # a trained parameter in fp32, AdamW's two moments, the best weights
BYTES_4_BIT = 0.55  # a weight in NF4 with its scales


class Shape(NamedTuple):
    """What the memory of training depends on."""

    layers: int
    width: int
    inner: int
    kv_width: int
    vocabulary: int
    parameters: int
    trained: int

    @classmethod
    def of(cls, config: dict[str, Any], parameters: int, trained: int) -> Shape:
        """Read it from a network's config.json."""
        heads = int(config["num_attention_heads"])
        size = int(config.get("head_dim") or config["hidden_size"] // heads)
        return cls(
            layers=int(config["num_hidden_layers"]),
            width=int(config["hidden_size"]),
            inner=int(config["intermediate_size"]),
            kv_width=int(config.get("num_key_value_heads") or heads) * size,
            vocabulary=int(config["vocab_size"]),
            parameters=parameters,
            trained=trained,
        )


def memory_bytes(shape: Shape, method: str, tokens: int, checkpointing: bool, width: int = 2) -> float:
    """Compute the memory that training needs besides the process itself.

    Weights (or 4 bits) and gradients as the machine computes; in fp32 the weights that are trained, two moments and
    a copy of the best weights; activations that the way back needs; logits and their gradient of one chunk.

    Args:
        shape: of the network.
        method: lora, dora, qlora or full.
        tokens: tokens in a step.
        checkpointing: whether activations are computed again.
        width: bytes of a value that the network computes with, 2 for bf16.
    """
    weights = shape.parameters * (BYTES_4_BIT if method == "qlora" else width)
    trained = shape.trained * (width + OPTIMISER_BYTES)
    # Inputs of norms, products and their gate as computed; fp32 copies in norms; adapters keep their inner values.
    block = width * (6 * shape.width + 3 * shape.kv_width + 5 * shape.inner) + 8 * shape.width
    kept = block + shape.layers * width * shape.width if checkpointing else shape.layers * block
    logits = min(tokens, CHUNK_TOKENS) * shape.vocabulary * (2 * width + 4)
    head = shape.vocabulary * shape.width * 4 if method == "full" else 0
    return weights + trained + tokens * kept + logits + head


def check_weights(weights: float, available: int | None, recipe: Recipe) -> None:
    """Refuse weights that would not even fit by themselves, before they are loaded.

    Args:
        weights: their bytes in memory.
        available: bytes that are free.
        recipe: what was asked.

    Raises:
        SizewiseError: they do not fit.
    """
    if available is None or weights <= available:
        return
    raise SizewiseError(
        f"The weights of {recipe.start} alone need {weights / 1e9:.1f} GB, and {available / 1e9:.1f} GB are free.",
        f"a model of at most {available / 1e9:.1f} GB",
        "a smaller --size" if recipe.start == "scratch" else "choose a smaller model: sizewise models",
    )


def check_memory(needed: float, least: float, available: int | None, recipe: Recipe) -> None:
    """Refuse a run that cannot fit.

    Args:
        needed: bytes that it needs.
        least: bytes that it would need with single rows and activations computed again.
        available: bytes that are free.
        recipe: what was asked.

    Raises:
        SizewiseError: it cannot fit.
    """
    if available is None or needed <= available:
        return
    if least <= available:
        smaller = "--rows-per-step 1 --checkpointing on"
    elif recipe.method == "full" and recipe.start != "scratch":
        smaller = "--method lora"
    else:
        smaller = "a smaller model, or --context 256" if recipe.start != "scratch" else "a smaller --parameters"
    raise SizewiseError(
        f"Training {recipe.start} by {recipe.method} needs about {needed / 1e9:.1f} GB, and {available / 1e9:.1f} GB "
        f"are free.",
        f"at most that; with single rows and --checkpointing on it needs about {least / 1e9:.1f} GB",
        smaller,
    )


def estimate(
    shape: Shape, memory: float, tokens: int, speed: float, overhead_s: float, usd_per_hour: float | None, device: str
) -> Estimate:
    """Turn a probe into an estimate.

    Args:
        shape: of the network.
        memory: bytes of the process or device.
        tokens: token budget.
        speed: tokens a second in the probe.
        overhead_s: seconds of warm-up and validation.
        usd_per_hour: price of the machine.
        device: where it runs.
    """
    seconds = tokens / speed + overhead_s
    lower, upper = seconds * TIME_SPREAD[0], seconds * TIME_SPREAD[1]
    time = Range(lower=lower, expected=seconds, upper=upper)
    energy = None
    if device == "cpu":
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        watts = [cores * some for some in WATTS_A_CORE]
        energy = Range(lower=lower * watts[0] / 3600, expected=seconds * watts[1] / 3600, upper=upper * watts[2] / 3600)
    price = None
    if usd_per_hour is not None:
        low_usd, expected_usd, high_usd = (some / 3600 * usd_per_hour for some in (lower, seconds, upper))
        price = Range(lower=low_usd, expected=expected_usd, upper=high_usd)
    return Estimate(
        parameters=shape.parameters,
        trained_parameters=shape.trained,
        tokens=tokens,
        tokens_per_s=speed,
        memory_bytes=Range(lower=memory * MEMORY_SPREAD[0], expected=memory, upper=memory * MEMORY_SPREAD[1]),
        seconds=time,
        energy_wh=energy,
        usd=price,
        available_bytes=available_bytes() if device == "cpu" else None,
    )


def expected_memory(shape: Shape, computed: float, device: str) -> float:
    """Give the bytes that a run will hold, after its probe.

    Args:
        shape: of the network.
        computed: bytes computed for it, without the process.
        device: where it runs; on the CPU the probe's own peak is known, and only the optimiser comes on top.
    """
    if device != "cpu":
        return computed
    return memory_peak_bytes() + shape.trained * OPTIMISER_BYTES


_highest = 0  # peak before it was last forgotten


def forget_memory_peak() -> None:
    """Let the memory peak of what comes be counted alone, where the system can (Linux)."""
    global _highest
    _highest = peak_memory_bytes()
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")


def memory_peak_bytes() -> int:
    """Give the largest resident memory since `forget_memory_peak`; since the process began where that cannot be."""
    with contextlib.suppress(OSError, StopIteration):
        lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
        return int(next(line for line in lines if line.startswith("VmHWM")).split()[1]) * 1024
    return peak_memory_bytes()


def peak_memory_bytes() -> int:
    """Give the largest resident memory of this process so far."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return max(_highest, peak if sys.platform == "darwin" else peak * 1024)
