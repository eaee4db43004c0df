"""What makes arithmetic fast: compiled loops between the matrix products."""

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
