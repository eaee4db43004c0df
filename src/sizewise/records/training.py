"""Records of training: the recipe, the curve and the checkpoint."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from sizewise.records.base import Record


class Recipe(Record):
    """Everything that decides what a training run does. One of `tokens` and `minutes` is the dial."""

    start: str
    """Model URI of the pretrained start, or `scratch`."""
    method: Literal["lora", "full"] = "lora"
    """Low-rank adapters on all linear layers, or all weights. A network from scratch is always `full`."""
    attention: str = "full"
    """`full` or `window:N` (sliding window of N tokens); only from scratch, pretrained ones keep their own."""
    tokens: int | None = None
    """Token budget; wins over `minutes`."""
    minutes: float | None = None
    """Time to spend; a probe turns it once into a token budget that the run keeps."""
    parameters: int = 5_000_000
    """Size of a network from scratch."""
    rank: int = Field(default=16, gt=0)
    """LoRA rank."""
    learning_rate: float | None = Field(default=None, gt=0)
    """Peak learning rate; by default what suits the method and size."""
    context: int = Field(default=512, ge=16)
    """Tokens in a training row."""
    rows_per_step: int = Field(default=2, gt=0)
    """Rows in an optimiser step."""
    example_share: float = Field(default=0.5, ge=0, le=1)
    """Share of the training tokens that come from examples, where there are any."""
    max_epochs: float = Field(default=8.0, gt=0)
    """Upper bound of passes over the training text."""
    seed: int = Field(default=0, ge=0)
    """Seed of initial weights and of the order of data."""

    @model_validator(mode="after")
    def _dial(self) -> Recipe:
        if self.tokens is None and self.minutes is None:
            raise ValueError("a recipe needs tokens or minutes")
        if (self.tokens is not None and self.tokens <= 0) or (self.minutes is not None and self.minutes <= 0):
            raise ValueError("tokens and minutes must be positive")
        if self.start == "scratch" and self.method != "full":
            raise ValueError("a network from scratch is trained in full: method must be full")
        return self


class CurvePoint(Record):
    """One moment of a training run."""

    step: int
    """Optimiser steps done."""
    tokens: int
    """Tokens seen."""
    loss: float
    """Mean training loss since the last point, nats a predicted token."""
    bits_per_byte: float | None = None
    """Validation bits per byte where it was measured at this point."""
    learning_rate: float
    """Learning rate of the last step."""
    seconds: float
    """Seconds of training so far, over all sessions of the run."""


class Checkpoint(Record):
    """A trained model: a Hugging Face folder `model/` beside this record."""

    start: str
    """Model URI of the start, or `scratch`."""
    recipe: Recipe
    """How it was made."""
    data: str
    """Dataset id it was trained on."""
    parameters: int
    """Parameters of the network."""
    trained_parameters: int
    """Parameters that were changed."""
    attention: str
    """Attention of the network in words."""
    tokens: int
    """Tokens seen, padding not counted."""
    steps: int
    """Optimiser steps."""
    epochs: float
    """Passes over the training rows."""
    best_step: int
    """Step whose weights were kept: the best validation bits per byte."""
    best_bits_per_byte: float
    """Validation bits per byte of the kept weights."""
    start_bits_per_byte: float
    """Validation bits per byte before training."""
    curve: tuple[CurvePoint, ...]
    """The run over time."""
    seconds: float
    """Wall time of training, all sessions, warm-up and validation included."""
    warmup_s: float
    """Seconds of the first step (compilation)."""
    tokens_per_s: float
    """Median training speed without warm-up and validation."""
    compiled: bool
    """Whether blocks were compiled."""
    sessions: int
    """How many times the run was started (1: never interrupted)."""
    peak_memory_bytes: int
    """Largest resident memory of the process up to the end of training."""
    origin: str
    """Where the starting weights came from."""
    licence: str
    """Licence that applies to the weights."""
    notes: tuple[str, ...] = ()
    """What a reader should know, for example what was cut or capped."""
    versions: dict[str, str]
    """Versions of the packages that matter."""
