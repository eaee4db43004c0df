"""Records of exports: the files written, and how closely they match the original model."""

from __future__ import annotations

from pydantic import Field

from sizewise.records.base import Record
from sizewise.records.scores import Score


class Parity(Record):
    """Comparison of an export with its source model on the same prompts and texts."""

    reader: str
    """Software that loaded the export, with its version."""
    precision: str
    """Numeric precision used."""
    prompts: int
    """Number of prompts answered."""
    agreement: Score
    """Share of the model's greedy tokens that are also the export's top choice after the same text."""
    bits: Score
    """Extra bits per byte on held-out text compared with the model; negative is better."""
    min_agreement: float
    """Minimum agreement."""
    max_bits: float
    """Maximum relative change in bits per byte, in either direction."""
    same_text: bool
    """Whether chat template and tokenizer produce the same tokens."""
    reasons: tuple[str, ...] = ()
    """Limits that are exceeded; empty if the export is usable."""


class Export(Record):
    """A verified export of a model to another format."""

    model: str
    """Source model URI."""
    to: str
    """Target format."""
    folder: str
    """Output folder."""
    files: dict[str, str]
    """File -> SHA-256."""
    bytes: int
    """Total size of the files."""
    origin: str
    """Origin of the weights."""
    license: str
    """License of the weights."""
    data: str | None = None
    """Dataset used for prompts and texts; None for built-in ones."""
    parity: tuple[Parity, ...]
    """One result per program that loaded the export."""
    notes: tuple[str, ...] = ()
    """Notes for users."""
    seconds: float
    """Time to write and verify, in seconds."""
    versions: dict[str, str] = Field(default_factory=dict)
    """Versions of the software used."""
