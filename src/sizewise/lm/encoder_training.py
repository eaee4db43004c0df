"""Fine-tune a sentence encoder with a linear head over its vectors, within a time budget.

The loss is cross-entropy over the options, plus a supervised contrastive loss (Khosla et al., 2020) that draws texts
of one option together and pushes others apart. The head starts from a logistic regression on the frozen vectors, so
that the first steps don't distort the encoder (Kumar et al., 2022, Fine-Tuning can Distort Pretrained Features).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch.nn import functional

from sizewise.errors import SizewiseError
from sizewise.lm.checkpointing import load_state, remove_states, save_state
from sizewise.lm.device import choose_device, machine_precision
from sizewise.lm.encoder_losses import contrastive_loss, option_loss
from sizewise.lm.hf_format import quiet_libraries
from sizewise.progress import Reporter

FloatArray = npt.NDArray[np.float64]
Pooling = Literal["mean", "cls", "max"]

POOL_BATCHES = 16
"""Batches that are drawn together and sorted by length, so that a batch holds texts of similar length."""
BUDGET_SHARE = 0.9
"""Share of the time that the steps may take; the rest is for saving."""
MIN_TIMED = 3
"""Steps whose speed tells how many more there will be."""
SAVE_EVERY_S = 30.0
SAVE_SHARE = 0.03
BETAS = (0.9, 0.98)


class Labeled(NamedTuple):
    """Tokenized texts with their options."""

    ids: Sequence[Sequence[int]]
    """Token ids of each text, special tokens included."""
    targets: FloatArray
    """(texts, options) 1 where the option is correct, else 0; shares where annotators disagreed."""
    independent: bool = False
    """Whether several options can be correct at once."""


class Head(NamedTuple):
    """A linear map from unit vectors to the logits of the options."""

    weights: FloatArray
    """(options, width)."""
    offsets: FloatArray
    """(options,)."""


@dataclass(frozen=True)
class TuningPlan:
    """Settings of a run, saved so that a resumed run follows the same plan.

    Attributes:
        steps: optimizer steps.
        batch: texts in a step.
        learning_rate: peak learning rate of the encoder's last layer.
        layer_decay: factor of the learning rate from a layer to the one below it.
        head_rate: peak learning rate of the head.
        weight_decay: weight decay of the encoder's matrices.
        smoothing: share of each label that is spread over all options.
        contrastive: weight of the contrastive loss.
        temperature: temperature of the contrastive loss.
        warmup: share of the steps in which the learning rate rises.
        averaged: share of the steps, at the end, whose weights are averaged.
        seed: seed of the order of texts and of dropout.
    """

    steps: int
    batch: int = 64
    learning_rate: float = 1.5e-4
    layer_decay: float = 0.9
    head_rate: float = 1e-3
    weight_decay: float = 0.01
    smoothing: float = 0.1
    contrastive: float = 0.0
    temperature: float = 0.1
    warmup: float = 0.1
    averaged: float = 0.0
    seed: int = 0


class Tuned(NamedTuple):
    """A fine-tuned encoder and its head."""

    network: Any
    """The encoder, with the last or the averaged weights."""
    head: Head
    """The head over its vectors."""
    start: Mapping[str, torch.Tensor]
    """Weights before the first step."""
    end: Mapping[str, torch.Tensor]
    """Weights after the last step."""
    plan: TuningPlan
    """The plan, with the steps that were taken."""
    losses: tuple[float, ...]
    """Training loss of each step of this session."""
    seconds: float
    """Training time of all sessions."""

    @torch.no_grad()
    def move(self, distance: float) -> Head:
        """Set the network to a point between its first and its last weights, and return the head there.

        Such a point often predicts better than the end (Wortsman et al., 2022, Robust fine-tuning of zero-shot models).

        Args:
            distance: 0 for the weights before the first step, 1 for those after the last one.
        """
        between = {name: torch.lerp(self.start[name], end, distance) for name, end in self.end.items()}
        for name, parameter in self.network.named_parameters():
            if name in between:
                parameter.copy_(between[name])
        return _head_of(between)


def open_encoder(folder: Path, device: str = "auto") -> Any:
    """Open an encoder for training: fp32 weights, embeddings frozen.

    Frozen embeddings keep what the encoder knows about words that the training texts lack, and save their update.

    Raises:
        SizewiseError: transformers can't open the folder.
    """
    from transformers import AutoModel

    quiet_libraries()
    try:
        network = AutoModel.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager")
    except (OSError, ValueError, RuntimeError) as error:
        raise SizewiseError(
            f"The encoder {folder} can't be opened for training: {error}",
            "a folder with config.json and model.safetensors of a sentence encoder",
            "use pkg:minilm, or another sentence encoder",
        ) from error
    for parameter in network.get_input_embeddings().parameters():
        parameter.requires_grad_(False)
    for name, parameter in network.named_parameters():
        if "embeddings." in name or "pooler." in name:
            parameter.requires_grad_(False)
    return network.to(choose_device(device))


def save_encoder(network: Any, folder: Path) -> None:
    """Write an encoder's weights and configuration in the format of transformers."""
    quiet_libraries()
    network.save_pretrained(folder)


def pooled(states: torch.Tensor, mask: torch.Tensor, pooling: Pooling) -> torch.Tensor:
    """Pool hidden states to unit vectors.

    Args:
        states: (texts, tokens, width).
        mask: (texts, tokens) 1 for tokens, 0 for padding.
        pooling: the mean, the first token or the maximum.
    """
    states = states.float()
    if pooling == "cls":
        vectors = states[:, 0]
    elif pooling == "max":
        vectors = states.masked_fill(mask.unsqueeze(-1) == 0, -torch.inf).amax(dim=1)
    else:
        shares = mask.float() / mask.sum(dim=1, keepdim=True)
        vectors = torch.einsum("btw,bt->bw", states, shares)
    return functional.normalize(vectors, dim=1)


@lru_cache(maxsize=2)
def _order(lengths: tuple[int, ...], batch: int, seed: int, epoch: int) -> list[list[int]]:
    random = np.random.default_rng((seed, epoch))
    mixed = random.permutation(len(lengths))
    batches: list[list[int]] = []
    for start in range(0, len(mixed), batch * POOL_BATCHES):
        pool = sorted(mixed[start : start + batch * POOL_BATCHES].tolist(), key=lambda text: lengths[text])
        batches += [pool[at : at + batch] for at in range(0, len(pool), batch)]
    return [batches[at] for at in random.permutation(len(batches))]


def batch_of(lengths: tuple[int, ...], batch: int, seed: int, step: int) -> list[int]:
    """Return the texts of a step: a function of the seed and the step alone. Each epoch holds every text once."""
    per_epoch = len(_order(lengths, batch, seed, 0))
    return _order(lengths, batch, seed, step // per_epoch)[step % per_epoch]


def rate_share(step: int, plan: TuningPlan) -> float:
    """Compute the share of the peak learning rate: linear warm-up, then linear decay to 0."""
    rising = max(1, round(plan.warmup * plan.steps))
    if step < rising:
        return (step + 1) / rising
    return max(0.0, (plan.steps - step) / max(1, plan.steps - rising))


class _Run:
    """Network, head, optimizer and counters of one run."""

    def __init__(self, network: Any, head: Head, data: Labeled, pooling: Pooling, plan: TuningPlan) -> None:
        self.network, self.data, self.pooling, self.plan = network, data, pooling, plan
        self.device = network.device
        self.precise = machine_precision(self.device.type, training=True) == "fp32"
        self.weights = torch.nn.Parameter(torch.tensor(head.weights, dtype=torch.float32, device=self.device))
        self.offsets = torch.nn.Parameter(torch.tensor(head.offsets, dtype=torch.float32, device=self.device))
        self.trained = {name: p for name, p in network.named_parameters() if p.requires_grad}
        self.trained |= {"head.weights": self.weights, "head.offsets": self.offsets}
        self.rates = _rates(self.trained, plan)
        groups = [
            {"params": [parameter], "weight_decay": plan.weight_decay if _decays(name, parameter) else 0.0}
            for name, parameter in self.trained.items()
        ]
        self.optimizer = torch.optim.AdamW(groups, betas=BETAS, fused=True)
        self.lengths = tuple(len(text) for text in data.ids)
        self.targets = torch.tensor(data.targets, dtype=torch.float32, device=self.device)
        self.average: dict[str, torch.Tensor] = {}
        self.averaged = 0
        self.step = 0
        self.seconds = 0.0

    def cells(self, step: int) -> int:
        """Count the tokens of a step, padding included."""
        texts = batch_of(self.lengths, self.plan.batch, self.plan.seed, step)
        return len(texts) * max(self.lengths[text] for text in texts)

    @cached_property
    def mean_cells(self) -> float:
        """Mean tokens of a step, padding included."""
        batches = _order(self.lengths, self.plan.batch, self.plan.seed, 0)
        return sum(len(texts) * max(self.lengths[text] for text in texts) for texts in batches) / len(batches)

    def loss(self, step: int) -> torch.Tensor:
        """Compute the loss of a step's texts."""
        texts = batch_of(self.lengths, self.plan.batch, self.plan.seed, step)
        ids, mask = padded([self.data.ids[text] for text in texts], self.network.config.pad_token_id or 0, self.device)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=not self.precise):
            states = self.network(input_ids=ids, attention_mask=mask).last_hidden_state
        vectors = pooled(states, mask, self.pooling)
        targets = self.targets[texts]
        logits = vectors @ self.weights.T + self.offsets
        loss = option_loss(logits, targets, self.plan.smoothing, self.data.independent)
        if self.plan.contrastive and not self.data.independent:
            drawn = contrastive_loss(vectors, targets.argmax(dim=1), self.plan.temperature)
            loss = loss + self.plan.contrastive * drawn
        return loss

    def backward(self, step: int) -> float:
        """Compute the gradients of a step; dropout depends on the seed and the step alone."""
        with torch.random.fork_rng(devices=[], enabled=True):
            torch.manual_seed(self.plan.seed * 1_000_003 + step)
            loss = self.loss(step)
        loss.backward()
        return float(loss.detach())

    def advance(self) -> float:
        """Take one step."""
        loss = self.backward(self.step)
        torch.nn.utils.clip_grad_norm_(list(self.trained.values()), 1.0)
        share = rate_share(self.step, self.plan)
        for group, rate in zip(self.optimizer.param_groups, self.rates, strict=True):
            group["lr"] = rate * share
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self.step += 1
        if self.step > self.plan.steps * (1 - self.plan.averaged):
            self._add_to_average()
        return loss

    @torch.no_grad()
    def _add_to_average(self) -> None:
        self.averaged += 1
        for name, parameter in self.trained.items():
            if name in self.average:
                self.average[name].lerp_(parameter, 1 / self.averaged)
            else:
                self.average[name] = parameter.detach().clone()

    @torch.no_grad()
    def finish(self) -> dict[str, torch.Tensor]:
        """Put the averaged weights into the network, and return copies of all trained weights."""
        for name, mean in self.average.items():
            self.trained[name].copy_(mean)
        self.network.eval()
        return self.copies()

    def copies(self) -> dict[str, torch.Tensor]:
        """Return copies of all trained weights."""
        return {name: parameter.detach().clone() for name, parameter in self.trained.items()}

    def save(self, folder: Path) -> None:
        """Write a checkpoint."""
        tensors = {f"weights.{name}": p.detach() for name, p in self.trained.items()}
        tensors |= {f"average.{name}": mean for name, mean in self.average.items()}
        for name, parameter in self.trained.items():
            for key, value in self.optimizer.state.get(parameter, {}).items():
                tensors[f"adam.{key}.{name}"] = torch.as_tensor(value)
        progress = {"step": self.step, "averaged": self.averaged, "seconds": self.seconds}
        save_state(folder, self.step, tensors, progress)

    @torch.no_grad()
    def resume(self, folder: Path) -> None:
        """Load the last checkpoint, if there is one."""
        found = load_state(folder)
        if found is None:
            return
        tensors, progress = found
        for name, parameter in self.trained.items():
            parameter.copy_(tensors[f"weights.{name}"])
            state = {
                key: tensors[f"adam.{key}.{name}"].to(parameter.device if key != "step" else "cpu")
                for key in ("step", "exp_avg", "exp_avg_sq")
                if f"adam.{key}.{name}" in tensors
            }
            if state:
                self.optimizer.state[parameter] = state
        self.average = {
            name: tensors[f"average.{name}"].to(self.device) for name in self.trained if f"average.{name}" in tensors
        }
        self.step, self.averaged, self.seconds = progress["step"], progress["averaged"], progress["seconds"]


def _head_of(weights: Mapping[str, torch.Tensor]) -> Head:
    return Head(*(weights[f"head.{part}"].cpu().double().numpy() for part in Head._fields))


def _decays(name: str, parameter: torch.Tensor) -> bool:
    return parameter.dim() >= 2 and not name.startswith("head.")


def _rates(trained: dict[str, torch.nn.Parameter], plan: TuningPlan) -> list[float]:
    """Return the peak learning rate of each parameter; lower layers learn slower (Howard and Ruder, 2018)."""
    layers = {name: next((int(part) for part in name.split(".") if part.isdecimal()), None) for name in trained}
    top = max((layer for layer in layers.values() if layer is not None), default=0)
    rates = []
    for name, layer in layers.items():
        depth = top if layer is None else top - layer
        rates.append(plan.head_rate if name.startswith("head.") else plan.learning_rate * plan.layer_decay**depth)
    return rates


def padded(rows: Sequence[Sequence[int]], padding: int, device: Any) -> tuple[torch.Tensor, torch.Tensor]:
    """Pad token ids to the longest row; return (texts, tokens) ids and mask."""
    longest = max(len(row) for row in rows)
    ids = np.full((len(rows), longest), padding, dtype=np.int64)
    mask = np.zeros_like(ids)
    for line, row in enumerate(rows):
        ids[line, : len(row)] = row
        mask[line, : len(row)] = 1
    return torch.from_numpy(ids).to(device), torch.from_numpy(mask).to(device)


def tune_encoder(
    network: Any,
    head: Head,
    data: Labeled,
    plan: TuningPlan,
    *,
    pooling: Pooling,
    minutes: float,
    work: Path | None,
    reporter: Reporter,
) -> Tuned:
    """Fine-tune an encoder and its head. A killed run resumes from its last checkpoint and ends the same.

    The speed of the steps so far tells how many the time allows, and the learning rate falls accordingly; at the end of
    the budget, training stops with what it has.

    Args:
        network: an encoder from `open_encoder`; its weights change.
        head: the head to start from.
        data: training texts.
        plan: settings; fewer steps are taken if the time is up.
        pooling: how the encoder pools its hidden states.
        minutes: time budget; one step is taken in any case.
        work: folder of the checkpoints; None without them.
        reporter: receives progress.

    Raises:
        SizewiseError: a checkpoint can't be written.
        FloatingPointError: the loss is not finite.
    """
    network.train()
    begun = time.monotonic()
    run = _Run(network, head, data, pooling, plan)
    start = run.copies()
    if work is not None:
        run.resume(work)
    losses: list[float] = []
    pace, before = _Pace(run, minutes * 60 * BUDGET_SHARE), run.seconds
    with _saving(run, work) as save_if_due:
        while run.step < run.plan.steps:
            losses.append(run.advance())
            if not np.isfinite(losses[-1]):
                raise FloatingPointError(f"the loss is {losses[-1]} at step {run.step}")
            run.seconds = before + time.monotonic() - begun
            run.plan = replace(plan, steps=pace.possible_steps(plan.steps))
            reporter.advance("fine-tune", run.step, run.plan.steps, f"loss {losses[-1]:.3f}")
            save_if_due()
    end = run.finish()
    if work is not None:
        remove_states(work)
    taken = replace(plan, steps=run.step)
    return Tuned(network, _head_of(end), start, end, taken, tuple(losses), run.seconds)


class _Pace:
    """Computes how many steps a run can take until its time is up, from the speed of the steps so far."""

    def __init__(self, run: _Run, limit_s: float) -> None:
        self._run, self._limit_s = run, limit_s
        self._first, self._begun, self._cells = run.step, time.monotonic(), 0

    def possible_steps(self, wanted: int) -> int:
        """Return the number of steps in all that fit into the time, at most those wanted."""
        run = self._run
        self._cells += run.cells(run.step - 1)
        left_s = self._limit_s - run.seconds
        if left_s <= 0:
            return run.step
        if run.step - self._first < MIN_TIMED:
            return wanted
        step_s = (time.monotonic() - self._begun) / self._cells * run.mean_cells
        return min(wanted, run.step + int(left_s / max(step_s, 1e-9)))


@contextmanager
def _saving(run: _Run, work: Path | None) -> Iterator[Callable[[], None]]:
    """Save a checkpoint now and then, and on Ctrl-C."""
    saved, every_s = time.monotonic(), SAVE_EVERY_S

    def save_if_due() -> None:
        nonlocal saved, every_s
        if work is None or time.monotonic() - saved < every_s:
            return
        begun = time.monotonic()
        run.save(work)
        saved = time.monotonic()
        every_s = max(SAVE_EVERY_S, (saved - begun) / SAVE_SHARE)

    try:
        yield save_if_due
    except KeyboardInterrupt:
        if work is not None:
            run.save(work)
        raise
