"""The training loop: packed rows in, a better network out, resumable to the bit."""

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
from sizewise.lm.folder import head_of, hidden_states, layers_of, quiet_libraries
from sizewise.lm.kernels import enable_kernels, keep_memory
from sizewise.lm.loss import cross_entropy
from sizewise.lm.optimiser import MasterAdamW
from sizewise.lm.packing import Mix, Rows
from sizewise.lm.products import fuse_adapters, unfuse_adapters
from sizewise.lm.score import bits_per_byte
from sizewise.lm.state import load_state, save_state

WARMUP_SHARE = 0.05
LAST_RATE_SHARE = 0.05
SAVE_EVERY_S = 15.0


@dataclass(frozen=True)
class Plan:
    """What a run will do; kept on disk, so that a resumed run does the same.

    Attributes:
        tokens: token budget.
        learning_rate: peak rate.
        weight_decay: on matrices.
        compiled: whether blocks are compiled.
        validations: how many times validation is measured, the end included.
    """

    tokens: int
    learning_rate: float
    weight_decay: float
    compiled: bool
    validations: int


@dataclass(frozen=True)
class Progress:
    """Where a run stands, for the eye.

    Attributes:
        step: steps done.
        tokens: tokens seen.
        budget: tokens to see.
        loss: training loss of the last step.
        learning_rate: of the last step.
        bits_per_byte: validation, where it was measured now.
        tokens_per_s: median speed, None in the first step.
        seconds: seconds of training over all sessions.
    """

    step: int
    tokens: int
    budget: int
    loss: float
    learning_rate: float
    bits_per_byte: float | None
    tokens_per_s: float | None
    seconds: float


@dataclass(frozen=True)
class Point:
    """One moment of the run: the fields of a record's CurvePoint."""

    step: int
    tokens: int
    loss: float
    bits_per_byte: float | None
    learning_rate: float
    seconds: float


@dataclass(frozen=True)
class Result:
    """What a run came to. The network holds the best weights.

    Attributes:
        tokens: tokens seen, padding left out.
        steps: optimiser steps.
        best_step: step whose weights were kept.
        best_bits_per_byte: their validation bits per byte.
        start_bits_per_byte: validation before the first step.
        points: the run over time.
        seconds: wall time, all sessions.
        warmup_s: seconds of the first step.
        tokens_per_s: median speed.
        sessions: how many times the run was started.
    """

    tokens: int
    steps: int
    best_step: int
    best_bits_per_byte: float
    start_bits_per_byte: float
    points: list[Point]
    seconds: float
    warmup_s: float
    tokens_per_s: float
    sessions: int


def prepare(network: Any, compiled: bool) -> None:
    """Make a network ready for packed rows; with `compiled`, each block is compiled once."""
    quiet_libraries()
    base = base_of(network)
    base.config.use_cache = False
    base.set_attn_implementation(attention.NAME)
    network.train()
    enable_kernels(compiled)
    keep_memory()
    fuse_adapters(network)
    if compiled:
        for layer in layers_of(base):
            layer.compile(dynamic=False)


def finish(network: Any) -> None:
    """Undo `prepare`."""
    base = base_of(network)
    base.config.use_cache = True
    base.set_attn_implementation("sdpa")
    for layer in layers_of(base):
        layer._compiled_call_impl = None
    unfuse_adapters(network)
    network.eval()


def hidden_of(network: Any, rows: Rows) -> torch.Tensor:
    """Give the hidden states of packed rows before the head, (rows, tokens, width)."""
    base = base_of(network)
    device = base.device
    embedded = base.get_input_embeddings()(torch.from_numpy(rows.ids).to(device))
    if torch.is_grad_enabled() and not embedded.requires_grad:
        # One graph then serves all blocks: a first block without gradient would be compiled a second time.
        embedded = embedded.requires_grad_()
    return hidden_states(
        base,
        inputs_embeds=embedded,
        attention_mask=attention.masks_for(base.config, torch.from_numpy(rows.segments).to(device)),
        position_ids=torch.from_numpy(rows.positions).to(device),
        use_cache=False,
    )


def loss_of(network: Any, rows: Rows) -> torch.Tensor:
    """Give the mean loss of packed rows, nats a predicted token."""
    hidden = hidden_of(network, rows)
    targets = torch.from_numpy(rows.targets).to(hidden.device)
    return cross_entropy(hidden.flatten(0, 1), head_of(base_of(network)), targets.flatten())


def validation_bits(network: Any, tokenizer: Any, texts: list[str], context: int) -> float:
    """Give bits per byte of validation texts under a network that is being trained.

    Scoring reads whole texts without a mask of segments: the fused attention is right for that.
    """
    base = base_of(network)
    base.set_attn_implementation("sdpa")
    try:
        return bits_per_byte(base, tokenizer, texts, context)
    finally:
        base.set_attn_implementation(attention.NAME)


def rate_at(done: float, peak: float) -> float:
    """Give the learning rate after a share of the budget: linear warm-up, then cosine to a small rest."""
    if done < WARMUP_SHARE:
        return peak * max(done / WARMUP_SHARE, 0.1)
    along = min(1.0, (done - WARMUP_SHARE) / (1 - WARMUP_SHARE))
    return peak * (LAST_RATE_SHARE + (1 - LAST_RATE_SHARE) * 0.5 * (1 + math.cos(math.pi * along)))


def probe(network: Any, mix: Mix, steps: int = 4) -> tuple[float, float]:
    """Measure warm-up and speed without changing a weight.

    Returns:
        Seconds of the first step above a usual one, and tokens (padding left out) a second.
    """
    times = []
    for number in range(steps + 1):
        start = time.perf_counter()
        loss_of(network, mix.step(number)).backward()
        times.append(time.perf_counter() - start)
    for parameter in network.parameters():
        parameter.grad = None
    usual = median(times[1:])
    return max(0.0, times[0] - usual), mix.tokens_per_step() / usual


class _Run:
    """The moving parts of one run."""

    def __init__(self, network: Any, plan: Plan) -> None:
        self.network = network
        self.optimiser = MasterAdamW(network.named_parameters(), plan.weight_decay)
        self.step = 0
        self.tokens = 0
        self.points: list[Point] = []
        self.start_bits_per_byte = float("nan")
        self.best: tuple[int, float] = (0, float("inf"))
        self.best_weights = {name: master.clone() for name, master in self.optimiser.masters.items()}
        self.sessions = 1
        self.seconds = 0.0

    def save(self, folder: Path) -> None:
        tensors = self.optimiser.tensors() | {f"best.{n}": t for n, t in self.best_weights.items()}
        progress = {
            "step": self.step,
            "tokens": self.tokens,
            "points": [asdict(point) for point in self.points],
            "start": self.start_bits_per_byte,
            "best": self.best,
            "sessions": self.sessions,
            "seconds": self.seconds,
        }
        save_state(folder, self.step, tensors, progress)

    def resume(self, folder: Path) -> bool:
        found = load_state(folder)
        if found is None:
            return False
        tensors, progress = found
        self.optimiser.load(tensors)
        self.best_weights = {name: tensors[f"best.{name}"] for name in self.best_weights}
        self.step, self.tokens = progress["step"], progress["tokens"]
        self.points = [Point(**point) for point in progress["points"]]
        self.start_bits_per_byte, self.best = progress["start"], tuple(progress["best"])
        self.sessions, self.seconds = progress["sessions"] + 1, progress["seconds"]
        return True

    def validate(self, validate: Callable[[], float]) -> float:
        self.network.eval()
        with torch.compiler.set_stance("force_eager"):
            value = validate()
        self.network.train()
        if value < self.best[1]:
            self.best = (self.step, value)
            self.best_weights = {name: master.clone() for name, master in self.optimiser.masters.items()}
        return value


def train_network(
    network: Any,
    mix: Mix,
    plan: Plan,
    validate: Callable[[], float],
    folder: Path,
    on_progress: Callable[[Progress], None],
) -> Result:
    """Train a prepared network for a token budget and leave the best weights in it.

    A run that was killed goes on from its last checkpoint in `folder`, with the same end.

    Args:
        network: from `prepare`; its trainable parameters are trained.
        mix: the training rows.
        plan: what to do.
        validate: gives validation bits per byte of the network as it is.
        folder: where checkpoints lie.
        on_progress: called after each step.

    Raises:
        SizewiseError: a checkpoint cannot be written.
        FloatingPointError: the loss is not finite.
    """
    run = _Run(network, plan)
    resumed = run.resume(folder)
    clock = _Clock(run.seconds)
    if not resumed:
        run.start_bits_per_byte = run.validate(validate)
    due = [plan.tokens * (i + 1) / plan.validations for i in range(plan.validations)]
    saved = time.monotonic()
    speeds: list[float] = []
    warmup = 0.0
    whole = True  # whether weights and counters belong together: a save in between would spoil the run
    try:
        while run.tokens < plan.tokens:
            rows = mix.step(run.step)
            begun = time.perf_counter()
            rate = rate_at(run.tokens / plan.tokens, plan.learning_rate)
            loss = loss_of(network, rows)
            loss.backward()
            value = float(loss.detach())
            if not math.isfinite(value):
                raise FloatingPointError(f"the loss became {value} at step {run.step + 1}")
            whole = False
            run.optimiser.step(rate)
            took = time.perf_counter() - begun
            new = int((rows.segments > 0).sum())
            before, run.tokens, run.step = run.tokens, run.tokens + new, run.step + 1
            if warmup:
                speeds.append(new / took)
            else:
                warmup = took
            bits = None
            if any(before < mark <= run.tokens for mark in due) or run.tokens >= plan.tokens:
                bits = run.validate(validate)
            run.seconds = clock.seconds()
            run.points.append(Point(run.step, run.tokens, value, bits, rate, run.seconds))
            whole = True
            speed = median(speeds) if speeds else None
            on_progress(Progress(run.step, run.tokens, plan.tokens, value, rate, bits, speed, run.seconds))
            if time.monotonic() - saved > SAVE_EVERY_S:
                run.save(folder)
                saved = time.monotonic()
    except KeyboardInterrupt:
        if whole:
            run.save(folder)
        raise
    for name, master in run.best_weights.items():
        run.optimiser.masters[name].copy_(master)
    run.optimiser.copy_to_network()
    return Result(
        tokens=run.tokens,
        steps=run.step,
        best_step=run.best[0],
        best_bits_per_byte=run.best[1],
        start_bits_per_byte=run.start_bits_per_byte,
        points=run.points,
        seconds=clock.seconds(),
        warmup_s=warmup,
        tokens_per_s=median(speeds) if speeds else 0.0,
        sessions=run.sessions,
    )


class _Clock:
    """Seconds of this session on top of those of earlier ones."""

    def __init__(self, before: float) -> None:
        self._before = before
        self._start = time.monotonic()

    def seconds(self) -> float:
        return self._before + time.monotonic() - self._start
