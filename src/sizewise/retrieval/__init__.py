"""Split documents into passages, search them by words (BM25) and by meaning (vectors), and keep the index on disk."""

from sizewise.retrieval.encoder import Encoded, Encoder
from sizewise.retrieval.packaged_encoders import ENCODERS, encoder_folder, open_encoder
from sizewise.retrieval.passages import Cutting, Passage, cut
from sizewise.retrieval.searching import Finding, Hit, Library
from sizewise.retrieval.stored import NamedEncoder, Update, is_index, open_index, update_index

__all__ = [
    "ENCODERS",
    "Cutting",
    "Encoded",
    "Encoder",
    "Finding",
    "Hit",
    "Library",
    "NamedEncoder",
    "Passage",
    "Update",
    "cut",
    "encoder_folder",
    "is_index",
    "open_encoder",
    "open_index",
    "update_index",
]
