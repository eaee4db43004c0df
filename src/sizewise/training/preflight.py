"""Check before a run whether it fits in memory, and estimate its time and cost from a short probe."""

from __future__ import annotations

import contextlib
import math
import os
import re
import resource
import sys
from pathlib import Path
from typing import Any, NamedTuple

from sizewise.errors import SizewiseError
from sizewise.lm.device import BYTES, device_peak_bytes, free_device_bytes
from sizewise.models.size import available_bytes as available_bytes
from sizewise.models.size import stored_shapes
from sizewise.records import Estimate, Range, Recipe

PROCESS_BYTES = 700_000_000  # Python, PyTorch and transformers, before weights are loaded
RUNTIME_BYTES = 100_000_000  # of a processor's libraries and allocator during training, whatever the size: measured
CHUNK_TOKENS = 512  # of the loss, see lm/loss.py
QUERIES = 128  # of attention that are computed together, see lm/attention.py
MASK_BYTES = 5  # per query and key, for rows of several texts: what is added to the scores, and whether to
WATTS_PER_CORE = (3.0, 8.0, 15.0)  # assumed, from idle servers to busy laptops, including the rest of the machine
# Observed ratio of a run's time to the estimate from its probe, on a shared machine.
TIME_SPREAD = (0.9, 1.35)
MEMORY_SPREAD = (0.9, 1.25)
MASTER_BYTES = 4  # per trained parameter: its fp32 weight; as much again for the best one and for its gradient
MOMENT_BYTES = {"adamw": 8.0, "adamw8bit": 2.1}  # per trained parameter: AdamW's two moments
BYTES_4_BIT = 0.516  # per weight in NF4: a scale of 8 bits for 64 weights, one of 32 bits for 256 scales
IN_FULL = re.compile(r"(^|\.)(embed_\w+|wte|word_embeddings|lm_head|\w*norm\w*)\.")  # not quantized by QLoRA


class Shape(NamedTuple):
    """Sizes of a network that determine the memory of training."""

    layers: int
    width: int
    inner: int
    kv_width: int
    vocabulary: int
    parameters: int
    trained: int
    held: float = 0.0
    """Bytes of the loaded weights; 0 if they are not loaded yet."""
    heads: int = 0
    """Attention heads; 0 without attention."""

    @classmethod
    def of(cls, config: dict[str, Any], parameters: int, trained: int, held: float = 0.0) -> Shape:
        """Read the sizes from a network's settings, see `lm.hf_format.settings_of`."""
        heads = int(config.get("num_attention_heads") or 1)  # a network without attention has states of its width
        size = int(config.get("head_dim") or config["hidden_size"] // heads)
        return cls(
            layers=int(config["num_hidden_layers"]),
            width=int(config["hidden_size"]),
            inner=int(config["intermediate_size"]),
            kv_width=int(config.get("num_key_value_heads") or heads) * size,
            vocabulary=int(config.get("vocab_size") or 0),
            parameters=parameters,
            trained=trained,
            held=held,
            heads=int(config.get("num_attention_heads") or 0),
        )


def weights_bytes(folder: Path, method: str, precision: str) -> float:
    """Compute the memory of a folder's weights once they are loaded, from the headers of its files.

    Args:
        folder: a Hugging Face folder.
        method: lora, dora, qlora or full.
        precision: precision of the loaded weights; it may differ from that of the files.

    Raises:
        SizewiseError: a file is damaged.
    """
    width, total = BYTES[precision], 0.0
    for name, shape in stored_shapes(folder).items():
        in_4_bits = method == "qlora" and len(shape) == 2 and not IN_FULL.search(name)
        total += math.prod(shape) * (BYTES_4_BIT if in_4_bits else width)
    return total


def memory_bytes(
    shape: Shape,
    method: str,
    tokens: int,
    checkpointing: bool,
    width: int = 2,
    optimizer: str = "adamw",
    on_card: bool = False,
    context: int = QUERIES,
) -> float:
    """Compute the memory of training in bytes, excluding the process before it.

    Weights and the optimizer's state are always held. To them comes the largest of three moments: the end of the
    forward pass, with the activations of all blocks and the logits of one chunk; the backward pass of the last block;
    and that of the first one, with all gradients. In a block, the larger of two moments counts: its feed-forward part,
    or its attention, when what the feed-forward part had kept is free again.

    Args:
        shape: sizes of the network.
        method: lora, dora, qlora or full.
        tokens: tokens in memory at a time.
        checkpointing: whether activations are recomputed in the backward pass.
        width: bytes per value in the compute precision, 2 for bf16.
        optimizer: adamw or adamw8bit.
        on_card: whether the network is on a graphics card; the best weights stay in the machine's memory then.
        context: tokens of a row.
    """
    weights = shape.held or shape.parameters * (BYTES_4_BIT if method == "qlora" else width)
    states = shape.trained * (MASTER_BYTES + MOMENT_BYTES[optimizer] + (0 if on_card else MASTER_BYTES))
    full = method == "full"
    # Inputs of matrix products, of attention and of the gate; fp32 copies in norms; of trained norms their output, too.
    block = tokens * (
        width * ((6 if full else 4) * shape.width + 2 * shape.kv_width + 4 * shape.inner) + 8 * shape.width
    )
    if method == "dora":  # outputs of each layer before its magnitude, with and without adapter
        block += tokens * width * 2 * (3 * shape.width + 2 * shape.kv_width + 2 * shape.inner)
    inside: float = tokens * width * (2 * shape.inner + 2 * shape.width)  # gradients within a block
    inside = max(inside, _attention_bytes(shape, tokens, width, on_card, context) - tokens * width * 4 * shape.inner)
    kept = (tokens * width * shape.width if checkpointing else block) * shape.layers
    # Logits, their exponentials and probabilities in fp32; in bf16 an fp32 copy, too; two copies of the hidden states.
    loss = min(tokens, CHUNK_TOKENS) * shape.vocabulary * (width + 8 + (4 if width == 2 else 0))
    loss += tokens * width * 2 * shape.width
    loss += shape.vocabulary * shape.width * (4 + width) if full else 0  # gradient of the head
    gradients = shape.trained * max(width, MASTER_BYTES)
    moments = (kept + loss, kept + (block if checkpointing else 0) + inside, block + inside + gradients)
    return weights + states + max(moments) + (0 if on_card else RUNTIME_BYTES)


def _attention_bytes(shape: Shape, tokens: int, width: int, on_card: bool, context: int) -> float:
    """Compute the memory of the backward pass of attention, which a graphics card computes without whole scores.

    For the queries of a block, it holds scores and their gradient, with those of the block before, and four steps of
    the softmax in fp32.
    """
    if on_card or not shape.heads:
        return 0.0
    kept = 2 * width * (2 if context > QUERIES else 1)
    scores = tokens * min(context, QUERIES) * (shape.heads * (kept + 16) + MASK_BYTES)
    return scores + tokens * (2 * width * shape.width + 8 * shape.kv_width)  # gradients of queries, keys and values


def check_weights(weights: float, available: int | None, recipe: Recipe) -> None:
    """Check that the weights alone fit in memory, before they are loaded.

    Args:
        weights: size of the weights in bytes.
        available: free memory in bytes; None if unknown.
        recipe: settings of the run, for the message.

    Raises:
        SizewiseError: the weights don't fit.
    """
    if available is None or weights <= available:
        return
    raise SizewiseError(
        f"The weights of {recipe.start} alone need {weights / 1e9:.1f} GB, but only {available / 1e9:.1f} GB are free.",
        f"a model of at most {available / 1e9:.1f} GB",
        "a smaller --size" if recipe.start == "scratch" else "choose a smaller model: sizewise models",
    )


def check_memory(needed: float, minimum: float, available: int | None, recipe: Recipe) -> None:
    """Check that a run fits in memory.

    Args:
        needed: memory of the run in bytes.
        minimum: memory with one row per step and activation checkpointing, in bytes.
        available: free memory in bytes; None if unknown.
        recipe: settings of the run, for the message.

    Raises:
        SizewiseError: the run doesn't fit.
    """
    if available is None or needed <= available:
        return
    if minimum <= available:
        smaller = "--rows-per-step 1 --checkpointing on"
    elif recipe.method == "full" and recipe.start != "scratch":
        smaller = "--method lora"
    else:
        smaller = "a smaller model, or --context 256" if recipe.start != "scratch" else "a smaller --parameters"
    raise SizewiseError(
        f"Training {recipe.start} with {recipe.method} needs about {needed / 1e9:.1f} GB, but only "
        f"{available / 1e9:.1f} GB are free.",
        f"at most {available / 1e9:.1f} GB; with --rows-per-step 1 --checkpointing on it needs about "
        f"{minimum / 1e9:.1f} GB",
        smaller,
    )


def estimate(
    shape: Shape, memory: float, tokens: int, speed: float, overhead_s: float, usd_per_hour: float | None, device: str
) -> Estimate:
    """Estimate time, memory, energy and price of a run from its probe.

    Args:
        shape: sizes of the network.
        memory: memory of the process or device in bytes.
        tokens: token budget.
        speed: tokens per second in the probe.
        overhead_s: seconds of warm-up and validation.
        usd_per_hour: price of the machine.
        device: device of the run.
    """
    seconds = tokens / speed + overhead_s
    lower, upper = seconds * TIME_SPREAD[0], seconds * TIME_SPREAD[1]
    time = Range(lower=lower, expected=seconds, upper=upper)
    energy = None
    if device == "cpu":
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        watts = [cores * watts for watts in WATTS_PER_CORE]
        energy = Range(lower=lower * watts[0] / 3600, expected=seconds * watts[1] / 3600, upper=upper * watts[2] / 3600)
    price = None
    if usd_per_hour is not None:
        low_usd, expected_usd, high_usd = (time_s / 3600 * usd_per_hour for time_s in (lower, seconds, upper))
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
        available_bytes=free_bytes(device),
    )


def expected_memory(shape: Shape, computed: float, device: str, optimizer: str = "adamw") -> float:
    """Estimate the memory of a run in bytes after its probe, whose peak is known: only the optimizer is added.

    Args:
        shape: sizes of the network.
        computed: computed memory in bytes, without the process, for devices that don't report a peak.
        device: device of the run.
        optimizer: adamw or adamw8bit.
    """
    states = shape.trained * (MASTER_BYTES + MOMENT_BYTES[optimizer])
    if device == "cpu":
        return memory_peak_bytes() + states + shape.trained * MASTER_BYTES
    peak = device_peak_bytes(device)
    return computed if peak is None else peak + states


def free_bytes(device: str) -> int | None:
    """Return the free memory of a device, or of the machine for the CPU, in bytes; None if unknown."""
    return available_bytes() if device == "cpu" else free_device_bytes(device)


_highest = 0  # peak before the last reset


def reset_memory_peak() -> None:
    """Reset the peak of resident memory, where the system supports it (Linux)."""
    global _highest
    _highest = peak_memory_bytes()
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")


def memory_peak_bytes() -> int:
    """Return the peak of resident memory since `reset_memory_peak`, or of the whole process if it can't be reset."""
    with contextlib.suppress(OSError, StopIteration):
        lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
        return int(next(line for line in lines if line.startswith("VmHWM")).split()[1]) * 1024
    return peak_memory_bytes()


def peak_memory_bytes() -> int:
    """Return the peak of resident memory of this process."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return max(_highest, peak if sys.platform == "darwin" else peak * 1024)
