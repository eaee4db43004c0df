"""Mask personal data before text leaves this machine, and detect prompt injection."""

from sizewise.guard.detectors import Detector, NameDetector
from sizewise.guard.finding import KINDS, NOT_FOUND, find_personal
from sizewise.guard.masking import Mask, Unmask
from sizewise.guard.numbers import Found
from sizewise.guard.plain import matches
from sizewise.guard.signals import signals_in

__all__ = [
    "KINDS",
    "NOT_FOUND",
    "Detector",
    "Found",
    "Mask",
    "NameDetector",
    "Unmask",
    "find_personal",
    "matches",
    "signals_in",
]
