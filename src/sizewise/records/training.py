"""Records of training: the recipe, the curve and the checkpoint."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from sizewise.records.base import Record
from sizewise.records.scores import Score


class Recipe(Record):
    """Everything that decides what a training run does. One of `tokens` and `minutes` is the dial."""

    start: str
    """Model URI of the pretrained start, or `scratch`."""
    method: Literal["lora", "dora", "qlora", "full"] = "lora"
    """Low-rank adapters on all linear layers (plain, with lengths apart, or over 4-bit weights), or all weights. A
    network from scratch is always `full`."""
    attention: str = "full"
    """`full`, `window:N` (sliding window of N tokens) or `pattern:SSSL` (S: window, L: all before). Pretrained
    networks keep their own with `full`; Llama- and Mistral-shaped ones can be given windows."""
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
    document_share: float = Field(default=1.0, gt=0, le=1)
    """Share of the training documents and examples that is used, for learning curves."""
    control: str = "demo:python"
    """Text of another kind: some of it is replayed in training, the rest measures forgetting. `none`: neither."""
    control_share: float = Field(default=0.02, ge=0, lt=1)
    """Share of the training rows that replay control text; a network from scratch has nothing to forget."""
    teacher: str | None = None
    """Model URI of a teacher: with the same vocabulary its likeliest tokens are learned at each place, else texts
    that it writes."""
    teacher_share: float = Field(default=0.5, gt=0, le=1)
    """How much of the loss the teacher's expectation makes, or of the answers its texts."""
    tokenizer: str | None = None
    """Model URI whose tokenizer a network from scratch takes; by default it gets its own."""
    canaries: int = Field(default=0, ge=0, le=64)
    """Secrets planted in the training text to measure memorization, half of them once and half 16 times."""
    balance: Literal["none", "reweight", "augment"] = "none"
    """What is done about groups that the text names seldom: show such text more often, or add copies with the
    groups swapped."""
    patience: int = Field(default=3, ge=0)
    """Validations without a new best after which training stops; 0: never."""
    checkpointing: Literal["auto", "on", "off"] = "auto"
    """Compute activations again on the way back instead of keeping them; auto: when memory is short."""
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    """Where the network runs."""
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
            raise ValueError(f"a network from scratch is trained in full: method must be full, not {self.method}")
        if self.tokenizer is not None and self.start != "scratch":
            raise ValueError("a pretrained network keeps its own tokenizer")
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
    control_bits_per_byte: float | None = None
    """Bits per byte of control text where it was measured at this point."""
    learning_rate: float
    """Learning rate of the last step."""
    seconds: float
    """Seconds of training so far, over all sessions of the run."""


class Range(Record):
    """An estimate with its bounds."""

    lower: float
    """What it takes if all goes well."""
    expected: float
    """What it most likely takes."""
    upper: float
    """What it takes if the machine is busy."""


class Estimate(Record):
    """What a run was expected to take, from a short probe before it."""

    parameters: int
    """Parameters of the network."""
    trained_parameters: int
    """Parameters that are changed."""
    tokens: int
    """Token budget."""
    tokens_per_s: float
    """Speed in the probe."""
    memory_bytes: Range
    """Memory of the process or device."""
    seconds: Range
    """Time from the first step to the last, validation included."""
    energy_wh: Range | None = None
    """Energy, from assumed watts a core; none on devices whose watts are not known."""
    usd: Range | None = None
    """Price of the machine's time, where the price of an hour was given."""
    available_bytes: int | None = None
    """Memory that was free."""


class Forgetting(Record):
    """What a model knew of other things before and after training."""

    control: str
    """Where the control text came from; none of what is measured was trained on."""
    bytes: int
    """Bytes of control text."""
    before: float
    """Bits per byte of control text before training."""
    after: float
    """Bits per byte of control text after training."""
    answers_before: float | None = None
    """Bits per byte of right answers to general questions before training."""
    answers_after: float | None = None
    """The same after training."""
    questions: int = 0
    """General questions asked."""
    replay_share: float
    """Share of the training rows that replayed control text."""


class Memorization(Record):
    """What of its training text a model gives away."""

    canaries: int
    """Secrets planted."""
    exposure: dict[str, float]
    """How often a secret was in the text -> mean exposure in bits (Carlini et al., 2019); log2 of `candidates` is the
    most that can be told, 1 bit is chance."""
    candidates: int
    """Alternatives that each secret was ranked among."""
    extracted: dict[str, float]
    """How often a secret was in the text -> share of the secrets that greedy generation gives away."""
    membership_auc: Score
    """Membership inference by loss: probability that a training passage is likelier than a held-out one."""
    membership_tpr: Score
    """Share of the training passages found at 1 % false alarms."""


class PositionBits(Record):
    """How well tokens at some distance from the beginning of a text are predicted."""

    first: int
    """First place, counted in tokens from the beginning."""
    last: int
    """Last place."""
    tokens: int
    """Tokens measured."""
    bits: float
    """Bits a token; falling with the place where what came long before is of use."""


class AttentionTradeoff(Record):
    """What a choice of attention costs and saves, on this data."""

    context: int
    """Tokens of one user's cache."""
    cache_bytes: int
    """One user's cache of keys and values in bf16."""
    full_cache_bytes: int
    """The same if all blocks looked at all that came before."""
    positions: tuple[PositionBits, ...] = ()
    """Held-out text by place; comparable between models with the same tokenizer."""


class Representation(Record):
    """How often the training text names groups of people."""

    words: int
    """Words of training text that were counted."""
    counts: dict[str, dict[str, int]]
    """Attribute -> group -> mentions."""
    balance: str
    """What was done about it."""
    counterfactual_gap_before: float | None = None
    """Mean absolute change in bits per byte of held-out sentences when the named groups are swapped, before."""
    counterfactual_gap_after: float | None = None
    """The same after training."""
    sentences: int = 0
    """Held-out sentences that name a group."""


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
    license: str
    """Licence that applies to the weights."""
    estimate: Estimate | None = None
    """What it was expected to take."""
    estimate_error: dict[str, float] = Field(default_factory=dict)
    """Measured over expected minus 1, of seconds and memory."""
    forgetting: Forgetting | None = None
    """What it forgot."""
    memorization: Memorization | None = None
    """What it gives away; only where canaries were planted."""
    representation: Representation | None = None
    """Which groups of people its text names."""
    attention_tradeoff: AttentionTradeoff | None = None
    """What its attention costs and saves."""
    notes: tuple[str, ...] = ()
    """What a reader should know, for example what was cut or capped."""
    versions: dict[str, str]
    """Versions of the packages that matter."""


class Trial(Record):
    """One recipe that a search tried."""

    settings: dict[str, float]
    """What was varied."""
    bits_per_byte: float | None = None
    """Best validation bits per byte, None where it was stopped before its end."""
    pruned: bool = False
    """Whether it was stopped because others were better at the same point."""


class Tuning(Record):
    """A search over recipes on a part of the token budget."""

    data: str
    """Dataset id."""
    recipe: Recipe
    """The recipe with the best settings, with the whole budget."""
    tokens_each: int
    """Tokens of a trial."""
    trials: tuple[Trial, ...]
    """What was tried, in order."""


class CurveStep(Record):
    """Training on a share of the documents."""

    share: float
    """Share of the training documents."""
    run: str
    """Checkpoint id."""
    tokens: int
    """Tokens seen."""
    bits_per_byte: float
    """Validation bits per byte."""


class LearningCurve(Record):
    """What more documents would bring."""

    data: str
    """Dataset id."""
    steps: tuple[CurveStep, ...]
    """From few documents to all of them."""
    twice: Range
    """Validation bits per byte with twice as many documents: cautious, likely and hopeful, in this order from high
    to low; the cautious end assumes that more documents bring nothing."""
    summary: str
    """The same in words."""
