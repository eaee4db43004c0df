"""Passages of an organisation's documents, found for a question."""

from sizewise.retrieval.passages import Passage, cut, sentences_of
from sizewise.retrieval.searching import Finding, Hit, Library

__all__ = ["Finding", "Hit", "Library", "Passage", "cut", "sentences_of"]
