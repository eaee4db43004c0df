"""The training loop over packed rows. A killed run resumes from its last checkpoint and ends bit-identical."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch

from sizewise.errors import SizewiseError
from sizewise.lm import attention
from sizewise.lm.adapt import base_of
from sizewise.lm.checking import check_gradients, check_packing
from sizewise.lm.checkpointing import load_state, save_state
from sizewise.lm.distributed import ALONE, Workers
from sizewise.lm.execution import execution_of
from sizewise.lm.fused_lora import fuse_adapters, unfuse_adapters
from sizewise.lm.hf_format import quiet_libraries
from sizewise.lm.interruption import Clock, uninterrupted
from sizewise.lm.kernels import enable_kernels
from sizewise.lm.loss import SoftTargets, cross_entropy, likeliest
from sizewise.lm.optimizer import MasterAdamW
from sizewise.lm.packing import NO_TARGET, Mix, Rows
from sizewise.lm.plan import Bits as Bits
from sizewise.lm.plan import Plan as Plan
from sizewise.lm.plan import Point as Point
from sizewise.lm.plan import Progress as Progress
from sizewise.lm.plan import Result as Result
from sizewise.lm.plan import StopTraining as StopTraining
from sizewise.lm.plan import thinned as thinned
from sizewise.lm.run_files import CURVE_FILE, Applied, Changes, CurveFile, request_change
from sizewise.lm.schedule import Cooling
from sizewise.lm.schedule import rate_at as rate_at
from sizewise.progress import pulse

SAVE_EVERY_S = 15.0
REFIT_SHARES, BOTH_WAYS, REFIT_FROM, MIN_TIMED_STEPS = (0.1, 0.25, 0.5, 0.75), 2, 0.1, 3
"""Shares of the budget after which it is fitted to the time again, how many of these fits may raise it, too, the change
from which that is done, and the steps that the speed needs. Later, the learning rate has come down and stays there."""
SAVE_SHARE = 0.03  # maximum share of the time spent on saving: a large network's state takes seconds to write
# The loss has diverged if it exceeds the maximum of recent steps by this many nats. The mean would be too strict: rows
# of answers, text and control text alternate, and their losses differ widely.
DIVERGENCE_NATS, MIN_HISTORY, MAX_HISTORY, MAX_ROLLBACKS = 3.0, 10, 100, 3


def prepare(network: Any, compiled: bool, checkpointing: bool = False) -> None:
    """Prepare a network for training on packed rows.

    Args:
        network: a causal language model, with or without adapters.
        compiled: compile each block once.
        checkpointing: recompute activations in the backward pass instead of storing them: less memory, more time.

    Raises:
        SizewiseError: a training row's texts don't have the same scores as in the network's own forward pass, or no
            gradients.
    """
    quiet_libraries()
    base, execution = base_of(network), execution_of(network)
    base.config.use_cache = False
    check_packing(base, lambda: base.set_attn_implementation(attention.NAME))
    network.train()
    enable_kernels(compiled)
    fuse_adapters(network)
    try:
        check_gradients(base)
    except SizewiseError:  # a block may change the output of a layer in place, which fused adapters don't permit
        unfuse_adapters(network)
        check_gradients(base)
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
    network: Any,
    rows: Rows,
    teacher: Teacher | None,
    micro_rows: int,
    collect: Callable[[], None],
    workers: Workers = ALONE,
) -> float:
    """Compute the gradient of `loss_of` in parts, which take less memory than all rows at once.

    Args:
        network: a network from `prepare`.
        rows: the rows of a step.
        teacher: predicts soft targets.
        micro_rows: rows of a part; 0 for all.
        collect: called between parts, when the network holds the gradient of a part.
        workers: processes that share the rows.

    Returns:
        The loss of all rows in nats per predicted token.
    """
    loss = 0.0
    for number, (part, factor) in enumerate(workers.parts(rows, micro_rows)):
        if number:
            collect()
        of_part = workers.compute(partial(loss_of, network, part, teacher))
        (of_part * factor).backward()
        loss += float(of_part.detach()) * factor
    return float(workers.total(np.array([loss / workers.size]))[0])


def teacher_of(network: Any, share: float, k: int = 32, size: int | None = None) -> Teacher:
    """Build a teacher that predicts soft targets for packed rows.

    Args:
        network: the teacher, with the student's vocabulary, prepared without compilation.
        share: weight of the teacher's distribution in the loss.
        k: number of most likely tokens to keep; all others get probability zero.
        size: tokens that the student predicts, by default as many as the teacher. Models of a family may have more rows
            than tokens, each another number.
    """

    def soft_targets(rows: Rows) -> SoftTargets:
        with torch.inference_mode():
            hidden = hidden_of(network, rows)
            predicted = torch.from_numpy(rows.targets != NO_TARGET).to(hidden.device)
            head = execution_of(network).head
            common = min(head.size, size or head.size)
            ids, weights = likeliest(hidden[predicted], head, min(k, common), size=common)
        return SoftTargets(ids.clone(), weights.clone(), share)

    return soft_targets


def probe_speed(
    network: Any, mix: Mix, teacher: Teacher | None = None, steps: int = 4, micro_rows: int = 0, rows: int = 0
) -> tuple[float, float]:
    """Measure warm-up time and speed without changing any weight.

    Args:
        network: a network from `prepare`.
        mix: the training rows.
        teacher: predicts soft targets.
        steps: steps to measure after the first one.
        micro_rows: rows in memory at a time; 0 for all.
        rows: rows of a step that this process computes; 0 for all. As many processes as that takes compute the others.

    Returns:
        Seconds that the first step takes longer than the median step, and tokens/s of all processes, without padding.
    """
    times = []
    for number in range(steps + 1):
        start = time.perf_counter()
        own = mix.step(number).at(slice(rows or mix.rows_per_step))
        backward_in_parts(network, own, teacher, micro_rows, lambda: None)
        times.append(time.perf_counter() - start)
        pulse()
    for parameter in network.parameters():
        parameter.grad = None
    typical = median(times[1:])
    return max(0.0, times[0] - typical), mix.tokens_per_step() / typical


class _Run:
    """State of one run: optimizer, counters, curve and best weights."""

    def __init__(
        self, network: Any, plan: Plan, validate: Callable[[], Bits], folder: Path, workers: Workers = ALONE
    ) -> None:
        self.network, self.plan, self._validate, self._workers = network, plan, validate, workers
        self._folder = folder
        self.changes, self._curve = Changes(folder), CurveFile(folder / CURVE_FILE, workers.is_first)
        self.optimizer = MasterAdamW(network.named_parameters(), plan.weight_decay, plan.optimizer)
        self.step = 0
        self.tokens = 0
        self.points: list[Point] = []
        self.start = Bits(float("nan"))
        self.best_step, self.best = 0, Bits(float("inf"))
        self.best_weights = self._weights()
        self.waited = 0  # validations since the best one
        self.rollbacks: list[int] = []
        self.sessions = 1
        self.seconds = 0.0
        self.stepping_s = 0.0
        self.warmup_s = 0.0
        self.stopped = False
        self.cooling: Cooling | None = None
        self._speeds: list[float] = []
        self._refits = 0

    def _weights(self) -> dict[str, torch.Tensor]:
        """Copy the weights to the machine's memory, where they take no space on a graphics card."""
        return {
            name: master.clone() if master.device.type == "cpu" or self._workers.sharded else master.cpu()
            for name, master in self.optimizer.masters.items()
        }

    def save(self, folder: Path) -> None:
        self._curve.append([asdict(point) for point in self.points])
        tensors = self.optimizer.tensors() | {f"best.{n}": t for n, t in self.best_weights.items()}
        progress = {
            "step": self.step,
            "tokens": self.tokens,
            "start": asdict(self.start),
            "best_step": self.best_step,
            "best": asdict(self.best),
            "waited": self.waited,
            "rollbacks": self.rollbacks,
            "sessions": self.sessions,
            "seconds": self.seconds,
            "stepping_s": self.stepping_s,
            "cooling": self.cooling,
        }
        save_state(folder, self.step, tensors, progress, self._workers)

    def resume(self, folder: Path) -> bool:
        """Load the last checkpoint; return False if there is none."""
        found = load_state(folder, self.optimizer.masters, self._workers)
        if found is None or "best_step" not in found[1]:  # none, or one of an earlier version
            self._curve.read(0)
            return False
        tensors, progress = found
        self.optimizer.load(tensors)
        self.best_weights = {name: tensors[f"best.{name}"] for name in self.best_weights}
        self.step, self.tokens = progress["step"], progress["tokens"]
        self.points = [Point(**point) for point in self._curve.read(self.step)]
        self.start, self.best = _bits(progress["start"]), _bits(progress["best"])
        self.best_step = progress["best_step"]
        self.waited, self.rollbacks = progress["waited"], progress["rollbacks"]
        self.sessions, self.seconds = progress["sessions"] + 1, progress["seconds"]
        self.stepping_s = progress.get("stepping_s", self.seconds)
        for change in self.changes.up_to(self.step):
            self._apply(change)
        self.cooling = Cooling(*progress["cooling"]) if progress.get("cooling") else None
        self._refits = self._refits_due()  # those of earlier sessions aren't made again with another speed
        return True

    def take_changes(self) -> None:
        """Apply the changes that are due before the next step."""
        if self._workers.is_first:
            self._fit_time()
        due = self.changes.before(self.step, self.tokens) if self._workers.is_first else []
        for change in self._workers.shared([tuple(one) for one in due]):
            self._apply(Applied(*change))
        if self._has_stalled and not self.cooling and not self.stopped:
            self._cool_down()

    def _cool_down(self) -> None:
        """Bring the learning rate down from the best weights on, if validation stopped improving at a high one."""
        self.cooling = Cooling.after(self.points, self.best_step, self.plan, self.rollbacks)
        if self.cooling:
            self.optimizer.restart(self.best_weights)
            self.waited = 0

    def _fit_time(self) -> None:
        """Ask for the token budget that fits into the time, where the speed isn't that of the probe before the run."""
        passed = self._refits_due()
        fixed = self.cooling or any(change.setting == "tokens" for change in self.changes.applied)
        if not self.plan.seconds or fixed or passed <= self._refits or len(self._speeds) < MIN_TIMED_STEPS:
            return
        self._refits = passed
        speed = len(self._speeds) / sum(1 / one for one in self._speeds)  # of tokens over time, pauses included
        more = max(0.0, self.plan.seconds - self.stepping_s) * speed
        tokens = int(min(self.tokens + more, self.plan.max_tokens))
        change = tokens / self.plan.tokens - 1
        if change < -REFIT_FROM or (change > REFIT_FROM and passed <= BOTH_WAYS):
            request_change(self._folder, {"time": max(tokens, self.tokens)})

    def _refits_due(self) -> int:
        return sum(self.tokens / self.plan.tokens >= one for one in REFIT_SHARES)

    def _apply(self, change: Applied) -> None:
        if change.setting == "stop":
            self.stopped = True
        elif change.setting in ("tokens", "time"):
            self.plan = replace(self.plan, tokens=int(change.value))
            self.cooling = self.cooling and self.cooling._replace(end=self.plan.tokens)
        else:
            self.plan = replace(self.plan, learning_rate=change.value)
            self.cooling = self.cooling and self.cooling._replace(peak=change.value, rollbacks=len(self.rollbacks))

    def validate(self) -> Bits:
        """Measure validation and keep the weights if they are the best so far."""
        self.network.eval()
        bits = self._validate()
        self.network.train()
        self.waited += 1
        if bits.domain < self.best.domain:
            self.best_step, self.best, self.waited = self.step, bits, 0
            self.best_weights = self._weights()
        return bits

    def finish(self) -> None:
        """Validate the last weights if that wasn't done, write the curve, and restore the best weights."""
        if self.points and self.points[-1].bits_per_byte is None:
            self.validate()
        self._curve.append([asdict(point) for point in self.points])
        for name, master in self.best_weights.items():
            self.optimizer.masters[name].copy_(master)
        self.optimizer.copy_to_network()

    @property
    def is_done(self) -> bool:
        """Whether the budget is used up or validation has stopped improving."""
        return self.tokens >= self.budget or self._has_stalled or self.stopped

    @property
    def budget(self) -> int:
        """Tokens after which the run ends."""
        return self.cooling.end if self.cooling else self.plan.tokens

    @property
    def _has_stalled(self) -> bool:
        return bool(self.plan.patience) and self.waited >= self.plan.patience

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
        if self.cooling:
            return self.cooling.rate(self.tokens, len(self.rollbacks))
        return float(rate_at(self.tokens / self.plan.tokens, self.plan.learning_rate) * 0.5 ** len(self.rollbacks))

    def advance(self, rows: Rows, teacher: Teacher | None, clock: Clock) -> Progress:
        """Take one training step, and validate if it is due."""
        begun = time.perf_counter()
        rate = self.rate()
        collect, workers = self.optimizer.collect, self._workers
        loss = backward_in_parts(self.network, rows, teacher, self.plan.micro_rows, collect, workers)
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
            self.budget,
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
        self.stepping_s += seconds
        if self.warmup_s:
            self._speeds.append(tokens / seconds)
        else:
            self.warmup_s = seconds

    def _is_validation_due(self, rows: Rows) -> bool:
        if self.cooling:  # short, and of interest only once the rate is low
            return self.tokens >= self.budget
        between = self.plan.tokens / self.plan.validations
        passed = (self.tokens - _tokens_in(rows)) // between
        return self.tokens // between > passed or self.tokens >= self.plan.tokens


def _bits(saved: dict[str, Any]) -> Bits:
    return Bits(**(saved | {"items": tuple(saved["items"])}))


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
    workers: Workers = ALONE,
) -> Result:
    """Train a prepared network for a token budget and leave the best weights in it.

    A killed run resumes from the last checkpoint in `folder` and reaches the same result. If the loss diverges, the
    run returns to its best weights and continues at half the learning rate. Changes that `request_change` asked for
    in the folder above take effect before the next step.

    Args:
        network: a network from `prepare`; only its trainable parameters change.
        mix: the training rows.
        plan: settings of the run.
        validate: measures the network in its current state.
        folder: folder of the checkpoints; the curve is written beside it.
        on_progress: called after each step; may raise `StopTraining` to end with the best weights so far.
        teacher: predicts soft targets; None trains on the text alone.
        workers: processes that train together, each with this network; on_progress is called in the first one.

    Raises:
        SizewiseError: a checkpoint can't be written.
        FloatingPointError: the loss diverged again after the last permitted rollback.
    """
    workers.wrap(network)
    run = _Run(network, plan, validate, folder.parent, workers)
    resumed = run.resume(folder)
    clock = Clock(run.seconds)
    if not resumed:
        run.start = run.validate()
    saved, save_every_s = time.monotonic(), SAVE_EVERY_S
    try:
        with workers.delayed_signals():
            run.take_changes()
            while not run.is_done:
                progress = run.advance(mix.step(run.step), teacher, clock)
                is_stopped = workers.is_first and _is_stopped(on_progress, progress)
                is_stopped, is_due = workers.shared([is_stopped, time.monotonic() - saved > save_every_s])
                run.stopped |= is_stopped
                if workers.interrupted:
                    raise KeyboardInterrupt
                if is_due:
                    begun = time.monotonic()
                    run.save(folder)
                    saved = time.monotonic()
                    save_every_s = max(SAVE_EVERY_S, (saved - begun) / SAVE_SHARE)
                run.take_changes()
    except KeyboardInterrupt:
        run.save(folder)
        raise
    run.finish()
    return Result(
        tokens=run.tokens,
        steps=run.step,
        best_step=run.best_step,
        best=run.best,
        start=run.start,
        rollbacks=run.rollbacks,
        stopped_early=run.tokens < run.plan.tokens,
        stopped=run.stopped and run.tokens < run.plan.tokens,
        points=run.points,
        changes=run.changes.applied,
        cooling=run.cooling.describe(run.tokens) if run.cooling else "",
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
