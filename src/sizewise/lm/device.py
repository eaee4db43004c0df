"""Where a network runs and in which precision: cpu, cuda or mps; bf16 or fp32."""

from __future__ import annotations

from typing import Any

import torch

from sizewise.errors import SizewiseError

PRECISIONS = {"bf16": torch.bfloat16, "fp32": torch.float32}


def choose_device(requested: str) -> str:
    """Choose the device that a network runs on.

    Args:
        requested: `auto`, `cpu`, `cuda` or `mps`.

    Raises:
        SizewiseError: PyTorch can't use the requested device on this machine.
    """
    available = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if requested == "auto":
        return next(name for name, is_available in available.items() if is_available)
    if not available[requested]:
        raise SizewiseError(
            f"This machine has no {requested} device that PyTorch can use.",
            " or ".join(name for name, is_available in available.items() if is_available),
            "--device auto",
        )
    return requested


def machine_precision(device: str = "cpu") -> str:
    """Return the precision to compute in: `bf16`, or `fp32` if the processor lacks bf16 instructions.

    Without these instructions, bf16 matrix products are several times slower than fp32.
    """
    if device != "cpu":
        return "bf16"
    return "bf16" if torch.ops.mkldnn._is_mkldnn_bf16_supported() else "fp32"


def to_precision(network: Any, precision: str) -> Any:
    """Convert a network's weights to a precision. Checkpoints are kept in bf16."""
    return network.to(PRECISIONS[precision])


def free_device_bytes(device: str) -> int | None:
    """Return the free memory of a CUDA device; None for devices that share the machine's memory."""
    return int(torch.cuda.mem_get_info()[0]) if device == "cuda" else None
