"""Export models to other formats and verify that the exports match."""

from sizewise.exporting.parity import Bounds
from sizewise.exporting.writing import FORMATS, export

__all__ = ["FORMATS", "Bounds", "export"]
