"""Records of what is known before anything runs: the machine's health, and what a study will take and can show."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from sizewise.records.base import Record
from sizewise.records.training import Range


class Check(Record):
    """One thing that was looked at."""

    name: str
    """What."""
    state: Literal["good", "absent", "problem"]
    """`absent`: something optional is not there; `problem`: something is in the way."""
    message: str
    """What was found."""
    next: str = ""
    """The command that mends it."""


class Health(Record):
    """Whether this machine and installation can do the work."""

    checks: tuple[Check, ...]
    """What was looked at."""
    healthy: bool
    """Whether nothing is in the way."""
    versions: dict[str, str]
    """Versions of the packages that matter."""


class CandidateEstimate(Record):
    """What one candidate will take."""

    name: str
    """Its name."""
    model: str
    """Model URI, or `scratch`."""
    parameters: int | None
    """Parameters, where they are known before anything is fetched."""
    memory_bytes: int | None
    """Memory of its weights, or of its training where it is trained."""
    fits: bool | None
    """Whether that fits into the memory that is free."""
    train_minutes: float | None
    """Time of its training, as the recipe says or as arithmetic expects."""
    measure_minutes: Range | None
    """Time of measuring it; None for remote ones."""
    usd: Range | None
    """List price of its answers; None where it costs nothing but the machine's time, or no price is known."""
    notes: tuple[str, ...] = ()
    """What a user must know."""


class DryRun(Record):
    """What a study will take, and what its data can show, before it starts."""

    dataset: str
    """Dataset id; it was read, nothing else was done."""
    train_documents: int
    """Documents to train on."""
    train_bytes: int
    """Their size in bytes of UTF-8."""
    test_passages: int
    """Passages that will be measured."""
    test_examples: int
    """Examples that will be asked."""
    uncontaminated_examples: int
    """Those of them that share nothing with training."""
    test_documents: int
    """Source documents of what is measured: intervals rest on them."""
    can_show: Range | None
    """Least difference in a share of right answers that would be shown in four of five studies; low if items of one
    document differ as much as others, high if they are all alike."""
    candidates: tuple[CandidateEstimate, ...]
    """What each candidate will take."""
    minutes: Range
    """Time of the whole, remote answers not counted."""
    usd: Range
    """Money for remote models."""
    disk_bytes: int
    """What will be fetched and written, about."""
    blockers: tuple[str, ...] = Field(default=())
    """What keeps it from running."""
    warnings: tuple[str, ...] = ()
    """What will make its verdict weak."""
