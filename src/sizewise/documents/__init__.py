"""Read files and demo domains into documents and examples."""

from sizewise.documents.cleaning import clean_text
from sizewise.documents.demos import DEMOS, read_demo
from sizewise.documents.files import read_paths
from sizewise.documents.reading import Reading
from sizewise.documents.rows import MAX_REJECTS

__all__ = [
    "DEMOS",
    "MAX_REJECTS",
    "Reading",
    "clean_text",
    "read_demo",
    "read_paths",
]
