"""The result of reading files or a demo."""

from __future__ import annotations

import hashlib
from collections import Counter
from dataclasses import dataclass, field

from sizewise.records import Document, Example, RejectedRow


@dataclass(frozen=True)
class Reading:
    """Documents and examples of one or more sources.

    Attributes:
        documents: Cleaned texts.
        examples: Prompts with references.
        not_read: Reason -> number of files that were skipped for it.
        notes: Remarks that matter for interpreting scores.
        forms: Detected row format -> number of rows.
        rejected: Rows that could not be used.
    """

    documents: tuple[Document, ...] = ()
    examples: tuple[Example, ...] = ()
    not_read: dict[str, int] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    forms: dict[str, int] = field(default_factory=dict)
    rejected: tuple[RejectedRow, ...] = ()


@dataclass
class FileRead:
    """Documents and examples of one file.

    Attributes:
        documents: The file's text, or the rows that hold only a text.
        examples: Rows with a prompt and an answer.
        rejected: Rows that cannot be used.
        forms: Row format -> number of rows.
        unused: Columns that were not used.
        notes: Remarks on the file.
    """

    documents: list[Document] = field(default_factory=list)
    examples: list[Example] = field(default_factory=list)
    rejected: list[RejectedRow] = field(default_factory=list)
    forms: Counter[str] = field(default_factory=Counter)
    unused: set[str] = field(default_factory=set)
    notes: list[str] = field(default_factory=list)

    @property
    def usable(self) -> int:
        """Number of usable rows."""
        return len(self.documents) + len(self.examples)


def make_document(name: str, title: str, text: str, origin: str, license: str = "not stated") -> Document:
    """Create a document from a cleaned text, with its content hash."""
    return Document(
        id=name,
        title=title,
        text=text,
        origin=origin,
        license=license,
        sha256=hashlib.sha256(text.encode("utf-8")).hexdigest(),
    )
