"""Export models to other formats and verify that the exports match."""

from sizewise.exporting.writing import FORMATS, export
from sizewise.models.parity import Bounds

__all__ = ["FORMATS", "Bounds", "export"]
