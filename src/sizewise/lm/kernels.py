"""Compile the element-wise arithmetic between matrix products into single loops."""

from __future__ import annotations

import ctypes
import os
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Callable
from functools import lru_cache, wraps
from pathlib import Path
from typing import ParamSpec, TypeVar

import torch

P = ParamSpec("P")
T = TypeVar("T")

TRIAL = "#include <Python.h>\nint trial(void) { return 0; }\n"

_enabled = False


@lru_cache(maxsize=2)
def can_compile(device: str = "cpu") -> bool:
    """Check whether blocks can be compiled: torch.compile needs a working compiler with Python's headers.

    A small library is compiled and loaded the way torch.compile does it: a compiler without Python's headers or OpenMP,
    or a temporary folder from which nothing may be executed, would end training with an error.
    """
    if device == "cuda":  # Triton compiles its launcher, in C
        names, flags = (os.environ.get("CC"), "gcc", "clang", "cc"), []
    else:
        names, flags = (os.environ.get("CXX"), "g++", "clang++", "c++"), ["-fopenmp"] if sys.platform == "linux" else []
    compiler = next((found for name in names if name and (found := shutil.which(name))), None)
    if compiler is None:
        return False
    with tempfile.TemporaryDirectory(prefix="sizewise-compiler-") as folder:
        source, library = Path(folder) / ("trial.c" if device == "cuda" else "trial.cpp"), Path(folder) / "trial.so"
        source.write_text(TRIAL, encoding="utf-8")
        command = [compiler, "-shared", "-fPIC", *flags, f"-I{sysconfig.get_path('include')}"]
        try:
            subprocess.run([*command, str(source), "-o", str(library)], capture_output=True, check=True, timeout=60)
            ctypes.CDLL(str(library))
        except (OSError, subprocess.SubprocessError):
            return False
    return True


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
