"""What reading a source yields."""

from __future__ import annotations

import hashlib
from collections import Counter
from dataclasses import dataclass, field

from sizewise.records import Document, Example, RejectedRow


@dataclass(frozen=True)
class Reading:
    """Documents and examples of one or more sources, and what was left aside.

    Attributes:
        documents: cleaned texts.
        examples: prompts with references.
        not_read: kind of file -> number of files that were found and not read.
        notes: what a reader of the scores should know.
        forms: form of rows, as recognised -> number of rows.
        rejected: rows that could not be used.
    """

    documents: tuple[Document, ...] = ()
    examples: tuple[Example, ...] = ()
    not_read: dict[str, int] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    forms: dict[str, int] = field(default_factory=dict)
    rejected: tuple[RejectedRow, ...] = ()


@dataclass
class FileRead:
    """What a file became.

    Attributes:
        documents: its text, or those of its rows that are a text alone.
        examples: its rows with a prompt and an answer.
        rejected: rows that cannot be used.
        forms: form of rows -> number of rows.
        unused: columns that no reader looked at.
        notes: what is to be told of it.
    """

    documents: list[Document] = field(default_factory=list)
    examples: list[Example] = field(default_factory=list)
    rejected: list[RejectedRow] = field(default_factory=list)
    forms: Counter[str] = field(default_factory=Counter)
    unused: set[str] = field(default_factory=set)
    notes: list[str] = field(default_factory=list)

    @property
    def usable(self) -> int:
        """Rows that became something."""
        return len(self.documents) + len(self.examples)


def make_document(name: str, title: str, text: str, origin: str, license: str = "not stated") -> Document:
    """Make a document of a cleaned text, with its content hash."""
    return Document(
        id=name,
        title=title,
        text=text,
        origin=origin,
        license=license,
        sha256=hashlib.sha256(text.encode("utf-8")).hexdigest(),
    )
