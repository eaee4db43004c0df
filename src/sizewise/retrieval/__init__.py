"""Split documents into passages and search them (BM25); encode texts as vectors."""

from sizewise.retrieval.encoder import Encoded, Encoder
from sizewise.retrieval.packaged_encoders import ENCODERS, encoder_folder, open_encoder
from sizewise.retrieval.passages import Passage, cut
from sizewise.retrieval.searching import Finding, Hit, Library

__all__ = [
    "ENCODERS",
    "Encoded",
    "Encoder",
    "Finding",
    "Hit",
    "Library",
    "Passage",
    "cut",
    "encoder_folder",
    "open_encoder",
]
