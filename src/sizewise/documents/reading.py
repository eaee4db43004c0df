"""What reading a source yields."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field

from sizewise.records import Document, Example


@dataclass(frozen=True)
class Reading:
    """Documents and examples of one or more sources, and what was left aside.

    Attributes:
        documents: cleaned texts.
        examples: prompts with references.
        not_read: kind of file -> number of files that were found and not read.
        notes: what a reader of the scores should know.
    """

    documents: tuple[Document, ...] = ()
    examples: tuple[Example, ...] = ()
    not_read: dict[str, int] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


def make_document(name: str, title: str, text: str, origin: str, licence: str = "not stated") -> Document:
    """Make a document of a cleaned text, with its content hash."""
    return Document(
        id=name,
        title=title,
        text=text,
        origin=origin,
        licence=licence,
        sha256=hashlib.sha256(text.encode("utf-8")).hexdigest(),
    )
