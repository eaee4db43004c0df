"""The machine that speeds were measured on."""

from __future__ import annotations

import os
import platform
from contextlib import suppress
from functools import cache
from pathlib import Path


def core_count() -> int:
    """Count the cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@cache
def describe_machine() -> str:
    """Name the processor and the cores that this process may use: `x86_64, Intel Xeon Gold 6248, 2 cores`."""
    cores = core_count()
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


@cache
def machine_bytes() -> int:
    """Return the machine's memory in bytes, or the container's limit if that is lower; 4 GiB if neither is reported."""
    found = []
    if hasattr(os, "sysconf") and "SC_PHYS_PAGES" in os.sysconf_names:
        found.append(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    with suppress(OSError):
        limit = Path("/sys/fs/cgroup/memory.max").read_text(encoding="utf-8").strip()
        found += [int(limit)] if limit.isdigit() else []
    return min(found, default=4 * 2**30)
