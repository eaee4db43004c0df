"""How files are read, and what comes out of them."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol, TypeVar

from sizewise.documents.personal_data import PersonalData, PersonalDataChoice, Tokens
from sizewise.documents.tables import column_name
from sizewise.errors import UsageError, shown_path
from sizewise.records import Document, Example, RejectedRow, StatedQuestion

T = TypeVar("T")
LABEL_KEYS = ("label_text", "label_name", "label", "labels")
"""Columns of the class, if none is named."""
MAX_REJECTS = 0.05
MAX_HELD_ROWS = 20_000
MAX_HELD_CHARACTERS = 20_000_000
MAX_LISTED = 5
_KEPT = 10


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
        groups: Columns that name groups of people; they are kept for comparison and are part of no prompt.
        question: The question that the labels answer, if it isn't to be found in the data: its type and options.
        unlabeled: Whether rows may lack the label that others have, because it is to be found.
    """

    max_rejects: float = MAX_REJECTS
    prompt: str = ""
    reference: str = ""
    label: str = ""
    personal_data: PersonalDataChoice = "keep"
    allow_hosts: tuple[str, ...] = ()
    max_pages: int = 1
    groups: tuple[str, ...] = ()
    question: StatedQuestion | None = None
    unlabeled: bool = False

    def __post_init__(self) -> None:
        """Check that no column is named twice, and that a group isn't what would be the class by default.

        Raises:
            UsageError: One is.
        """
        named = [("--prompt", self.prompt), ("--reference", self.reference), ("--label", self.label)]
        seen: dict[str, str] = {}
        for option, column in (*named, *(("--groups", column) for column in self.groups)):
            if column and column_name(column) in seen:
                raise UsageError(
                    f"The column '{column}' is named twice: {seen[column_name(column)]} and {option}.",
                    "a column of its own for each",
                    "name another column, or leave one option out",
                )
            seen[column_name(column)] = option
        classes = [one for one in self.groups if column_name(one) in LABEL_KEYS]
        if classes and not self.label and not self.reference:
            raise UsageError(
                f"The column '{classes[0]}' is read as the class of a text by default, so it can't be a group as well.",
                "another column of groups, or --label with the column of the class",
                "sizewise read FILE --groups COLUMN --label COLUMN",
            )


@dataclass
class Reading:
    """Documents and examples of one or more sources.

    Attributes:
        documents: Cleaned texts.
        examples: Prompts, with reference answers where there are any.
        not_read: Reason -> number of files that were skipped for it.
        unread: Names of those files.
        notes: Remarks that matter for interpreting scores.
        forms: Detected row format -> number of rows.
        rejected: Rows that could not be used.
        removed: What was left out of texts -> how often; becomes notes at the end.
        removed_files: What was left out of texts -> in how many files.
        origins: Path of a temporary file -> the archive member or address that it is from.
        personal: What becomes of personal data.
        tokens: The tokens that stand for personal data in the whole dataset.
        skipped: Reason -> the first names of files that were skipped for it.
        excluded: Folders that are not read, where results are stored.
        folder: Where temporary files are put; the folder of the system by default.
        question: The question that the labels answer, if the user stated it.
    """

    documents: Rows[Document] = field(default_factory=list)
    examples: Rows[Example] = field(default_factory=list)
    not_read: dict[str, int] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    forms: Counter[str] = field(default_factory=Counter)
    rejected: Rows[RejectedRow] = field(default_factory=list)
    removed: Counter[str] = field(default_factory=Counter)
    removed_files: Counter[str] = field(default_factory=Counter)
    origins: dict[str, str] = field(default_factory=dict)
    personal: PersonalData = field(default_factory=PersonalData)
    tokens: Tokens = field(default_factory=Tokens)
    skipped: dict[str, list[str]] = field(default_factory=dict)
    excluded: tuple[Path, ...] = ()
    folder: Path | None = None
    question: StatedQuestion | None = None
    unread: set[str] = field(default_factory=set)

    def add_document(self, document: Document) -> None:
        """Add a document; personal data in it is masked, or the document dropped, if that was chosen."""
        origin = self.origins.get(document.origin)
        kept = self.personal.document(document.model_copy(update={"origin": origin}) if origin else document)
        if kept is not None:
            self.documents.append(kept)

    def add_example(self, example: Example) -> None:
        """Add an example; personal data in it is masked, or the example dropped, if that was chosen."""
        kept = self.personal.example(example)
        if kept is not None:
            self.examples.append(kept)

    def add_rejected(self, row: RejectedRow) -> None:
        """Add a row that cannot be used; personal data in its reason is masked, if that was chosen."""
        words = self.personal.words
        self.rejected.append(row.model_copy(update={"file": words(row.file), "reason": words(row.reason)}))

    def skip(self, name: str, reason: str) -> None:
        """Take note that a file was not read."""
        self.unread.add(name)
        reason = self.personal.words(shown_path(reason))
        self.not_read[reason] = self.not_read.get(reason, 0) + 1
        names = self.skipped.setdefault(reason, [])
        if len(names) < MAX_LISTED:
            names.append(self.personal.words(shown_path(name)))

    def count_removed(self, removed: Counter[str]) -> None:
        """Count what was left out of the texts of one file."""
        for kind, count in removed.items():
            if count:
                self.removed[kind] += count
                self.removed_files[kind] += 1

    def note_removed(self) -> None:
        """Turn the counts of what was left out into notes."""
        for kind, count in self.removed.items():
            files = self.removed_files[kind]
            self.notes.append(f"{kind}: {count:,}" + (f" in {files:,} file{'s' if files > 1 else ''}" if files else ""))
        self.removed.clear()
        self.removed_files.clear()

    def is_done(self, file: str) -> bool:
        """Check whether a file was read before, by a process that was interrupted."""
        return False

    def finish(self, file: str) -> None:
        """Take note that a file was read completely."""


@dataclass
class FileRead:
    """Documents and examples of one file.

    Attributes:
        documents: The file's text, or the rows that hold only a text.
        examples: Rows with a prompt.
        rejected: Rows that cannot be used.
        forms: Row format -> number of rows.
        unused: Columns that were not used.
        notes: Remarks on the file.
        into: Where to put rows as soon as there are many.
        first_rejected: The first of the rejected rows.
        reference_free: Number of examples without a reference.
        labelled: Number of examples with a label.
        labels: The first of the distinct labels.
        flushed: Number of usable and of rejected rows that were put there.
        removed: What was left out of the texts -> how often.
    """

    documents: list[Document] = field(default_factory=list)
    examples: list[Example] = field(default_factory=list)
    rejected: list[RejectedRow] = field(default_factory=list)
    forms: Counter[str] = field(default_factory=Counter)
    unused: set[str] = field(default_factory=set)
    notes: list[str] = field(default_factory=list)
    into: Reading | None = None
    first_rejected: list[RejectedRow] = field(default_factory=list)
    reference_free: int = 0
    labelled: int = 0
    labels: set[str] = field(default_factory=set)
    flushed: tuple[int, int] = (0, 0)
    removed: Counter[str] = field(default_factory=Counter)
    _characters: int = 0

    @property
    def usable(self) -> int:
        """Number of usable rows."""
        return self.flushed[0] + len(self.documents) + len(self.examples)

    @property
    def rejected_count(self) -> int:
        """Number of rejected rows."""
        return self.flushed[1] + len(self.rejected)

    def add(self, row: Document | Example, form: str) -> None:
        """Add a usable row."""
        self.forms[form] += 1
        if isinstance(row, Document):
            self.documents.append(row)
            self._characters += len(row.text)
            return
        self.examples.append(row)
        self._characters += sum(len(message.content) for message in row.messages) + sum(map(len, row.references))
        self.reference_free += not row.references and not row.rejected
        self.labelled += bool(row.label)
        if row.label and len(self.labels) < _KEPT:
            self.labels.add(row.label)

    def reject(self, row: RejectedRow) -> None:
        """Add a row that cannot be used."""
        self.rejected.append(row)
        if len(self.first_rejected) < _KEPT:
            self.first_rejected.append(row)

    def flush_if_large(self) -> None:
        """Put the rows where they belong if there are many of them in memory."""
        held = len(self.documents) + len(self.examples) + len(self.rejected)
        if self.into is not None and (held > MAX_HELD_ROWS or self._characters > MAX_HELD_CHARACTERS):
            self.flush_to(self.into)

    def flush_to(self, reading: Reading) -> None:
        """Move the rows to a reading."""
        self.flushed = self.usable, self.rejected_count
        for document in self.documents:
            reading.add_document(document)
        for example in self.examples:
            reading.add_example(example)
        for row in self.rejected:
            reading.add_rejected(row)
        self.documents, self.examples, self.rejected, self._characters = [], [], [], 0


def make_document(name: str, title: str, text: str, origin: str, license: str = "not stated") -> Document:
    """Create a document from a cleaned text, with its content hash."""
    name, title, origin = shown_path(name), shown_path(title), shown_path(origin)
    return Document(
        id=name,
        title=title,
        text=text,
        origin=origin,
        license=license,
        sha256=hashlib.sha256(text.encode("utf-8")).hexdigest(),
    )
