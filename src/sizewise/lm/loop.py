"""The training loop: packed rows in, a better network out, resumable to the bit."""

from __future__ import annotations

import math
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import torch

from sizewise.lm import attention
from sizewise.lm.adapt import base_of
from sizewise.lm.checking import check_packing
from sizewise.lm.checkpointing import load_state, save_state
from sizewise.lm.fused_lora import fuse_adapters, unfuse_adapters
from sizewise.lm.hf_format import head_of, hidden_states, layers_of, quiet_libraries
from sizewise.lm.kernels import enable_kernels
from sizewise.lm.loss import SoftTargets, cross_entropy, likeliest
from sizewise.lm.optimiser import MasterAdamW
from sizewise.lm.packing import NO_TARGET, Mix, Rows, Unit, cut, pack
from sizewise.lm.tokenizer import prefix_id, text_ids

WARMUP_SHARE = 0.05
LAST_RATE_SHARE = 0.05
SAVE_EVERY_S = 15.0
SAVE_SHARE = 0.03  # of the time at most: the state of a large network takes seconds to write
VALIDATION_ROWS = 4
# A loss so many nats above the worst of the steps before has run away. Not above their mean: answers, text and control
# text take turns and differ by far.
RUNAWAY_NATS, FEWEST_STEPS, MOST_STEPS, MOST_ROLLBACKS = 3.0, 10, 100, 3


@dataclass(frozen=True)
class Plan:
    """What a run will do; kept on disk, so that a resumed run does the same.

    Attributes:
        tokens: token budget.
        learning_rate: peak rate.
        weight_decay: on matrices.
        compiled: whether blocks are compiled.
        validations: how many times validation is measured, the end included.
        patience: validations without a new best after which the run stops; 0: never.
        checkpointing: whether activations are computed again on the way back.
    """

    tokens: int
    learning_rate: float
    weight_decay: float
    compiled: bool
    validations: int
    patience: int = 0
    checkpointing: bool = False


@dataclass(frozen=True)
class Bits:
    """Validation of a network that is being trained.

    Attributes:
        domain: bits per byte of held-out text of the domain.
        control: bits per byte of control text, where there is any.
    """

    domain: float
    control: float | None = None


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
        points: the run so far.
        start_bits_per_byte: validation before the first step.
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
    """One moment of the run: the fields of a record's CurvePoint."""

    step: int
    tokens: int
    loss: float
    bits_per_byte: float | None
    learning_rate: float
    seconds: float
    control_bits_per_byte: float | None = None


@dataclass(frozen=True)
class Result:
    """What a run came to. The network holds the best weights.

    Attributes:
        tokens: tokens seen, padding left out.
        steps: optimiser steps.
        best_step: step whose weights were kept.
        best_bits_per_byte: their validation bits per byte.
        start: validation before the first step.
        rollbacks: steps at which the loss ran away and the run went back to its best weights.
        stopped_early: whether it stopped because validation no longer improved.
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
    start: Bits
    rollbacks: list[int]
    stopped_early: bool
    points: list[Point]
    seconds: float
    warmup_s: float
    tokens_per_s: float
    sessions: int


def prepare(network: Any, compiled: bool, checkpointing: bool = False) -> None:
    """Make a network ready for packed rows.

    Args:
        network: a causal language model, with or without adapters.
        compiled: compile each block once.
        checkpointing: compute activations again on the way back instead of keeping them: less memory, more time.

    Raises:
        SizewiseError: texts in one row would read each other, or otherwise than alone.
    """
    quiet_libraries()
    base = base_of(network)
    base.config.use_cache = False
    check_packing(base, lambda: base.set_attn_implementation(attention.NAME), lambda rows: hidden_of(network, rows))
    network.train()
    enable_kernels(compiled)
    fuse_adapters(network)
    if checkpointing:
        base.activation_checkpointing_enable(activation_checkpointing_kwargs={"use_reentrant": False})
    if compiled:
        for layer in layers_of(base):
            layer.compile(dynamic=False)


def finish(network: Any) -> None:
    """Undo `prepare`."""
    base = base_of(network)
    base.config.use_cache = True
    base.activation_checkpointing_disable()
    base.set_attn_implementation("sdpa" if base._supports_sdpa else "eager")
    layers = list(layers_of(base))
    if any(layer._compiled_call_impl for layer in layers):
        torch.compiler.reset()  # or the next network would soon meet the limit of graphs for one block, and run eagerly
    for layer in layers:
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


Teacher = Callable[[Rows], SoftTargets]


def loss_of(network: Any, rows: Rows, teacher: Teacher | None = None) -> torch.Tensor:
    """Give the mean loss of packed rows, nats a predicted token."""
    hidden = hidden_of(network, rows)
    targets = torch.from_numpy(rows.targets).to(hidden.device)
    soft = teacher(rows) if teacher else None
    return cross_entropy(hidden.flatten(0, 1), head_of(base_of(network)), targets.flatten(), soft)


def teacher_of(network: Any, share: float, k: int = 32) -> Teacher:
    """Let a network with the same vocabulary say what it expects at each predicted place of packed rows.

    Args:
        network: the teacher, prepared without compilation.
        share: how much of the loss its expectation makes.
        k: likeliest tokens that are kept; the others count as impossible.
    """

    def expect(rows: Rows) -> SoftTargets:
        with torch.inference_mode():
            hidden = hidden_of(network, rows)
            predicted = torch.from_numpy(rows.targets != NO_TARGET).to(hidden.device)
            ids, weights = likeliest(hidden[predicted], head_of(base_of(network)), k)
        return SoftTargets(ids.clone(), weights.clone(), share)

    return expect


class Held(NamedTuple):
    """Held-out text to watch a run by, packed into rows; each token is predicted once."""

    rows: Rows
    bytes: int

    @classmethod
    def of(cls, tokenizer: Any, units: Sequence[Unit], texts: Sequence[str], context: int) -> Held:
        """Pack encoded units; `texts` is what is predicted of them."""
        rows = pack(units, context, tokenizer.pad_token_id).all()
        return cls(rows, sum(len(text.encode("utf-8")) for text in texts))

    @classmethod
    def of_texts(cls, tokenizer: Any, texts: Sequence[str], context: int) -> Held:
        """Pack whole texts."""
        prefix = prefix_id(tokenizer)
        units = [unit for text in texts for unit in cut([prefix, *text_ids(tokenizer, text)], context)]
        return cls.of(tokenizer, units, texts, context)


@torch.no_grad()
def validation_bits(network: Any, held: Held) -> float:
    """Give bits per byte of held-out text under a prepared network, in rows as it is trained in."""
    nats = 0.0
    with _uncompiled_blocks(network):
        for start in range(0, len(held.rows), VALIDATION_ROWS):
            rows = Rows(*(some[start : start + VALIDATION_ROWS] for some in held.rows.arrays()))
            predicted = int((rows.targets != NO_TARGET).sum())
            nats += float(loss_of(network, rows)) * predicted
    return nats / math.log(2) / held.bytes


@contextmanager
def _uncompiled_blocks(network: Any) -> Iterator[None]:
    """Run blocks as they stand for a moment: compiled ones would be compiled again for the way there alone."""
    layers = list(layers_of(base_of(network)))
    compiled = [layer._compiled_call_impl for layer in layers]
    for layer in layers:
        layer._compiled_call_impl = None
    try:
        yield
    finally:
        for layer, one in zip(layers, compiled, strict=True):
            layer._compiled_call_impl = one


def rate_at(done: float, peak: float) -> float:
    """Give the learning rate after a share of the budget: linear warm-up, then cosine to a small rest."""
    if done < WARMUP_SHARE:
        return peak * max(done / WARMUP_SHARE, 0.1)
    along = min(1.0, (done - WARMUP_SHARE) / (1 - WARMUP_SHARE))
    return peak * (LAST_RATE_SHARE + (1 - LAST_RATE_SHARE) * 0.5 * (1 + math.cos(math.pi * along)))


def probe(network: Any, mix: Mix, teacher: Teacher | None = None, steps: int = 4) -> tuple[float, float]:
    """Measure warm-up and speed without changing a weight.

    Returns:
        Seconds of the first step above a usual one, and tokens (padding left out) a second.
    """
    times = []
    for number in range(steps + 1):
        start = time.perf_counter()
        loss_of(network, mix.step(number), teacher).backward()
        times.append(time.perf_counter() - start)
    for parameter in network.parameters():
        parameter.grad = None
    usual = median(times[1:])
    return max(0.0, times[0] - usual), mix.tokens_per_step() / usual


class _Run:
    """The moving parts of one run."""

    def __init__(self, network: Any, plan: Plan) -> None:
        self.network, self.plan = network, plan
        self.optimiser = MasterAdamW(network.named_parameters(), plan.weight_decay)
        self.step = 0
        self.tokens = 0
        self.points: list[Point] = []
        self.start = Bits(float("nan"))
        self.best: tuple[int, float] = (0, float("inf"))
        self.best_weights = {name: master.clone() for name, master in self.optimiser.masters.items()}
        self.waited = 0  # validations since the best one
        self.rollbacks: list[int] = []
        self.sessions = 1
        self.seconds = 0.0

    def save(self, folder: Path) -> None:
        tensors = self.optimiser.tensors() | {f"best.{n}": t for n, t in self.best_weights.items()}
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
        found = load_state(folder)
        if found is None:
            return False
        tensors, progress = found
        self.optimiser.load(tensors)
        self.best_weights = {name: tensors[f"best.{name}"] for name in self.best_weights}
        self.step, self.tokens = progress["step"], progress["tokens"]
        self.points = [Point(**point) for point in progress["points"]]
        self.start, self.best = Bits(**progress["start"]), tuple(progress["best"])
        self.waited, self.rollbacks = progress["waited"], progress["rollbacks"]
        self.sessions, self.seconds = progress["sessions"] + 1, progress["seconds"]
        return True

    def validate(self, validate: Callable[[], Bits]) -> Bits:
        self.network.eval()
        bits = validate()
        self.network.train()
        self.waited += 1
        if bits.domain < self.best[1]:
            self.best, self.waited = (self.step, bits.domain), 0
            self.best_weights = {name: master.clone() for name, master in self.optimiser.masters.items()}
        return bits

    def stops_early(self) -> bool:
        """Tell whether validation has not improved for too long."""
        return bool(self.plan.patience) and self.waited >= self.plan.patience

    def ran_away(self, loss: float) -> bool:
        """Tell whether a loss is not finite, or far above those before."""
        before = [point.loss for point in self.points[-MOST_STEPS:]]
        far = len(before) >= FEWEST_STEPS and loss > max(before) + RUNAWAY_NATS
        return far or not math.isfinite(loss)

    def roll_back(self, loss: float) -> None:
        """Go back to the best weights; from then on the rate is half of what it was."""
        if len(self.rollbacks) == MOST_ROLLBACKS:
            raise FloatingPointError(
                f"the loss ran away to {loss} at step {self.step + 1}, after {MOST_ROLLBACKS} rollbacks"
            )
        self.rollbacks.append(self.step + 1)
        self.optimiser.restart(self.best_weights)

    def rate(self) -> float:
        """Give the learning rate of the next step."""
        return float(rate_at(self.tokens / self.plan.tokens, self.plan.learning_rate) * 0.5 ** len(self.rollbacks))


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

    A run that was killed goes on from its last checkpoint in `folder`, with the same end. A loss that runs away
    takes the run back to its best weights, and on with half the rate.

    Args:
        network: from `prepare`; its trainable parameters are trained.
        mix: the training rows.
        plan: what to do.
        validate: measures the network as it is.
        folder: where checkpoints lie.
        on_progress: called after each step.
        teacher: says what it expects, where there is one.

    Raises:
        SizewiseError: a checkpoint cannot be written.
        FloatingPointError: the loss ran away again and again.
    """
    run = _Run(network, plan)
    resumed = run.resume(folder)
    clock = _Clock(run.seconds)
    if not resumed:
        run.start = run.validate(validate)
    due = [plan.tokens * (i + 1) / plan.validations for i in range(plan.validations)]
    saved, save_every_s = time.monotonic(), SAVE_EVERY_S
    speeds: list[float] = []
    warmup = 0.0
    try:
        while run.tokens < plan.tokens and not run.stops_early():
            rows = mix.step(run.step)
            begun = time.perf_counter()
            rate = run.rate()
            loss = loss_of(network, rows, teacher)
            loss.backward()
            value = float(loss.detach())
            with _uninterrupted():  # weights and counters belong together
                if run.ran_away(value):
                    run.roll_back(value)
                    value = run.points[-1].loss if run.points else 0.0
                else:
                    run.optimiser.step(rate)
                took = time.perf_counter() - begun
                new = int((rows.segments > 0).sum())
                before, run.tokens, run.step = run.tokens, run.tokens + new, run.step + 1
                if warmup:
                    speeds.append(new / took)
                else:
                    warmup = took
                bits = Bits(float("nan"))
                due_now = any(before < mark <= run.tokens for mark in due) or run.tokens >= plan.tokens
                if due_now:
                    bits = run.validate(validate)
                domain = bits.domain if due_now else None
                run.seconds = clock.seconds()
                run.points.append(Point(run.step, run.tokens, value, domain, rate, run.seconds, bits.control))
            speed = median(speeds) if speeds else None
            on_progress(
                Progress(
                    run.step,
                    run.tokens,
                    plan.tokens,
                    value,
                    rate,
                    domain,
                    speed,
                    run.seconds,
                    run.points,
                    run.start.domain,
                )
            )
            if time.monotonic() - saved > save_every_s:
                begun_saving = time.monotonic()
                run.save(folder)
                saved = time.monotonic()
                save_every_s = max(SAVE_EVERY_S, (saved - begun_saving) / SAVE_SHARE)
    except KeyboardInterrupt:
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
        start=run.start,
        rollbacks=run.rollbacks,
        stopped_early=run.tokens < plan.tokens,
        points=run.points,
        seconds=clock.seconds(),
        warmup_s=warmup,
        tokens_per_s=median(speeds) if speeds else 0.0,
        sessions=run.sessions,
    )


@contextmanager
def _uninterrupted() -> Iterator[None]:
    """Let Ctrl-C wait until the end of what is done here."""
    before = signal.getsignal(signal.SIGINT)
    if threading.current_thread() is not threading.main_thread() or not callable(before):
        yield  # signals never come here, or (in a job in the background) are not wanted
        return
    noted: list[int] = []
    signal.signal(signal.SIGINT, lambda number, frame: noted.append(number))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
    if noted:
        before(signal.SIGINT, None)


class _Clock:
    """Seconds of this session on top of those of earlier ones."""

    def __init__(self, before: float) -> None:
        self._before = before
        self._start = time.monotonic()

    def seconds(self) -> float:
        return self._before + time.monotonic() - self._start
