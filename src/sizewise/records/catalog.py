"""Records of the catalog: families of models, models side by side, and what appeared since a day."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from sizewise.records.base import Record
from sizewise.records.scores import Score
from sizewise.records.training import AttentionTradeoff, Range


class ModelFamily(Record):
    """A family of models under one name."""

    name: str
    """Name of the family."""
    maker: str
    """Developer of the models."""
    aliases: tuple[str, ...] = ()
    """Other names of the family."""
    begins: tuple[str, ...]
    """Beginnings of the names of its members."""
    current: tuple[str, ...] = ()
    """Names of the models that the maker presents as the current ones, the first one first."""
    source: str
    """Page that shows which models are current."""
    seen: str
    """Date of access."""


class ModelCell(Record):
    """What is known about one point of one model: a fact with its source, a measurement, or why it is unknown."""

    kind: Literal["fact", "computed", "measured", "unknown"]
    """Published by somebody; computed from published facts; measured here; or unknown."""
    text: str = ""
    """The fact or the computed value; a measurement is in `score`, and the text says under which conditions."""
    score: Score | None = None
    """The measured value with its interval."""
    source: str = ""
    """Address of the source, or id of the record that holds the measurement."""
    as_of: str = ""
    """Day on which the source was read, or the measurement was saved (ISO date); empty if unknown."""
    unverified: bool = False
    """Whether the source is only known to state the fact, and wasn't read."""

    @model_validator(mode="after")
    def _value_or_reason(self) -> ModelCell:
        if (self.kind == "measured") != (self.score is not None):
            raise ValueError("a measured cell has a score, and no other cell has one")
        if self.kind != "measured" and not self.text:
            raise ValueError("a cell without a score has a text")
        return self


class ModelRow(Record):
    """One point on which models are set side by side."""

    group: str
    """Heading above it, such as `Size and structure`."""
    title: str
    """Name of the point, with its unit."""
    cells: tuple[ModelCell, ...]
    """One cell a model, in the order of the models."""
    note: str = ""
    """What a reader must know to compare the cells."""


class ModelColumn(Record):
    """One of the models that are set side by side."""

    name: str
    """Name in the catalog, or as given."""
    asked: str
    """The name as the user gave it."""
    maker: str = ""
    """Developer of the model; empty if unknown."""
    uri: str = ""
    """URI of the model; empty if it can't be opened."""
    retires_on: str = ""
    """Day on which the maker shuts it down (ISO date), if that was announced."""
    retired: bool = False
    """Whether it was shut down when the table was made."""
    trained_here: bool = False
    """Whether the model was trained here."""


class CacheShape(Record):
    """What decides the size of a model's key-value cache."""

    name: str
    """Name of the model."""
    layers: int
    """Blocks with attention."""
    window_layers: int
    """Those with a sliding window."""
    window: int | None
    """Width of the window in tokens."""
    bytes_per_token: int
    """Bytes that one block caches for one token, in bf16."""


class MeasuredAttention(Record):
    """What an attention pattern cost and saved in a model that was trained here."""

    name: str
    """Name of the model."""
    run: str
    """Id of its checkpoint."""
    attention: str
    """Attention of the network."""
    tradeoff: AttentionTradeoff
    """Cache with and without windows, and bits per token by position."""


class SideBySide(Record):
    """Two or more models side by side."""

    models: tuple[ModelColumn, ...]
    """The models."""
    points: tuple[ModelRow, ...]
    """Points of comparison, by group."""
    notes: tuple[str, ...] = ()
    """Notes for the reader."""
    made_on: str
    """Day on which the table was made (ISO date)."""
    prices_as_of: str = ""
    """Day up to which the price list was checked (ISO date); empty without a price list."""
    caches: tuple[CacheShape, ...] = ()
    """Shape of the key-value cache of each model whose config is known."""
    attention: tuple[MeasuredAttention, ...] = ()
    """Measured trade-offs of attention patterns."""


class NewModel(Record):
    """A model that appeared after a day."""

    name: str
    """Name of the model."""
    maker: str
    """Developer of the model, or the provider that lists it."""
    appeared: str
    """Day or month of its release, or the day on which an update first listed it."""
    basis: str
    """What that date is, and its source."""
    price: str = ""
    """List prices, if known."""
    studies: dict[str, str] = Field(default_factory=dict)
    """Id of a stored study -> why the model might change it."""


class Proposal(Record):
    """A candidate to try, proposed from published facts before anything was measured on the user's work."""

    name: str
    """Name of the candidate."""
    model: str
    """URI of the model."""
    train: bool
    """Whether the proposal is to fine-tune it."""
    reasons: tuple[str, ...]
    """Why it is worth trying."""
    blockers: tuple[str, ...] = ()
    """Why it can't be used as things are."""
    memory_bytes: int | None = None
    """Memory that it takes to run, in bytes; None for an API."""
    minutes: Range | None = None
    """Time to train, in minutes, estimated."""
    usd_per_1000: Range | None = None
    """Price of 1,000 requests at list price, for assumed lengths of prompt and answer."""
    evidence: str = "not measured on your work"
    """What is known about its quality."""
