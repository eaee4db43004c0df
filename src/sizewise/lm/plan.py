"""What a training run is given and what it reports: plan, validation, progress, curve and outcome."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from sizewise.lm.run_files import Applied


@dataclass(frozen=True)
class Plan:
    """Settings of a run, saved to disk so that a resumed run follows the same plan.

    Attributes:
        tokens: token budget.
        learning_rate: peak learning rate.
        weight_decay: weight decay of matrices; vectors have none.
        compiled: whether blocks are compiled.
        validations: number of validations, the final one included.
        patience: stop after this many validations without improvement; 0 disables early stopping.
        checkpointing: whether activations are recomputed in the backward pass.
        micro_rows: rows in memory at a time; the gradients of a step's parts add up. 0 takes a step at once.
        optimizer: `adamw`, or `adamw8bit` for moments in 8 bits.
        seconds: time of the steps, for a budget in minutes; during the run, its tokens are set to what fits at the
            speed so far. 0 for a budget in tokens.
        max_tokens: most tokens that fit into the data; with `seconds` only.
    """

    tokens: int
    learning_rate: float
    weight_decay: float
    compiled: bool
    validations: int
    patience: int = 0
    checkpointing: bool = False
    micro_rows: int = 0
    optimizer: str = "adamw"
    seconds: float = 0.0
    max_tokens: int = 0


class StopTraining(Exception):
    """Ends a run with the best weights so far; raised by whoever watches it."""


@dataclass(frozen=True)
class Bits:
    """Validation scores of a network during training.

    Attributes:
        domain: bits per byte of held-out answers or text of the domain.
        control: bits per byte of control text; None without control text.
        items: nats of each held-out item of the domain.
    """

    domain: float
    control: float | None = None
    items: tuple[float, ...] = ()


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
        best: validation of the kept weights.
        start: validation before the first step.
        rollbacks: steps at which the loss diverged and the run returned to its best weights.
        stopped_early: whether the run ended before its token budget.
        stopped: whether it did so because the watcher asked for it.
        points: training curve.
        changes: settings that were changed during the run.
        cooling: how the learning rate came down after validation had stopped improving; "" if that wasn't done.
        seconds: wall time of all sessions.
        warmup_s: duration of the first step in seconds.
        tokens_per_s: median speed.
        sessions: number of times the run was started.
    """

    tokens: int
    steps: int
    best_step: int
    best: Bits
    start: Bits
    rollbacks: list[int]
    stopped_early: bool
    stopped: bool
    points: list[Point]
    changes: list[Applied]
    cooling: str
    seconds: float
    warmup_s: float
    tokens_per_s: float
    sessions: int


def thinned(points: Sequence[Point], most: int) -> list[Point]:
    """Return a curve with at most so many points besides the validations; points in between are averaged."""
    group = -(-len(points) // most) or 1
    found: list[Point] = []
    losses: list[float] = []
    for point in points:
        losses.append(point.loss)
        if len(losses) == group or point.bits_per_byte is not None:
            found.append(replace(point, loss=sum(losses) / len(losses)))
            losses = []
    return found + ([replace(points[-1], loss=sum(losses) / len(losses))] if losses else [])
