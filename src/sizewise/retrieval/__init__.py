"""Split documents into passages and search them (BM25)."""

from sizewise.retrieval.passages import Passage, cut
from sizewise.retrieval.searching import Finding, Hit, Library

__all__ = ["Finding", "Hit", "Library", "Passage", "cut"]
