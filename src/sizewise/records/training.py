"""Training records: recipe, training curve, checkpoint and reports."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from sizewise.records.base import Record
from sizewise.records.scores import Score
from sizewise.seeds import MAX_SEED


class Recipe(Record):
    """All settings of a training run. Its length is set by `tokens` or `minutes`."""

    start: str
    """Model URI of the pretrained model, or `scratch`."""
    method: Literal["lora", "dora", "qlora", "full"] = "lora"
    """Train low-rank adapters on all linear layers (plain, weight-decomposed, or over 4-bit weights), or all weights.
    Training from scratch is always `full`."""
    attention: str = "full"
    """`full`, `window:N` (sliding window of N tokens) or `pattern:SSSL` (S: window, L: full). With `full`, a pretrained
    network keeps its attention. Llama and Mistral networks can be changed to windows."""
    tokens: int | None = None
    """Token budget; takes precedence over `minutes`."""
    minutes: float | None = None
    """Time budget. A speed probe converts it once into a token budget, which the run keeps."""
    parameters: int = 5_000_000
    """Number of parameters when training from scratch."""
    rank: int = Field(default=16, gt=0)
    """LoRA rank."""
    learning_rate: float | None = Field(default=None, gt=0)
    """Peak learning rate; by default chosen for the method and size."""
    context: int = Field(default=512, ge=16)
    """Tokens in a training row."""
    rows_per_step: int = Field(default=2, gt=0)
    """Rows in an optimizer step."""
    example_share: float = Field(default=0.5, ge=0, le=1)
    """Share of training tokens from examples, if there are any."""
    passage_share: float = Field(default=0.0, ge=0, le=1)
    """Share of the training examples that come with passages of the training documents before their question, as
    `rag:` gives them: with the right one, or with none that holds the answer."""
    document_share: float = Field(default=1.0, gt=0, le=1)
    """Share of the training documents and examples to use, for learning curves."""
    control: str = "demo:python"
    """Unrelated text: part of it is replayed in training, the rest measures forgetting. `none` disables both."""
    control_share: float = Field(default=0.02, ge=0, lt=1)
    """Share of training rows that replay control text; not used when training from scratch."""
    teacher: str | None = None
    """Model URI of a teacher. With the same vocabulary, the student learns its token distribution; otherwise it learns
    from answers that the teacher generates, or, without examples, from its likeliest tokens turned into its own."""
    teacher_share: float = Field(default=0.5, gt=0, le=1)
    """Weight of the teacher's distribution in the loss, or share of answers that it generates."""
    tokenizer: str | None = None
    """Model URI that provides the tokenizer when training from scratch; by default a new one is trained."""
    canaries: int = Field(default=0, ge=0, le=64)
    """Secrets to insert into the training text to measure memorization, half of them once and half 16 times."""
    balance: Literal["none", "reweight", "augment"] = "none"
    """How to balance groups of people that the text rarely mentions: repeat such text more often, or add copies with
    the groups swapped."""
    patience: int = Field(default=3, ge=0)
    """Stop after this many validations without improvement; 0 disables early stopping."""
    checkpointing: Literal["auto", "on", "off"] = "auto"
    """Recompute activations in the backward pass instead of storing them; auto does so when memory is short."""
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    """Device to train on."""
    optimizer: Literal["adamw", "adamw8bit"] = "adamw"
    """AdamW with moments in fp32, or in 8 bits (with bitsandbytes), which take 2 bytes per trained parameter, not 8."""
    max_epochs: float | None = Field(default=None, gt=0)
    """Maximum passes over the training text; by default 8, and 16 from scratch, where a larger weight decay keeps many
    passes from overfitting."""
    seed: int = Field(default=0, ge=0, le=MAX_SEED)
    """Seed of the initial weights and the order of data."""

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
    """One point of the training curve."""

    step: int
    """Optimizer steps done."""
    tokens: int
    """Tokens seen."""
    loss: float
    """Mean training loss since the last point, in nats per predicted token."""
    bits_per_byte: float | None = None
    """Validation bits per byte, if measured at this point."""
    control_bits_per_byte: float | None = None
    """Bits per byte of control text, if measured at this point."""
    learning_rate: float
    """Learning rate of the last step."""
    seconds: float
    """Training time so far in seconds, over all sessions of the run."""


class Range(Record):
    """An estimate with lower and upper bounds."""

    lower: float
    """Optimistic value."""
    expected: float
    """Most likely value."""
    upper: float
    """Pessimistic value, for example on a busy machine."""


class Estimate(Record):
    """Resources that a run is expected to need, from a short probe."""

    parameters: int
    """Parameters of the network."""
    trained_parameters: int
    """Trainable parameters."""
    tokens: int
    """Token budget."""
    tokens_per_s: float
    """Training speed in the probe."""
    memory_bytes: Range
    """Memory of the process or device in bytes."""
    seconds: Range
    """Time from the first to the last step in seconds, validation included."""
    encoded_bytes: int = 0
    """Encoded training text on disk, in bytes; it is kept for other runs (`sizewise runs --clear-cache` deletes it)."""
    energy_wh: Range | None = None
    """Energy in Wh, from an assumed power per core; None for devices of unknown power."""
    usd: Range | None = None
    """Cost of the machine in US dollars, if an hourly price was given."""
    available_bytes: int | None = None
    """Free memory in bytes."""


class Forgetting(Record):
    """Forgetting report: control text and general questions before and after training."""

    control: str
    """Source of the control text. The measured part was not trained on. Empty if there was no control text in the
    language of the data."""
    bytes: int
    """Size of the control text in bytes."""
    before: float | None
    """Bits per byte of control text before training."""
    after: float | None
    """Bits per byte of control text after training."""
    answers_before: float | None = None
    """Bits per byte of reference answers to general questions before training."""
    answers_after: float | None = None
    """The same after training."""
    change: Score | None = None
    """Change of bits per byte of control text by training, with its interval over documents; above 0 is forgetting."""
    answers_change: Score | None = None
    """Change of bits per byte of the reference answers, with its interval over questions; above 0 is forgetting."""
    questions: int = 0
    """Number of general questions."""
    replay_share: float
    """Share of training rows that replayed control text."""


class Specialization(Record):
    """Whether training made a model better in its domain, in general, or neither, compared with its start."""

    kind: Literal["domain specialist", "small generalist", "no measurable difference"]
    """A specialist gained significantly more in its domain than in general knowledge. A generalist gained in general
    knowledge, and not more than that in the domain. Neither can be shown in the third case."""
    domain: Score
    """Change of bits per byte of held-out data of the domain by training; below 0 is better."""
    general: Score
    """Change of bits per byte of reference answers to general-knowledge questions; below 0 is better."""
    difference: Score
    """`general` minus `domain`: above 0, more was gained in the domain."""
    summary: str
    """The result in words, with what was lost elsewhere."""


class Memorization(Record):
    """Memorization report: how much training text can be recovered from a model."""

    canaries: int
    """Number of inserted secrets."""
    exposure: dict[str, float]
    """Repetitions of a secret -> mean exposure in bits (Carlini et al., 2019). The maximum is log2 of `candidates`, and
    1 bit is chance level."""
    candidates: int
    """Number of alternatives that each secret is ranked among."""
    extracted: dict[str, float]
    """Repetitions of a secret -> share of secrets that greedy generation reveals."""
    membership_auc: Score
    """AUC of membership inference: probability that a training passage has a lower loss than a held-out one."""
    membership_tpr: Score
    """True positive rate of membership inference at a 1 % false positive rate."""
    exposure_scores: dict[str, Score] = Field(default_factory=dict)
    """Repetitions of a secret -> mean exposure with its interval over secrets."""
    extracted_scores: dict[str, Score] = Field(default_factory=dict)
    """Repetitions of a secret -> share of secrets that greedy generation reveals, with its interval."""
    weights: str = ""
    """Hash of the weights that were tested, see `lm.hf_format.weights_hash`; empty for runs of earlier versions."""


class Validation(Record):
    """Validation of a run: the same held-out items before training and with the kept weights."""

    kind: Literal["answers", "text"]
    """What was predicted: answers given their prompts, or pieces of documents."""
    items: int
    """Number of answers or pieces."""
    sources: int
    """Number of documents or groups that they come from."""
    bytes: int
    """UTF-8 bytes that were predicted."""
    before: Score
    """Bits per byte before training, with its interval over sources."""
    after: Score
    """Bits per byte of the kept weights. They were chosen by this measure, so it is slightly optimistic."""
    change: Score
    """`after` minus `before` on the same items; below 0 is better."""


class Change(Record):
    """A setting that was changed while a run was going on."""

    step: int
    """Optimizer steps that were done before the change."""
    tokens: int
    """Tokens seen before the change."""
    setting: Literal["learning_rate", "tokens", "time", "stop"]
    """What was changed; `stop` ends the run with the best weights so far, and `time` is a token budget that the run set
    itself because its speed wasn't that of the probe."""
    value: float
    """New peak learning rate, or new token budget; 1 for a stop."""


class PositionBits(Record):
    """Bits per token in a range of positions."""

    first: int
    """First position, in tokens from the beginning of the text."""
    last: int
    """Last position."""
    tokens: int
    """Number of measured tokens."""
    bits: float
    """Mean bits per token. Lower values at later positions show that the model uses long context."""
    ci_low: float | None = None
    """Lower end of the 95% interval over texts; None if too few texts reach these positions."""
    ci_high: float | None = None
    """Upper end of the 95% interval."""
    texts: int = 0
    """Number of texts that reach these positions."""


class AttentionTradeoff(Record):
    """Cost and savings of an attention pattern on this data."""

    context: int
    """Context length of one user's cache in tokens."""
    cache_bytes: int
    """One user's key-value cache in bf16, in bytes."""
    full_cache_bytes: int
    """The same with full attention in every block."""
    positions: tuple[PositionBits, ...] = ()
    """Bits per token of held-out text by position; comparable between models with the same tokenizer."""


class Representation(Record):
    """Representation report: how often the training text mentions groups of people."""

    words: int
    """Number of words of training text."""
    counts: dict[str, dict[str, int]]
    """Attribute -> group -> mentions."""
    balance: str
    """Balancing method."""
    counterfactual_gap_before: float | None = None
    """Mean absolute change in bits per byte of held-out sentences when groups are swapped, before training."""
    counterfactual_gap_after: float | None = None
    """The same after training."""
    sentences: int = 0
    """Number of held-out sentences that mention a group."""


class Checkpoint(Record):
    """A trained model, saved as the Hugging Face folder `model/` next to this record."""

    start: str
    """Model URI that training started from, or `scratch`."""
    recipe: Recipe
    """Settings of the run."""
    data: str
    """Id of the training dataset."""
    parameters: int
    """Parameters of the network."""
    trained_parameters: int
    """Trainable parameters."""
    attention: str
    """Description of the network's attention."""
    tokens: int
    """Tokens seen, without padding."""
    steps: int
    """Optimizer steps."""
    epochs: float
    """Passes over the training rows."""
    best_step: int
    """Step with the best validation bits per byte; its weights were kept."""
    best_bits_per_byte: float
    """Validation bits per byte of the kept weights."""
    start_bits_per_byte: float
    """Validation bits per byte before training."""
    curve: tuple[CurvePoint, ...]
    """Training curve. Of a long run, the mean of several steps is one point; curve.jsonl beside the record holds every
    step."""
    seconds: float
    """Wall time of training in seconds, over all sessions, warm-up and validation included."""
    warmup_s: float
    """Duration of the first step in seconds (compilation)."""
    tokens_per_s: float
    """Median training speed without warm-up and validation."""
    compiled: bool
    """Whether blocks were compiled."""
    sessions: int
    """Number of times the run was started; 1 if never interrupted."""
    peak_memory_bytes: int
    """Peak resident memory of the process until the end of training."""
    origin: str
    """Where the initial weights come from."""
    license: str
    """License of the weights."""
    estimate: Estimate | None = None
    """Estimate before the run."""
    estimate_error: dict[str, float] = Field(default_factory=dict)
    """Relative error of the estimate, measured / expected - 1, for seconds and memory."""
    forgetting: Forgetting | None = None
    """Forgetting report."""
    memorization: Memorization | None = None
    """Memorization report; only if canaries were inserted."""
    representation: Representation | None = None
    """Representation report."""
    attention_tradeoff: AttentionTradeoff | None = None
    """Cost and savings of the attention pattern."""
    notes: tuple[str, ...] = ()
    """Notes for readers, for example about truncated data or capped epochs."""
    versions: dict[str, str]
    """Versions of the relevant packages."""
    start_revision: str = ""
    """State of the starting model: the commit on the Hub, or a hash of the files of a folder; empty if the URI never
    changes its meaning."""
    start_uri: str = ""
    """URI of the starting model with the full path of its folder or file, so that it is the same from every working
    directory; empty for runs of earlier versions."""
    template_date: str = ""
    """Date that the chat template stated in training conversations, whatever the day; empty if it states none."""
    validation: Validation | None = None
    """Validation with intervals; None for runs of earlier versions."""
    specialization: Specialization | None = None
    """Domain specialist or small generalist; None if training began from scratch, nothing general was measured, or too
    few documents were held out."""
    changes: tuple[Change, ...] = ()
    """Settings that were changed while the run was going on, so the recipe alone doesn't reproduce it."""


class Trial(Record):
    """One trial of a hyperparameter search."""

    settings: dict[str, float]
    """Values of the searched settings."""
    bits_per_byte: float | None = None
    """Best validation bits per byte; None if the trial was pruned."""
    pruned: bool = False
    """Whether the trial was stopped early because others were better at the same point."""
    change: Score | None = None
    """Difference from the first trial, the recipe as it was given, on the same held-out items; below 0 is better."""


class Tuning(Record):
    """A hyperparameter search on part of the token budget."""

    data: str
    """Dataset id."""
    recipe: Recipe
    """Recipe with the best settings and the full budget."""
    tokens_each: int
    """Tokens per trial."""
    trials: tuple[Trial, ...]
    """Trials, in order. All are measured on the same held-out items."""
    validation: str = ""
    """What they were measured on."""


class CurveStep(Record):
    """Result of training on a share of the documents."""

    share: float
    """Share of the training documents."""
    run: str
    """Checkpoint id."""
    tokens: int
    """Tokens seen."""
    bits_per_byte: float
    """Validation bits per byte."""
    change: Score | None = None
    """Difference from the step before, on the same held-out items, with its interval over their sources."""


class LearningCurve(Record):
    """Learning curve over the number of documents."""

    data: str
    """Dataset id."""
    steps: tuple[CurveStep, ...]
    """Results from few documents to all of them."""
    twice: Range
    """Predicted validation bits per byte with twice as many documents. The upper bound assumes no improvement, and the
    lower bound is optimistic."""
    summary: str
    """Summary in words."""
    uncertainty: str = ""
    """What the intervals don't cover."""
    gain: Score | None = None
    """Expected change of bits per byte with twice as many documents, with its interval over the sources of the held-out
    items; below 0 is better."""
    validation: str = ""
    """What was measured."""
