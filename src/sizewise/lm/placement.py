"""The device that this process was asked to use. This module doesn't load PyTorch; `lm.device` finds the device."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

VARIABLE = "SIZEWISE_DEVICE"
DEVICES = ("auto", "cpu", "cuda", "mps")


def requested_device() -> str:
    """Return the device that `use_device` or the environment variable SIZEWISE_DEVICE names; `auto` by default."""
    return os.environ.get(VARIABLE) or "auto"


@contextmanager
def use_device(device: str) -> Iterator[None]:
    """Run every model that is opened inside the block on a device, also in other threads and in child processes.

    Args:
        device: `auto`, `cpu`, `cuda` or `mps`; `auto` keeps what was requested before.
    """
    before = os.environ.get(VARIABLE)
    if device != "auto":
        os.environ[VARIABLE] = device
    try:
        yield
    finally:
        if before is None:
            os.environ.pop(VARIABLE, None)
        else:
            os.environ[VARIABLE] = before
