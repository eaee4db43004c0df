"""Records of an audit: what stands behind a result, and whether it can be computed again."""

from __future__ import annotations

from pydantic import Field

from sizewise.records.base import Record


class Recomputed(Record):
    """The numbers of one record, computed again from the items beside it."""

    kind: str
    """Kind of the record."""
    id: str
    """Its id."""
    numbers: int
    """Numbers that were computed again."""
    differing: tuple[str, ...] = ()
    """Those that came out otherwise, with both values."""
    not_computed: tuple[str, ...] = ()
    """Those that only a measurement on the machine can give (times, sizes), taken as they stand."""


class Audit(Record):
    """Everything that a result rests on."""

    root: str
    """Id of what was audited."""
    records: dict[str, str]
    """Id -> kind, of the result and all that it rests on."""
    files: dict[str, str]
    """Path -> SHA-256 of its bytes."""
    licenses: dict[str, str]
    """Model or source -> its licence."""
    versions: dict[str, str]
    """Versions of the software at work; several where records were made with different ones."""
    people: dict[str, int] = Field(default_factory=dict)
    """Origin -> votes that entered."""
    changed: tuple[str, ...] = ()
    """Files whose content is not what the pack's list says."""
    recomputed: tuple[Recomputed, ...] = ()
    """What was computed again."""
    sound: bool
    """Whether nothing is changed and nothing came out otherwise."""
    pack: str | None = None
    """The file that holds it all."""
