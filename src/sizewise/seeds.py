"""Which seeds there are. This module is light: the command line reads it."""

from __future__ import annotations

MAX_SEED = 2**32 - 1
"""Largest seed that NumPy takes; PyTorch takes larger ones, too."""
