"""The device and precision that this process was asked to use. This module doesn't load PyTorch; `lm.device` does."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

DEVICE, PRECISION = "SIZEWISE_DEVICE", "SIZEWISE_PRECISION"
"""Environment variables, so that threads and child processes use the same."""
DEVICES = ("auto", "cpu", "cuda", "mps")
IN_4_BITS = "nf4"
PRECISION_NAMES = ("auto", "bf16", "fp16", "fp32", IN_4_BITS)


def requested_device() -> str:
    """Return the device that `use_device` or the environment variable SIZEWISE_DEVICE names; `auto` by default."""
    return os.environ.get(DEVICE) or "auto"


def requested_precision() -> str | None:
    """Return the precision that `use_precision` or SIZEWISE_PRECISION names; None by default."""
    found = os.environ.get(PRECISION) or "auto"
    return None if found == "auto" else found


@contextmanager
def use_device(device: str) -> Iterator[None]:
    """Run every model that is opened inside the block on a device, also in other threads and in child processes.

    Args:
        device: `auto`, `cpu`, `cuda` or `mps`; `auto` keeps what was requested before.
    """
    with _variable(DEVICE, device):
        yield


@contextmanager
def use_precision(precision: str) -> Iterator[None]:
    """Open every local model inside the block in a precision.

    Args:
        precision: `auto`, `bf16`, `fp16`, `fp32` or `nf4`; `auto` keeps what was requested before.
    """
    with _variable(PRECISION, precision):
        yield


@contextmanager
def _variable(name: str, value: str) -> Iterator[None]:
    before = os.environ.get(name)
    if value != "auto":
        os.environ[name] = value
    try:
        yield
    finally:
        if before is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = before
