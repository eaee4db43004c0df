"""Passages of an organisation's documents, found for a question."""

from sizewise.retrieval.passages import Passage, cut, sentences_of
from sizewise.retrieval.searching import Finding, Hit, Library, whole
from sizewise.retrieval.words import size_of

__all__ = ["Finding", "Hit", "Library", "Passage", "cut", "sentences_of", "size_of", "whole"]
