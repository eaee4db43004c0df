"""A model for other programs: written in their format, and checked against what it was made from."""

from sizewise.exporting.parity import Bounds
from sizewise.exporting.writing import FORMATS, export

__all__ = ["FORMATS", "Bounds", "export"]
