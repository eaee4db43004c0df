"""A linear head over the last token of a language model, trained together with low-rank adapters.

A text is encoded as its tokens and a fixed suffix; the hidden state of the suffix's last token is mapped to one logit
per label. This is what transformers' `AutoModelForSequenceClassification` computes, so a trained classifier is an
ordinary Hugging Face folder.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch

from sizewise.lm.adapt import base_of
from sizewise.lm.checkpointing import load_state, save_state
from sizewise.lm.execution import execution_of
from sizewise.lm.loop import SAVE_EVERY_S, SAVE_SHARE, rate_at
from sizewise.lm.optimizer import MasterAdamW
from sizewise.lm.packing import NO_TARGET, Rows

FloatArray = npt.NDArray[np.float64]
STEP = 64  # rows are a multiple of this many tokens
ROW_TOKENS = 1024  # maximum tokens of a training row, unless a single text is longer
START_TEXTS = 2000  # texts that the head is fitted to before adapters are trained
START_PENALTY = 1.0  # of the squared weights, as in scikit-learn's logistic regression with C = 1
START_ITERATIONS = 100


class HeadPlan(NamedTuple):
    """Settings of a run, saved with its checkpoints so that a resumed run follows the same plan."""

    epochs: float
    """Passes over the training texts."""
    learning_rate: float = 1e-3
    """Peak learning rate of the adapters."""
    head_rate: float = 1e-3
    """Peak learning rate of the head."""
    rank: int = 16
    """Rank of the adapters."""
    batch: int = 32
    """Texts in an optimizer step, on average."""
    weight_decay: float = 0.01
    """Weight decay of matrices."""
    validations: int = 3
    """Number of validations, the final one included."""
    seed: int = 0
    """Seed of the adapters and of the order of the texts."""
    limit_s: float = 0.0
    """Seconds of training after which a run ends, validations included; 0: none."""
    validated: int = 1_000
    """Maximum number of validation texts."""


class HeadedNetwork(torch.nn.Module):
    """A language model with a linear head over the last token's hidden state.

    Args:
        network: a causal language model, with or without adapters.
        labels: number of labels.
        seed: seed of the initial weights.
    """

    def __init__(self, network: Any, labels: int, seed: int = 0) -> None:
        super().__init__()
        self.network = network
        width = execution_of(network).text_config.hidden_size
        generator = torch.Generator().manual_seed(seed)
        start = torch.randn((labels, width), generator=generator) * 0.02 / width**0.5
        self.score = torch.nn.Parameter(start.to(base_of(network).device))

    def packed_logits(self, rows: Rows, score: torch.Tensor | None = None) -> tuple[torch.Tensor, torch.Tensor]:
        """Compute logits (texts, labels) in fp32 of packed rows, and each text's index.

        `rows.targets` has a text's index at its last token, NO_TARGET elsewhere. `score` takes the place of the head.
        """
        execution = execution_of(self.network)
        hidden = execution.row_states(rows, execution.decoded)
        targets = torch.from_numpy(rows.targets).to(hidden.device)
        last = targets != NO_TARGET
        return hidden[last].float() @ (self.score if score is None else score).T, targets[last]


@dataclass(frozen=True)
class Labeled:
    """Encoded texts with their labels.

    Attributes:
        ids: token ids of each text.
        targets: (texts, labels) 1 where a label is correct, or shares.
        independent: whether several labels may be correct, each with a probability of its own.
    """

    ids: list[list[int]]
    targets: FloatArray
    independent: bool = False

    def __len__(self) -> int:
        return len(self.ids)


def row_tokens(data: Labeled, batch: int) -> int:
    """Compute the tokens of a training row so that a step holds about `batch` texts."""
    mean = np.mean([len(ids) for ids in data.ids])
    longest = max(len(ids) for ids in data.ids)
    wanted = max(longest, min(ROW_TOKENS, int(batch * mean)))
    return -(-wanted // STEP) * STEP


def steps_of_epoch(data: Labeled, plan: HeadPlan, epoch: int, padding: int) -> list[Rows]:
    """Pack the texts in the order of an epoch, a pure function of (seed, epoch), into the rows of its steps."""
    size = row_tokens(data, plan.batch)
    order = np.random.default_rng([plan.seed, epoch]).permutation(len(data))
    packed: list[list[int]] = [[]]
    room = size
    for i in order:
        if len(data.ids[i]) > room:
            packed.append([])
            room = size
        packed[-1].append(int(i))
        room -= len(data.ids[i])
    texts_per_row = len(data) / len(packed)
    rows = max(1, round(plan.batch / texts_per_row))
    return [pack_rows(data, packed[k : k + rows], size, padding) for k in range(0, len(packed), rows)]


def pack_rows(data: Labeled, rows: Sequence[Sequence[int]], size: int, padding: int) -> Rows:
    """Assemble rows of texts, each with its index as the target of its last token."""
    shape = (len(rows), size)
    made = Rows(
        np.full(shape, padding, np.int64),
        np.full(shape, NO_TARGET, np.int64),
        np.zeros(shape, np.int64),
        np.zeros(shape, np.int64),
    )
    for row, members in enumerate(rows):
        start = 0
        for segment, i in enumerate(members, start=1):
            end = start + len(data.ids[i])
            made.ids[row, start:end] = data.ids[i]
            made.targets[row, end - 1] = i
            made.segments[row, start:end] = segment
            made.positions[row, start:end] = np.arange(end - start)
            start = end
    return made


class HeadPoint(NamedTuple):
    """One validation of a run."""

    step: int
    """Optimizer steps done."""
    log_loss: float
    """Mean log loss of the validation texts in nats."""
    accuracy: float
    """Share of validation texts whose most likely label is right."""


class HeadProgress(NamedTuple):
    """Status of a run after a step, for display."""

    step: int
    """Optimizer steps done."""
    steps: int
    """Optimizer steps of the whole run, at the speed so far."""
    loss: float
    """Training loss of the step in nats per text."""
    seconds: float
    """Training time over all sessions."""
    points: list[HeadPoint]
    """Validations so far."""


class HeadResult(NamedTuple):
    """Outcome of a run. The network holds the best weights."""

    steps: int
    """Optimizer steps."""
    passes: float
    """Passes over the training texts."""
    best: HeadPoint | None
    """Validation of the kept weights; None without validation texts, when the last weights are kept."""
    points: list[HeadPoint]
    """All validations."""
    losses: list[float]
    """Training loss of each step."""
    seconds: float
    """Training time of all sessions."""
    sessions: int
    """Number of times the run was started."""


class _HeadRun:
    """State of one run: optimizers, counters and best weights."""

    def __init__(self, headed: HeadedNetwork, plan: HeadPlan, held_out: Labeled) -> None:
        self.headed, self.plan, self._held_out = headed, plan, held_out
        named = dict(headed.named_parameters())
        head = {"score": named.pop("score")}
        self.optimizers = {
            "adapters": MasterAdamW(iter(named.items()), plan.weight_decay),
            "head": MasterAdamW(iter(head.items()), plan.weight_decay),
        }
        self.step, self.sessions, self.seconds = 0, 1, 0.0
        self.points: list[HeadPoint] = []
        self.losses: list[float] = []
        self.best: HeadPoint | None = None
        self.best_weights = self._weights()

    def _weights(self) -> dict[str, torch.Tensor]:
        return {
            f"{part}.{name}": master.clone()
            for part, optimizer in self.optimizers.items()
            for name, master in optimizer.masters.items()
        }

    def save(self, folder: Path) -> None:
        tensors = {f"best.{name}": tensor for name, tensor in self.best_weights.items()}
        for part, optimizer in self.optimizers.items():
            tensors |= {f"{part}/{name}": tensor for name, tensor in optimizer.tensors().items()}
        progress = {
            "plan": list(self.plan),
            "step": self.step,
            "sessions": self.sessions,
            "seconds": self.seconds,
            "points": self.points,
            "losses": self.losses,
            "best": self.best,
        }
        save_state(folder, self.step, tensors, progress)

    def resume(self, folder: Path) -> None:
        found = load_state(folder)
        if found is None or found[1]["plan"] != list(self.plan):
            return
        tensors, progress = found
        for part, optimizer in self.optimizers.items():
            start = f"{part}/"
            optimizer.load({k.removeprefix(start): t for k, t in tensors.items() if k.startswith(start)})
        self.best_weights = {name: tensors[f"best.{name}"] for name in self.best_weights}
        self.step, self.sessions, self.seconds = progress["step"], progress["sessions"] + 1, progress["seconds"]
        self.points = [HeadPoint(*point) for point in progress["points"]]
        self.losses = progress["losses"]
        self.best = HeadPoint(*progress["best"]) if progress["best"] else None

    def done(self, steps: int) -> float:
        """Return the share of a run of so many steps that is done: of its steps or of its time, whichever is more."""
        return max(self.step / steps, self.seconds / self.plan.limit_s if self.plan.limit_s else 0.0)

    def advance(self, rows: Rows, data: Labeled, done: float) -> None:
        logits, texts = self.headed.packed_logits(rows)
        loss = loss_of_texts(logits, data, texts)
        loss.backward()
        self.optimizers["adapters"].step(rate_at(done, self.plan.learning_rate))
        self.optimizers["head"].step(rate_at(done, self.plan.head_rate))
        self.losses.append(float(loss.detach()))
        self.step += 1

    def validate(self, padding: int) -> None:
        """Score the validation texts and keep the weights if they are the best so far."""
        if not len(self._held_out):
            return
        self.headed.eval()
        logits, texts = _logits_of_all(self.headed, self._held_out, self.plan.batch, padding)
        self.headed.train()
        loss = float(loss_of_texts(logits, self._held_out, texts))
        correct = torch.from_numpy(self._held_out.targets)[texts.cpu()].gather(1, logits.cpu().argmax(-1, keepdim=True))
        point = HeadPoint(self.step, loss, float((correct >= 0.5).double().mean()))
        self.points.append(point)
        if self.best is None or (point.accuracy, -point.log_loss) > (self.best.accuracy, -self.best.log_loss):
            self.best, self.best_weights = point, self._weights()

    def keep_best(self) -> None:
        """Copy the best weights into the network; without validation texts, the last ones stay."""
        if self.best is None:
            return
        with torch.no_grad():
            for part, optimizer in self.optimizers.items():
                for name, master in optimizer.masters.items():
                    master.copy_(self.best_weights[f"{part}.{name}"])
                optimizer.copy_to_network()


def loss_of_texts(logits: torch.Tensor, data: Labeled, texts: torch.Tensor) -> torch.Tensor:
    """Compute the mean loss in nats per text: over labels that exclude each other, or over independent ones."""
    targets = torch.from_numpy(data.targets[texts.cpu().numpy()]).to(logits)
    if data.independent:
        return torch.nn.functional.binary_cross_entropy_with_logits(logits, targets, reduction="none").sum(1).mean()
    return torch.nn.functional.cross_entropy(logits, targets)


@torch.inference_mode()
def _logits_of_all(
    headed: HeadedNetwork, data: Labeled, batch: int, padding: int, score: torch.Tensor | None = None
) -> tuple[torch.Tensor, torch.Tensor]:
    rows = steps_of_epoch(data, HeadPlan(epochs=1, batch=batch), 0, padding)
    parts = [headed.packed_logits(some, score) for some in rows]
    return torch.cat([logits for logits, _ in parts]), torch.cat([texts for _, texts in parts])


def start_head(headed: HeadedNetwork, data: Labeled, plan: HeadPlan, padding: int) -> int:
    """Fit the head alone to the states of some texts, before adapters change them; return the number of texts.

    A head that starts at random spends its first steps on what logistic regression finds in one pass, and changes the
    network's features meanwhile (Kumar et al., 2022, Fine-tuning can distort pretrained features).

    Args:
        headed: the network with fresh adapters, prepared by `loop.prepare`.
        data: training texts.
        plan: settings of the run.
        padding: id that fills rows.
    """
    order = np.random.default_rng([plan.seed, START_TEXTS]).permutation(len(data))[:START_TEXTS]
    some = Labeled([data.ids[i] for i in order], data.targets[order], data.independent)
    identity = torch.eye(headed.score.shape[1], device=headed.score.device)
    headed.eval()
    states, texts = _logits_of_all(headed, some, plan.batch, padding, identity)
    headed.train()
    scale = states.square().mean(0).sqrt().clamp_min(1e-6)
    states = (states / scale).clone()  # a tensor of inference mode can't take part in a gradient
    weights = torch.zeros_like(headed.score, requires_grad=True)
    search = torch.optim.LBFGS([weights], max_iter=START_ITERATIONS, line_search_fn="strong_wolfe")

    def loss() -> torch.Tensor:
        search.zero_grad()
        found = loss_of_texts(states @ weights.T, some, texts)
        found = found + 0.5 * START_PENALTY / len(some) * weights.square().sum()
        found.backward()
        return found

    search.step(loss)
    with torch.no_grad():
        headed.score.copy_(weights / scale)
    return len(some)


def probe_step_s(headed: HeadedNetwork, data: Labeled, plan: HeadPlan, padding: int, steps: int) -> float:
    """Measure the seconds of a training step without changing any weight; the first one warms up."""
    times = []
    for rows in (steps_of_epoch(data, plan, 0, padding) * (steps + 1))[: steps + 1]:
        start = time.perf_counter()
        logits, texts = headed.packed_logits(rows)
        loss_of_texts(logits, data, texts).backward()
        times.append(time.perf_counter() - start)
    for parameter in headed.parameters():
        parameter.grad = None
    return min(times[1:])


def planned_steps(data: Labeled, plan: HeadPlan, padding: int) -> int:
    """Compute the optimizer steps of a run that isn't ended by its time."""
    return max(1, round(plan.epochs * len(steps_of_epoch(data, plan, 0, padding))))


def _rows_of_steps(data: Labeled, plan: HeadPlan, padding: int) -> Iterator[Rows]:
    """Yield the rows of one step after the other, epoch by epoch, without end."""
    for epoch in itertools.count():
        yield from steps_of_epoch(data, plan, epoch, padding)


def train_head(
    headed: HeadedNetwork,
    data: Labeled,
    held_out: Labeled,
    plan: HeadPlan,
    folder: Path,
    padding: int,
    on_progress: Callable[[HeadProgress], None],
    spent_s: float = 0.0,
) -> HeadResult:
    """Train the adapters and the head of a prepared network and leave the best weights in it.

    A killed run resumes from the last checkpoint in `folder` and reaches the same result. The learning rate falls with
    the steps of the plan or with its time, whichever passes faster, so that a run whose time is up ends as it should.

    Args:
        headed: a network whose base was prepared by `loop.prepare`.
        data: training texts.
        held_out: validation texts, which choose among the run's weights.
        plan: settings of the run.
        folder: folder of the checkpoints.
        padding: id that fills rows.
        on_progress: called after each step.
        spent_s: seconds that the run took before its first step, which count as its time.
    """
    run = _HeadRun(headed, plan, held_out)
    run.seconds = spent_s
    run.resume(folder)
    steps = planned_steps(data, plan, padding)
    before, begun, saved, save_every_s = run.seconds, time.monotonic(), time.monotonic(), SAVE_EVERY_S
    done = run.done(steps)
    try:
        for rows in itertools.islice(_rows_of_steps(data, plan, padding), run.step, None):
            if done >= 1 and run.step:
                break
            run.advance(rows, data, min(done, 1.0))
            run.seconds = before + time.monotonic() - begun
            done = run.done(steps)
            if (len(run.points) + 1) / plan.validations <= done < 1:
                run.validate(padding)
                run.seconds = before + time.monotonic() - begun
                done = run.done(steps)
            on_progress(
                HeadProgress(run.step, max(run.step, round(run.step / done)), run.losses[-1], run.seconds, run.points)
            )
            if time.monotonic() - saved > save_every_s:
                writing = time.monotonic()
                run.save(folder)
                saved = time.monotonic()
                save_every_s = max(SAVE_EVERY_S, (saved - writing) / SAVE_SHARE)
    except KeyboardInterrupt:
        run.save(folder)
        raise
    if not run.points or run.points[-1].step != run.step:
        run.validate(padding)
    run.keep_best()
    passes = plan.epochs * run.step / steps
    return HeadResult(run.step, passes, run.best, run.points, run.losses, run.seconds, run.sessions)
