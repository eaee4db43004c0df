"""Where a network runs and in which precision: cpu, cuda or mps; bf16, fp16 or fp32."""

from __future__ import annotations

import ctypes
from contextlib import suppress
from typing import Any

import torch

from sizewise.errors import SizewiseError, UsageError
from sizewise.lm.placement import DEVICES, requested_device

PRECISIONS = {"bf16": torch.bfloat16, "fp16": torch.float16, "fp32": torch.float32}
BYTES = {"bf16": 2, "fp16": 2, "fp32": 4}
"""Bytes per weight."""
FAST_FP16 = (7, 0)
"""CUDA compute capability from which fp16 products are fast (Volta)."""
OVERFLOW_IN_FP16 = ("gemma2", "gemma3", "gemma3_text", "glm4", "plamo2")
"""Architectures whose activations leave the range of fp16; vLLM refuses fp16 for them, too."""
DEVICE_PASS = 16_384
"""Tokens per forward pass that keep a graphics card busy."""


def choose_device(requested: str = "auto") -> str:
    """Choose the device that a network runs on.

    Args:
        requested: `auto`, `cpu`, `cuda` or `mps`. With `auto`, the device of `use_device` or SIZEWISE_DEVICE, or else
            the fastest one of this machine.

    Raises:
        SizewiseError: PyTorch can't use the requested device on this machine.
    """
    available = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    wanted = requested_device() if requested == "auto" else requested
    if wanted == "auto":
        return next(name for name, is_available in available.items() if is_available)
    if not available.get(wanted):
        known = wanted in DEVICES
        raise SizewiseError(
            f"This machine has no {wanted} device that PyTorch can use." if known else f"Unknown device '{wanted}'.",
            " or ".join(name for name, is_available in available.items() if is_available),
            "--device auto",
        )
    return wanted


def machine_precision(device: str = "cpu", training: bool = False) -> str:
    """Return the precision to compute in: `bf16` where the device has it.

    Without bf16 instructions, a processor computes bf16 matrix products several times slower than fp32, so it computes
    in fp32. A graphics card without bf16 answers and scores in fp16 and trains in fp32, because the gradients of small
    weights vanish in fp16.

    Args:
        device: `cpu`, `cuda` or `mps`.
        training: whether the network is trained.
    """
    if device == "cpu":
        return "bf16" if torch.ops.mkldnn._is_mkldnn_bf16_supported() else "fp32"
    if _has_bf16(device):
        return "bf16"
    return "fp16" if not training and _has_fast_fp16(device) else "fp32"


def inference_precision(device: str, model_type: str) -> str:
    """Return the precision to answer and score in; fp32 if the card has no bf16 and fp16 is too narrow for the network.

    Args:
        device: `cpu`, `cuda` or `mps`.
        model_type: architecture, as in config.json.
    """
    precision = machine_precision(device)
    return "fp32" if precision == "fp16" and model_type in OVERFLOW_IN_FP16 else precision


def chosen_precision(requested: str | None, device: str, model_type: str) -> str:
    """Return the precision to answer and score in: the requested one, or else that of `inference_precision`.

    Args:
        requested: `bf16`, `fp16`, `fp32` or `nf4`; None for the device's native precision.
        device: `cpu`, `cuda` or `mps`.
        model_type: architecture, as in config.json.

    Raises:
        UsageError: the activations of the network leave the range of fp16.
    """
    if requested == "fp16" and model_type in OVERFLOW_IN_FP16:
        raise UsageError(
            f"Networks of type {model_type} can't run in fp16: their activations leave its range, so that scores "
            "aren't numbers.",
            "bf16 or fp32",
            "--precision bf16, or --precision fp32 where the device has no bf16",
        )
    return requested or inference_precision(device, model_type)


def _has_bf16(device: str) -> bool:
    if device == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return device != "mps" or bool(torch.backends.mps.is_macos_or_newer(14, 0))


def _has_fast_fp16(device: str) -> bool:
    return device != "cuda" or torch.cuda.get_device_capability() >= FAST_FP16


def to_precision(network: Any, precision: str) -> Any:
    """Convert a network's weights to a precision. Checkpoints are kept in bf16."""
    return network.to(PRECISIONS[precision])


def placed(device: str) -> dict[str, Any]:
    """Return the arguments of transformers' `from_pretrained` that load weights straight to a device.

    Without them, all weights would be in the machine's memory first.
    """
    return {} if device == "cpu" else {"device_map": {"": device}}


def free_device_bytes(device: str) -> int | None:
    """Return a device's free memory in bytes; None for the CPU, which shares the machine's memory.

    Memory that PyTorch holds in reserve counts as free.
    """
    if device == "cuda":
        reserved = torch.cuda.memory_reserved() - torch.cuda.memory_allocated()
        return int(torch.cuda.mem_get_info()[0]) + reserved
    if device == "mps":
        return int(torch.mps.recommended_max_memory()) - int(torch.mps.driver_allocated_memory())
    return None


def device_bytes(device: str) -> int | None:
    """Return the memory of a device that other programs leave to this one, in bytes; None for the CPU."""
    if device == "cuda":
        return int(torch.cuda.mem_get_info()[0]) + int(torch.cuda.memory_reserved())
    return int(torch.mps.recommended_max_memory()) if device == "mps" else None


def device_name(device: str) -> str:
    """Return a graphics card's name, such as NVIDIA A10G; empty for other devices."""
    return str(torch.cuda.get_device_name()) if device == "cuda" else ""


def reset_device_peak(device: str) -> None:
    """Restart the measurement of a device's peak memory."""
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()


def device_peak_bytes(device: str) -> int | None:
    """Return the peak of allocated device memory since `reset_device_peak`; None where PyTorch doesn't count it."""
    return int(torch.cuda.max_memory_allocated()) if device == "cuda" else None


def release_memory(device: str) -> None:
    """Return memory that PyTorch or, on a CPU under Linux, the allocator holds in reserve."""
    if device == "cpu":
        with suppress(OSError, AttributeError, TypeError):  # another C library
            ctypes.CDLL(None).malloc_trim(0)
    with suppress(RuntimeError):
        if device == "cuda":
            torch.cuda.empty_cache()
        elif device == "mps":
            torch.mps.empty_cache()


def is_out_of_memory(error: BaseException) -> bool:
    """Check whether an error means that a device's memory is full. MPS raises a plain RuntimeError."""
    return isinstance(error, torch.OutOfMemoryError) or (
        isinstance(error, RuntimeError) and "out of memory" in str(error).lower()
    )
