"""Status, curve and outcome of a training run."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Bits:
    """Validation scores of a network during training.

    Attributes:
        domain: bits per byte of held-out domain text.
        control: bits per byte of control text; None without control text.
    """

    domain: float
    control: float | None = None


@dataclass(frozen=True)
class Progress:
    """Status of a run after a step, for display.

    Attributes:
        step: steps done.
        tokens: tokens seen.
        budget: token budget.
        loss: training loss of the last step.
        learning_rate: learning rate of the last step.
        bits_per_byte: validation bits per byte, if this step was followed by a validation.
        tokens_per_s: median speed; None after the first step.
        seconds: training time over all sessions.
        points: curve of the run so far.
        start_bits_per_byte: validation bits per byte before the first step.
    """

    step: int
    tokens: int
    budget: int
    loss: float
    learning_rate: float
    bits_per_byte: float | None
    tokens_per_s: float | None
    seconds: float
    points: list[Point]
    start_bits_per_byte: float


@dataclass(frozen=True)
class Point:
    """One point of the training curve, with the fields of the record CurvePoint."""

    step: int
    tokens: int
    loss: float
    bits_per_byte: float | None
    learning_rate: float
    seconds: float
    control_bits_per_byte: float | None = None


@dataclass(frozen=True)
class Result:
    """Outcome of a run. The network holds the best weights.

    Attributes:
        tokens: tokens seen, without padding.
        steps: optimizer steps.
        best_step: step with the best validation; its weights were kept.
        best_bits_per_byte: validation bits per byte of the kept weights.
        start: validation before the first step.
        rollbacks: steps at which the loss diverged and the run returned to its best weights.
        stopped_early: whether the run ended before its token budget.
        stopped: whether it did so because the watcher asked for it.
        points: training curve.
        seconds: wall time of all sessions.
        warmup_s: duration of the first step in seconds.
        tokens_per_s: median speed.
        sessions: number of times the run was started.
    """

    tokens: int
    steps: int
    best_step: int
    best_bits_per_byte: float
    start: Bits
    rollbacks: list[int]
    stopped_early: bool
    stopped: bool
    points: list[Point]
    seconds: float
    warmup_s: float
    tokens_per_s: float
    sessions: int
