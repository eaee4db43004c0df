"""What makes arithmetic fast: compiled loops between the matrix products, and memory that is kept for reuse."""

from __future__ import annotations

import ctypes
import shutil
import sys
from collections.abc import Callable
from functools import lru_cache, wraps
from typing import Any, ParamSpec, TypeVar

import torch

P = ParamSpec("P")
T = TypeVar("T")
# Of mallopt(3): what to keep at the top of the heap, from where on to map apart, how many heaps.
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD, M_ARENA_MAX = -1, -3, -8
KEPT = ((M_MMAP_THRESHOLD, 2**30), (M_TRIM_THRESHOLD, 2**31 - 1), (M_ARENA_MAX, 1))
USUAL = ((M_MMAP_THRESHOLD, 2**25), (M_TRIM_THRESHOLD, 2**26))

_enabled = False


def can_compile(device: str = "cpu") -> bool:
    """Tell whether blocks can be compiled: on CPU, torch.compile needs a C++ compiler."""
    return device == "cuda" or any(shutil.which(name) for name in ("g++", "clang++", "c++"))


def enable_kernels(wanted: bool) -> None:
    """Choose whether functions marked `fused` run compiled from now on, in this process."""
    global _enabled
    _enabled = wanted


def fused(function: Callable[P, T]) -> Callable[P, T]:
    """Mark arithmetic that becomes one compiled loop where `enable_kernels` said so."""
    compiled = lru_cache(maxsize=1)(lambda: torch.compile(function, dynamic=True))

    @wraps(function)
    def run(*args: P.args, **kwargs: P.kwargs) -> T:
        return compiled()(*args, **kwargs) if _enabled else function(*args, **kwargs)

    return run


def keep_memory() -> bool:
    """Ask glibc to keep freed memory for this process instead of giving it back to the system after each use.

    Training takes and frees the same large blocks in each step; without this, a tenth of its time goes into fetching
    their pages anew.

    Returns:
        Whether the system took it: only Linux with glibc does.
    """
    library = _libc()
    return library is not None and all(library.mallopt(what, value) for what, value in KEPT)


def release_memory() -> None:
    """Undo `keep_memory`, and give back what is free."""
    library = _libc()
    if library is not None:
        for what, value in USUAL:
            library.mallopt(what, value)
        library.malloc_trim(0)


def _libc() -> Any:
    if not sys.platform.startswith("linux"):
        return None
    try:
        library = ctypes.CDLL("libc.so.6")
        return library if library.mallopt and library.malloc_trim else None
    except (OSError, AttributeError):
        return None
