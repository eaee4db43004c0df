"""Mask personal data before text leaves this machine, and detect prompt injection."""

from sizewise.guard.detectors import Detector, NameDetector
from sizewise.guard.finding import KINDS, NOT_FOUND, find_personal
from sizewise.guard.masking import Mask, Masked, Unmask, mask_texts
from sizewise.guard.numbers import Found
from sizewise.guard.plain import matches
from sizewise.guard.signals import SignalDetector, signals_in

__all__ = [
    "KINDS",
    "NOT_FOUND",
    "Detector",
    "Found",
    "Mask",
    "Masked",
    "NameDetector",
    "SignalDetector",
    "Unmask",
    "find_personal",
    "mask_texts",
    "matches",
    "signals_in",
]
