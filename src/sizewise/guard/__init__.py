"""The guard in front of the models: what is private does not leave this machine as it is."""

from sizewise.guard.finding import KINDS, NOT_FOUND, find_personal
from sizewise.guard.masking import Mask, Unmask
from sizewise.guard.numbers import Found
from sizewise.guard.plain import matches
from sizewise.guard.signals import signals_in

__all__ = ["KINDS", "NOT_FOUND", "Found", "Mask", "Unmask", "find_personal", "matches", "signals_in"]
