"""How files are read, and what comes out of them."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Protocol, TypeVar

from sizewise.documents.personal_data import PersonalDataChoice
from sizewise.records import Document, Example, RejectedRow

T = TypeVar("T")
MAX_REJECTS = 0.05


class Rows(Protocol[T]):
    """Rows that grow while files are read: a list, or a file on disk (`sizewise.store.RowFile`)."""

    def append(self, row: T, /) -> None:
        """Add a row at the end."""

    def __len__(self) -> int: ...
    def __iter__(self) -> Iterator[T]: ...


@dataclass(frozen=True)
class ReadOptions:
    """How to read files.

    Attributes:
        max_rejects: Maximum share of unusable rows per file.
        prompt: Column of the prompt; detected if empty.
        reference: Column of the reference answer; detected if empty.
        label: Column of the label; detected if empty.
        personal_data: What becomes of personal data: keep, mask or drop.
        allow_hosts: Hosts that pages may be read from.
        max_pages: Maximum number of pages that are read from an address and the links there.
    """

    max_rejects: float = MAX_REJECTS
    prompt: str = ""
    reference: str = ""
    label: str = ""
    personal_data: PersonalDataChoice = "keep"
    allow_hosts: tuple[str, ...] = ()
    max_pages: int = 1


@dataclass
class Reading:
    """Documents and examples of one or more sources.

    Attributes:
        documents: Cleaned texts.
        examples: Prompts, with reference answers where there are any.
        not_read: Reason -> number of files that were skipped for it.
        notes: Remarks that matter for interpreting scores.
        forms: Detected row format -> number of rows.
        rejected: Rows that could not be used.
    """

    documents: Rows[Document] = field(default_factory=list)
    examples: Rows[Example] = field(default_factory=list)
    not_read: dict[str, int] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    forms: Counter[str] = field(default_factory=Counter)
    rejected: Rows[RejectedRow] = field(default_factory=list)


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
        removed: What was left out of the texts -> how often.
        remarks: Sentences that other files may share, which become one note: `kind: detail`.
    """

    documents: list[Document] = field(default_factory=list)
    examples: list[Example] = field(default_factory=list)
    rejected: list[RejectedRow] = field(default_factory=list)
    forms: Counter[str] = field(default_factory=Counter)
    unused: set[str] = field(default_factory=set)
    notes: list[str] = field(default_factory=list)
    removed: Counter[str] = field(default_factory=Counter)
    remarks: list[str] = field(default_factory=list)

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
