"""Records of an audit: what a result depends on, and whether it can be recomputed."""

from __future__ import annotations

from pydantic import Field

from sizewise.records.base import Record


class Recomputed(Record):
    """The numbers of one record, recomputed from its stored items."""

    kind: str
    """Kind of the record."""
    id: str
    """Record id."""
    numbers: int
    """Number of recomputed values."""
    differing: tuple[str, ...] = ()
    """Numbers that differ, with both values."""
    not_computed: tuple[str, ...] = ()
    """Numbers that only a new measurement could verify (timings, sizes)."""
    from_answers: int = 0
    """Statistics of items that were computed again from the stored answers and references."""


class Audit(Record):
    """Everything that a result depends on."""

    root: str
    """Id of the audited record."""
    records: dict[str, str]
    """Id -> kind, for the result and all of its dependencies."""
    files: dict[str, str]
    """Path -> SHA-256 of the file."""
    licenses: dict[str, str]
    """Model or source -> license."""
    versions: dict[str, str]
    """Versions of the software; several if records were made with different versions."""
    people: dict[str, int] = Field(default_factory=dict)
    """Origin -> number of votes."""
    changed: tuple[str, ...] = ()
    """Files whose content doesn't match the manifest of the pack."""
    recomputed: tuple[Recomputed, ...] = ()
    """Recomputed records."""
    sound: bool
    """Whether no file changed and every recomputed number matches."""
    pack: str | None = None
    """Path of the pack."""
