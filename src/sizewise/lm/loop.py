"""The training loop over packed rows. A killed run resumes from its last checkpoint and ends bit-identical."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any

import torch

from sizewise.lm import attention
from sizewise.lm.adapt import base_of
from sizewise.lm.checking import check_packing, has_gradients
from sizewise.lm.checkpointing import load_state, save_state
from sizewise.lm.curve import Bits as Bits
from sizewise.lm.curve import Point as Point
from sizewise.lm.curve import Progress as Progress
from sizewise.lm.curve import Result as Result
from sizewise.lm.execution import execution_of
from sizewise.lm.fused_lora import fuse_adapters, unfuse_adapters
from sizewise.lm.hf_format import quiet_libraries
from sizewise.lm.interruption import Clock, uninterrupted
from sizewise.lm.kernels import enable_kernels
from sizewise.lm.loss import SoftTargets, cross_entropy, likeliest
from sizewise.lm.optimizer import MasterAdamW
from sizewise.lm.packing import NO_TARGET, Mix, Rows

WARMUP_SHARE = 0.05
FINAL_RATE_SHARE = 0.05
SAVE_EVERY_S = 15.0
SAVE_SHARE = 0.03  # maximum share of the time spent on saving: a large network's state takes seconds to write
# The loss has diverged if it exceeds the maximum of recent steps by this many nats. The mean would be too strict: rows
# of answers, text and control text alternate, and their losses differ widely.
DIVERGENCE_NATS, MIN_HISTORY, MAX_HISTORY, MAX_ROLLBACKS = 3.0, 10, 100, 3


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


class StopTraining(Exception):
    """Ends a run with the best weights so far; raised by whoever watches it."""


def prepare(network: Any, compiled: bool, checkpointing: bool = False) -> None:
    """Prepare a network for training on packed rows.

    Args:
        network: a causal language model, with or without adapters.
        compiled: compile each block once.
        checkpointing: recompute activations in the backward pass instead of storing them: less memory, more time.

    Raises:
        SizewiseError: a training row's texts don't have the same scores as in the network's own forward pass.
    """
    quiet_libraries()
    base, execution = base_of(network), execution_of(network)
    base.config.use_cache = False
    check_packing(base, lambda: base.set_attn_implementation(attention.NAME))
    network.train()
    enable_kernels(compiled)
    fuse_adapters(network)
    if not has_gradients(base):  # a block may change the output of a layer in place, which fused adapters don't permit
        unfuse_adapters(network)
    if checkpointing:
        base.activation_checkpointing_enable(activation_checkpointing_kwargs={"use_reentrant": False})
    if compiled and execution.rows == "packed":  # else each length would be compiled anew
        for layer in execution.layers:
            layer.compile(dynamic=False)


def finish(network: Any) -> None:
    """Undo `prepare`."""
    base = base_of(network)
    base.config.use_cache = True
    base.activation_checkpointing_disable()
    if execution_of(base).rows == "packed":
        base.set_attn_implementation("sdpa" if base._supports_sdpa else "eager")
    layers = list(execution_of(base).layers)
    if any(layer._compiled_call_impl for layer in layers):
        torch.compiler.reset()  # otherwise the next network soon hits the limit of graphs per block and runs eagerly
    for layer in layers:
        layer._compiled_call_impl = None
    unfuse_adapters(network)
    network.eval()


def hidden_of(network: Any, rows: Rows) -> torch.Tensor:
    """Compute the states of packed rows that the head maps to logits, (rows, tokens, width)."""
    return execution_of(network).row_states(rows)


Teacher = Callable[[Rows], SoftTargets]


def loss_of(network: Any, rows: Rows, teacher: Teacher | None = None) -> torch.Tensor:
    """Compute the mean loss of packed rows in nats per predicted token."""
    hidden = hidden_of(network, rows)
    targets = torch.from_numpy(rows.targets).to(hidden.device)
    soft = teacher(rows) if teacher else None
    return cross_entropy(hidden.flatten(0, 1), execution_of(network).head, targets.flatten(), soft)


def backward_in_parts(
    network: Any, rows: Rows, teacher: Teacher | None, micro_rows: int, collect: Callable[[], None]
) -> float:
    """Compute the gradient of `loss_of` in parts, which take less memory than all rows at once.

    Args:
        network: a network from `prepare`.
        rows: the rows of a step.
        teacher: predicts soft targets.
        micro_rows: rows of a part; 0 for all.
        collect: called between parts, when the network holds the gradient of a part.

    Returns:
        The loss of all rows in nats per predicted token.
    """
    total, loss = max(1, int((rows.targets != NO_TARGET).sum())), 0.0
    for start in range(0, len(rows), micro_rows or len(rows)):
        part = Rows(*(array[start : start + (micro_rows or len(rows))] for array in rows.arrays()))
        share = int((part.targets != NO_TARGET).sum()) / total
        if start:
            collect()
        if share or len(part) == len(rows):
            of_part = loss_of(network, part, teacher)
            (of_part if len(part) == len(rows) else of_part * share).backward()
            loss += float(of_part.detach()) * (1.0 if len(part) == len(rows) else share)
    return loss


def teacher_of(network: Any, share: float, k: int = 32) -> Teacher:
    """Build a teacher that predicts soft targets for packed rows.

    Args:
        network: the teacher, with the student's vocabulary, prepared without compilation.
        share: weight of the teacher's distribution in the loss.
        k: number of most likely tokens to keep; all others get probability zero.
    """

    def soft_targets(rows: Rows) -> SoftTargets:
        with torch.inference_mode():
            hidden = hidden_of(network, rows)
            predicted = torch.from_numpy(rows.targets != NO_TARGET).to(hidden.device)
            ids, weights = likeliest(hidden[predicted], execution_of(network).head, k)
        return SoftTargets(ids.clone(), weights.clone(), share)

    return soft_targets


def rate_at(done: float, peak: float) -> float:
    """Compute the learning rate after a share of the budget: linear warm-up, then cosine decay to a small rest."""
    if done < WARMUP_SHARE:
        return peak * max(done / WARMUP_SHARE, 0.1)
    decayed = min(1.0, (done - WARMUP_SHARE) / (1 - WARMUP_SHARE))
    return peak * (FINAL_RATE_SHARE + (1 - FINAL_RATE_SHARE) * 0.5 * (1 + math.cos(math.pi * decayed)))


def probe_speed(
    network: Any, mix: Mix, teacher: Teacher | None = None, steps: int = 4, micro_rows: int = 0
) -> tuple[float, float]:
    """Measure warm-up time and speed without changing any weight.

    Args:
        network: a network from `prepare`.
        mix: the training rows.
        teacher: predicts soft targets.
        steps: steps to measure after the first one.
        micro_rows: rows in memory at a time; 0 for all.

    Returns:
        Seconds that the first step takes longer than the median step, and tokens/s without padding.
    """
    times = []
    for number in range(steps + 1):
        start = time.perf_counter()
        backward_in_parts(network, mix.step(number), teacher, micro_rows, lambda: None)
        times.append(time.perf_counter() - start)
    for parameter in network.parameters():
        parameter.grad = None
    typical = median(times[1:])
    return max(0.0, times[0] - typical), mix.tokens_per_step() / typical


class _Run:
    """State of one run: optimizer, counters, curve and best weights."""

    def __init__(self, network: Any, plan: Plan, validate: Callable[[], Bits]) -> None:
        self.network, self.plan, self._validate = network, plan, validate
        self.optimizer = MasterAdamW(network.named_parameters(), plan.weight_decay, plan.optimizer)
        self.step = 0
        self.tokens = 0
        self.points: list[Point] = []
        self.start = Bits(float("nan"))
        self.best: tuple[int, float] = (0, float("inf"))
        self.best_weights = self._weights()
        self.waited = 0  # validations since the best one
        self.rollbacks: list[int] = []
        self.sessions = 1
        self.seconds = 0.0
        self.warmup_s = 0.0
        self._speeds: list[float] = []
        self._due = [plan.tokens * (i + 1) / plan.validations for i in range(plan.validations)]

    def _weights(self) -> dict[str, torch.Tensor]:
        """Copy the weights to the machine's memory, where they take no space on a graphics card."""
        return {
            name: master.cpu() if master.device.type != "cpu" else master.clone()
            for name, master in self.optimizer.masters.items()
        }

    def save(self, folder: Path) -> None:
        tensors = self.optimizer.tensors() | {f"best.{n}": t for n, t in self.best_weights.items()}
        progress = {
            "step": self.step,
            "tokens": self.tokens,
            "points": [asdict(point) for point in self.points],
            "start": asdict(self.start),
            "best": self.best,
            "waited": self.waited,
            "rollbacks": self.rollbacks,
            "sessions": self.sessions,
            "seconds": self.seconds,
        }
        save_state(folder, self.step, tensors, progress)

    def resume(self, folder: Path) -> bool:
        """Load the last checkpoint; return False if there is none."""
        found = load_state(folder)
        if found is None:
            return False
        tensors, progress = found
        self.optimizer.load(tensors)
        self.best_weights = {name: tensors[f"best.{name}"] for name in self.best_weights}
        self.step, self.tokens = progress["step"], progress["tokens"]
        self.points = [Point(**point) for point in progress["points"]]
        self.start, self.best = Bits(**progress["start"]), tuple(progress["best"])
        self.waited, self.rollbacks = progress["waited"], progress["rollbacks"]
        self.sessions, self.seconds = progress["sessions"] + 1, progress["seconds"]
        return True

    def validate(self) -> Bits:
        """Measure validation and keep the weights if they are the best so far."""
        self.network.eval()
        bits = self._validate()
        self.network.train()
        self.waited += 1
        if bits.domain < self.best[1]:
            self.best, self.waited = (self.step, bits.domain), 0
            self.best_weights = self._weights()
        return bits

    @property
    def is_done(self) -> bool:
        """Whether the budget is used up or validation has stopped improving."""
        stops_early = bool(self.plan.patience) and self.waited >= self.plan.patience
        return self.tokens >= self.plan.tokens or stops_early

    @property
    def tokens_per_s(self) -> float | None:
        """Median speed of this session; None before its second step."""
        return median(self._speeds) if self._speeds else None

    def diverged(self, loss: float) -> bool:
        """Check whether a loss is not finite, or far above the losses of recent steps."""
        recent = [point.loss for point in self.points[-MAX_HISTORY:]]
        far_above = len(recent) >= MIN_HISTORY and loss > max(recent) + DIVERGENCE_NATS
        return far_above or not math.isfinite(loss)

    def roll_back(self, loss: float) -> None:
        """Restore the best weights and halve the learning rate for the rest of the run."""
        if len(self.rollbacks) == MAX_ROLLBACKS:
            raise FloatingPointError(
                f"the loss rose to {loss} at step {self.step + 1}, after {MAX_ROLLBACKS} rollbacks to the best weights"
            )
        self.rollbacks.append(self.step + 1)
        self.optimizer.restart(self.best_weights)

    def rate(self) -> float:
        """Compute the learning rate of the next step."""
        return float(rate_at(self.tokens / self.plan.tokens, self.plan.learning_rate) * 0.5 ** len(self.rollbacks))

    def advance(self, rows: Rows, teacher: Teacher | None, clock: Clock) -> Progress:
        """Take one training step, and validate if it is due."""
        begun = time.perf_counter()
        rate = self.rate()
        loss = backward_in_parts(self.network, rows, teacher, self.plan.micro_rows, self.optimizer.collect)
        with uninterrupted():  # weights and counters must change together
            if self.diverged(loss):
                self.roll_back(loss)
                loss = self.points[-1].loss if self.points else 0.0
            else:
                self.optimizer.step(rate)
            self._count(rows, time.perf_counter() - begun)
            bits = self.validate() if self._is_validation_due(rows) else None
            domain = bits.domain if bits else None
            self.seconds = clock.seconds()
            control = bits.control if bits else None
            self.points.append(Point(self.step, self.tokens, loss, domain, rate, self.seconds, control))
        return Progress(
            self.step,
            self.tokens,
            self.plan.tokens,
            loss,
            rate,
            domain,
            self.tokens_per_s,
            self.seconds,
            self.points,
            self.start.domain,
        )

    def _count(self, rows: Rows, seconds: float) -> None:
        tokens = _tokens_in(rows)
        self.tokens, self.step = self.tokens + tokens, self.step + 1
        if self.warmup_s:
            self._speeds.append(tokens / seconds)
        else:
            self.warmup_s = seconds

    def _is_validation_due(self, rows: Rows) -> bool:
        before = self.tokens - _tokens_in(rows)
        return any(before < mark <= self.tokens for mark in self._due) or self.tokens >= self.plan.tokens


def _tokens_in(rows: Rows) -> int:
    return int((rows.segments > 0).sum())


def train_network(
    network: Any,
    mix: Mix,
    plan: Plan,
    validate: Callable[[], Bits],
    folder: Path,
    on_progress: Callable[[Progress], None],
    teacher: Teacher | None = None,
) -> Result:
    """Train a prepared network for a token budget and leave the best weights in it.

    A killed run resumes from the last checkpoint in `folder` and reaches the same result. If the loss diverges, the
    run returns to its best weights and continues at half the learning rate.

    Args:
        network: a network from `prepare`; only its trainable parameters change.
        mix: the training rows.
        plan: settings of the run.
        validate: measures the network in its current state.
        folder: folder of the checkpoints.
        on_progress: called after each step; may raise `StopTraining` to end with the best weights so far.
        teacher: predicts soft targets; None trains on the text alone.

    Raises:
        SizewiseError: a checkpoint can't be written.
        FloatingPointError: the loss diverged again after the last permitted rollback.
    """
    run, stopped = _Run(network, plan, validate), False
    resumed = run.resume(folder)
    clock = Clock(run.seconds)
    if not resumed:
        run.start = run.validate()
    saved, save_every_s = time.monotonic(), SAVE_EVERY_S
    try:
        while not run.is_done and not stopped:
            stopped = _is_stopped(on_progress, run.advance(mix.step(run.step), teacher, clock))
            if time.monotonic() - saved > save_every_s:
                begun = time.monotonic()
                run.save(folder)
                saved = time.monotonic()
                save_every_s = max(SAVE_EVERY_S, (saved - begun) / SAVE_SHARE)
    except KeyboardInterrupt:
        run.save(folder)
        raise
    if stopped and run.points[-1].bits_per_byte is None:
        run.validate()
    for name, master in run.best_weights.items():
        run.optimizer.masters[name].copy_(master)
    run.optimizer.copy_to_network()
    return Result(
        tokens=run.tokens,
        steps=run.step,
        best_step=run.best[0],
        best_bits_per_byte=run.best[1],
        start=run.start,
        rollbacks=run.rollbacks,
        stopped_early=run.tokens < plan.tokens,
        stopped=stopped and run.tokens < plan.tokens,
        points=run.points,
        seconds=clock.seconds(),
        warmup_s=run.warmup_s,
        tokens_per_s=run.tokens_per_s or 0.0,
        sessions=run.sessions,
    )


def _is_stopped(on_progress: Callable[[Progress], None], progress: Progress) -> bool:
    try:
        on_progress(progress)
    except StopTraining:
        return True
    return False
