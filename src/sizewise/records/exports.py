"""Records of exports: what was written, and how exactly it does what the trained model did."""

from __future__ import annotations

from pydantic import Field

from sizewise.records.base import Record
from sizewise.records.scores import Score


class Parity(Record):
    """An export beside the model that it was made from, on the same prompts and texts."""

    reader: str
    """Software that read the export, with its version."""
    precision: str
    """Number format that it computed in."""
    prompts: int
    """Prompts that were answered."""
    agreement: Score
    """Share of the model's own greedy tokens that the export finds likeliest too, after the same text."""
    bits: Score
    """Bits a byte of held-out text more than the model needs; below zero it needs fewer."""
    min_agreement: float
    """Bound on the agreement."""
    max_bits: float
    """Bound on the bits, either way, as a share of the model's own."""
    same_text: bool
    """Whether its chat template and tokenizer turn the prompts into the same tokens."""
    reasons: tuple[str, ...] = ()
    """What is out of bounds; empty if it may be used."""


class Export(Record):
    """A model in the format of another program, checked."""

    model: str
    """Model URI that it was made from."""
    to: str
    """Format."""
    folder: str
    """Where it was written to."""
    files: dict[str, str]
    """File -> SHA-256."""
    bytes: int
    """Size of all files."""
    origin: str
    """Where the weights come from."""
    license: str
    """Licence of the weights."""
    data: str | None = None
    """Dataset that prompts and texts were taken from; None: general ones of our own."""
    parity: tuple[Parity, ...]
    """One for each program that read it."""
    notes: tuple[str, ...] = ()
    """What a user of it must know."""
    seconds: float
    """Time of writing and checking."""
    versions: dict[str, str] = Field(default_factory=dict)
    """Versions of the software at work."""
