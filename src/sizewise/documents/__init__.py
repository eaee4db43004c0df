"""Read files and demo domains into documents and examples."""

from sizewise.documents.cleaning import clean_text
from sizewise.documents.demos import DEMOS, read_demo
from sizewise.documents.files import read_paths
from sizewise.documents.inventory import Inventory
from sizewise.documents.personal_data import PersonalDataChoice, check_choice
from sizewise.documents.reading import MAX_REJECTS, Reading, ReadOptions

__all__ = [
    "DEMOS",
    "MAX_REJECTS",
    "Inventory",
    "PersonalDataChoice",
    "ReadOptions",
    "Reading",
    "check_choice",
    "clean_text",
    "read_demo",
    "read_paths",
]
