"""Compile the element-wise arithmetic between matrix products into single loops."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from functools import lru_cache, wraps
from typing import ParamSpec, TypeVar

import torch

P = ParamSpec("P")
T = TypeVar("T")

_enabled = False


def can_compile(device: str = "cpu") -> bool:
    """Check whether blocks can be compiled. On CPU, torch.compile needs a C++ compiler."""
    return device == "cuda" or any(shutil.which(name) for name in ("g++", "clang++", "c++"))


def enable_kernels(enabled: bool) -> None:
    """Turn compilation of `fused` functions on or off for this process."""
    global _enabled
    _enabled = enabled


def fused(function: Callable[P, T]) -> Callable[P, T]:
    """Decorate a function that is compiled into one loop if `enable_kernels` is on."""
    compiled = lru_cache(maxsize=1)(lambda: torch.compile(function, dynamic=True))

    @wraps(function)
    def run(*args: P.args, **kwargs: P.kwargs) -> T:
        return compiled()(*args, **kwargs) if _enabled else function(*args, **kwargs)

    return run
