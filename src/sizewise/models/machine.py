"""The machine that speeds were measured on."""

from __future__ import annotations

import os
import platform
from functools import cache
from pathlib import Path


@cache
def describe_machine() -> str:
    """Name the processor and the cores that this process may use: `x86_64, Intel Xeon Gold 6248, 2 cores`."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    parts = [platform.machine(), _processor(), f"{cores} core{'s' * (cores > 1)}"]
    return ", ".join(dict.fromkeys(part for part in parts if part))


def _processor() -> str:
    """Return the processor's name; empty if the system doesn't report one."""
    try:
        lines = Path("/proc/cpuinfo").read_text("utf-8", errors="replace").splitlines()
    except OSError:
        return platform.processor()
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, "")
