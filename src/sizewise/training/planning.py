"""Training plans: turn the budget of a recipe into a plan once; a resumed run reads it back."""

from __future__ import annotations

import json
import math
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

from sizewise.errors import SizewiseError
from sizewise.lm import adapt, loop
from sizewise.lm import hf_format as folders
from sizewise.lm.device import (
    BYTES,
    device_bytes,
    is_out_of_memory,
    machine_precision,
    release_memory,
    reset_device_peak,
)
from sizewise.lm.distributed import ALONE, Workers
from sizewise.lm.kernels import can_compile
from sizewise.progress import Reporter
from sizewise.records import Estimate, Recipe
from sizewise.records.upgrades import upgrade
from sizewise.store import write_atomically
from sizewise.training import preflight
from sizewise.training.batches import Material
from sizewise.training.held_out import MIN_VALIDATIONS
from sizewise.training.starts import Start

# Peak learning rates at a reference width; they scale with its inverse (Yang et al., 2022, Tensor Programs V).
# Measured for LoRA on SmolLM2-135M: see docs/log.md. Full training takes about a tenth of LoRA's rate.
LEARNING_RATES = {"lora": (3e-3, 576), "full": (2e-4, 576), "scratch": (3e-3, 256)}
MAX_EPOCHS = {"lora": 8.0, "full": 8.0, "scratch": 16.0}
# From scratch, text that is seen again and again needs a weight decay about ten times as large (Kim et al., 2025,
# Pre-training under infinite compute, arXiv 2509.14786). Measured here: see docs/log.md.
WEIGHT_DECAY, REPEATED_WEIGHT_DECAY = 0.1, 1.0
FEW_EPOCHS, MANY_EPOCHS = 4.0, 8.0
# Number of validations in a run, tokens between them, and validations in a pass over text that is soon known by heart.
MAX_VALIDATIONS, TOKENS_PER_VALIDATION, VALIDATIONS_PER_PASS = 20, 100_000, 2
VALIDATION_TIME = 0.1  # of a run at most, unless it has few validations
# Below this many tokens, compiling the blocks takes longer than it saves.
COMPILE_FROM_TOKENS = {"lora": 30_000, "full": 30_000, "scratch": 1_000_000}
COMPILE_FROM_MINUTES = {"lora": 1.5, "full": 1.5, "scratch": 3.0}
PROBE_STEPS = 5
COMPILING = " (compiling takes a minute or two)"
NO_COMPILER = "no C++ compiler was found, so training ran without compiled kernels, at about half the speed"
SIZE_TOLERANCE = 0.25  # relative difference between requested and actual size above which a note mentions it
TOKENS_PER_PARAMETER = 12  # for a network trained from scratch on enough text (Karpathy, nanochat)


class Planned(NamedTuple):
    """A plan, the estimate of its cost, and notes about it."""

    plan: loop.Plan
    estimate: Estimate | None
    notes: tuple[str, ...]


class PlanSetting(NamedTuple):
    """Location of a plan, and its inputs other than the recipe and the data."""

    path: Path
    """File of the plan."""
    validation_s: float
    """Seconds of one validation."""
    usd_per_hour: float | None = None
    """Price of the machine."""
    teacher: loop.Teacher | None = None
    """Teacher whose distributions are part of the loss."""
    workers: Workers = ALONE
    """Processes that train together. The first one plans, with its own rows; the others read its plan."""


def make_plan(recipe: Recipe, start: Start, material: Material, setting: PlanSetting, reporter: Reporter) -> Planned:
    """Turn the budget of a recipe into a plan once, after checking memory; a resumed run reads the plan back.

    Args:
        recipe: settings of the run.
        start: the network to train.
        material: the training data.
        setting: location and further inputs of the plan.
        reporter: receives progress.

    Raises:
        SizewiseError: the run doesn't fit in memory.
    """
    path, validation_s, usd_per_hour, teacher, workers = setting
    if path.is_file():
        return _read(path)
    notes, speed = list[str](), None
    fit = _fit_memory(recipe, start, workers)
    wanted = _worth_compiling(recipe, start) and not workers.sharded  # not tried together
    fit = fit._replace(compiled=wanted and can_compile(start.device))
    if wanted and not fit.compiled:
        notes.append(NO_COMPILER)
        reporter.say("No C++ compiler (g++, clang++) found: training runs without compiled kernels, at half speed")
    begun = time.monotonic()
    is_long = recipe.tokens is None or recipe.tokens > 4 * PROBE_STEPS * material.mix.tokens_per_step()
    if is_long and not workers.sharded:  # the first process alone couldn't hold the network
        reporter.say(f"Training {recipe.start}: measuring the speed{COMPILING if fit.compiled else ''}")
        speed, fit = _measure(start, material, teacher, fit, recipe)
    notes += fit.notes()
    most, spent, validations = _max_tokens(recipe, start, material), time.monotonic() - begun, MIN_VALIDATIONS
    for _ in range(2):  # the more tokens fit into the time, the more validations there are, which take of it
        seconds = _seconds_left(recipe, spent + (validations + 1) * validation_s)
        fitting = recipe.tokens or max(int(seconds * (speed or 1.0)), recipe.rows_per_step * recipe.context)
        tokens = min(fitting, most)
        passes = tokens / material.mix.tokens_per_epoch() if _soon_known(recipe, start) else 0.0
        validations = validations_for(tokens, passes, speed and tokens / speed, validation_s)
    notes += _size_notes(fitting, tokens, recipe, start)
    plan = loop.Plan(
        tokens=tokens,
        learning_rate=recipe.learning_rate or _learning_rate(start),
        weight_decay=weight_decay_of(start.mode, tokens / material.mix.tokens_per_epoch()),
        compiled=fit.compiled,
        validations=validations,
        patience=recipe.patience,
        checkpointing=fit.checkpointing,
        micro_rows=fit.micro_rows,
        optimizer=recipe.optimizer,
        seconds=seconds,
        max_tokens=most if seconds else 0,
    )
    expected = None
    if speed is not None:
        overhead = (validations + 1) * validation_s
        memory = preflight.expected_memory(fit.shape, fit.memory, start.device, recipe.optimizer)
        expected = preflight.estimate(fit.shape, memory, tokens, speed, overhead, usd_per_hour, start.device)
        expected = expected.model_copy(update={"encoded_bytes": material.encoded_bytes})
        reporter.say(f"Training {recipe.start}: {format_estimate(expected)}")
    saved = {"plan": asdict(plan), "estimate": expected and expected.model_dump(mode="json"), "notes": notes}
    write_atomically(path, json.dumps(saved, indent=1))
    return Planned(plan, expected, tuple(notes))


def read_saved(path: Path) -> Any:
    """Read a JSON file that a run wrote for when it resumes.

    Raises:
        SizewiseError: the file is damaged.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise SizewiseError(
            f"{path} is damaged, so the run can't resume: {error}.",
            "the file as the run wrote it",
            f"remove {path.parent} and run the same command again, to train from the start",
        ) from error


def _read(path: Path) -> Planned:
    saved = upgrade(read_saved(path), 1, "Plan")
    known = Estimate.model_validate(saved["estimate"]) if saved["estimate"] else None
    return Planned(loop.Plan(**saved["plan"]), known, tuple(saved["notes"]))


def _soon_known(recipe: Recipe, start: Start) -> bool:
    """Whether repeating the text soon does harm: not from scratch, nor where passes were asked for, as for facts."""
    return start.mode != "scratch" and recipe.max_epochs is None


def validations_for(tokens: int, passes: float = 0.0, seconds: float | None = None, validation_s: float = 0.0) -> int:
    """Return the number of validations of a run with a token budget; fewer if they would take long.

    Args:
        tokens: the token budget.
        passes: how often a text is read that a pretrained network soon knows by heart; 0 for any other.
        seconds: time of the run without validations, if known.
        validation_s: time of one validation.
    """
    in_passes = math.ceil(VALIDATIONS_PER_PASS * passes)
    wanted = min(MAX_VALIDATIONS, max(MIN_VALIDATIONS, tokens // TOKENS_PER_VALIDATION, in_passes))
    if seconds is None or not validation_s:
        return wanted
    return max(MIN_VALIDATIONS, min(wanted, int(VALIDATION_TIME * seconds / validation_s)))


def format_estimate(expected: Estimate) -> str:
    """Format an estimate as one line."""
    time_s, memory = expected.seconds, expected.memory_bytes
    parts = [
        f"estimate {expected.tokens:,} tokens in {time_s.expected / 60:.1f} minutes "
        f"({time_s.lower / 60:.1f} to {time_s.upper / 60:.1f})",
        f"{memory.expected / 1e9:.1f} GB of memory ({memory.lower / 1e9:.1f} to {memory.upper / 1e9:.1f})",
    ]
    if expected.encoded_bytes:
        parts.append(f"{expected.encoded_bytes / 1e6:,.1f} MB of encoded text on disk")
    if expected.energy_wh:
        energy = expected.energy_wh
        parts.append(f"{energy.expected:.2g} Wh ({energy.lower:.2g} to {energy.upper:.2g}, at assumed power)")
    if expected.usd:
        parts.append(f"{expected.usd.expected:.2g} USD ({expected.usd.lower:.2g} to {expected.usd.upper:.2g})")
    return ", ".join(parts)


class _Fit(NamedTuple):
    """How a run fits into memory."""

    shape: preflight.Shape
    memory: float
    """Computed memory of the run in bytes."""
    checkpointing: bool
    micro_rows: int
    """Rows in memory at a time."""
    rows: int
    """Rows of this process in a step."""
    compiled: bool = False
    """Whether blocks are compiled."""

    def notes(self) -> list[str]:
        """Describe what the run does to save memory."""
        found = []
        if self.checkpointing:
            found.append("activation checkpointing was on, which takes less memory and more time")
        if self.micro_rows < self.rows:
            found.append(f"gradients of {self.micro_rows} of {self.rows} rows at a time added up to those of a step")
        return found


def _fit_memory(recipe: Recipe, start: Start, workers: Workers) -> _Fit:
    """Choose the rows in memory at a time, and activation checkpointing if one row needs it or the recipe wants it.

    On a processor, the processes of a machine share its memory. With FSDP2, each holds its part of the weights.
    """
    own = -(-recipe.rows_per_step // workers.size)
    holders = workers.size if workers.sharded else 1
    base = adapt.base_of(start.network)
    trained = sum(p.numel() for p in start.network.parameters() if p.requires_grad)
    held = folders.held_bytes(start.network)
    parameters = folders.parameters_of(base)
    trained, held, parameters = trained // holders, held // holders, parameters // holders
    shape = preflight.Shape.of(folders.settings_of(base.config), parameters, trained, held)
    width, on_card = BYTES[machine_precision(start.device, training=True)], start.device != "cpu"

    def needed(rows: int, checkpointing: bool) -> float:
        tokens = rows * recipe.context
        more = trained * preflight.MASTER_BYTES if rows < own else 0  # sum of the gradients
        return more + preflight.memory_bytes(
            shape, recipe.method, tokens, checkpointing, width, recipe.optimizer, on_card, recipe.context
        )

    free = preflight.free_bytes(start.device)
    free = None if free is None else int((free + held) / (1 if on_card else workers.local_size))
    modes = (False, True) if recipe.checkpointing == "auto" else (recipe.checkpointing == "on",)
    for checkpointing in modes:
        for rows in _halved(own):
            if free is None or needed(rows, checkpointing) <= free:
                return _Fit(shape, needed(rows, checkpointing), checkpointing, rows, own)
    preflight.check_memory(needed(1, modes[-1]), needed(1, True), free, recipe)
    raise AssertionError("check_memory accepts what doesn't fit")


def _halved(rows: int) -> list[int]:
    """Return a number of rows, its half, and so on down to 1."""
    found = [rows]
    while found[-1] > 1:
        found.append((found[-1] + 1) // 2)
    return found


def _measure(
    start: Start, material: Material, teacher: loop.Teacher | None, fit: _Fit, recipe: Recipe
) -> tuple[float, _Fit]:
    """Measure the speed in tokens/s. On a graphics card, halve the rows in memory as long as they don't fit.

    What fits is found by trying: the peak of the probe, with the optimizer that comes after it, must fit. If blocks
    can't be compiled for the card, they run uncompiled.

    Raises:
        SizewiseError: one row with activation checkpointing doesn't fit.
    """
    while True:
        loop.prepare(start.network, fit.compiled, fit.checkpointing)
        reset_device_peak(start.device)
        try:
            _, speed = loop.probe_speed(start.network, material.mix, teacher, PROBE_STEPS - 1, fit.micro_rows, fit.rows)
            room = device_bytes(start.device)
            if room is None or preflight.expected_memory(fit.shape, fit.memory, start.device, recipe.optimizer) <= room:
                return speed, fit
            following = _smaller(fit, recipe)
        except Exception as error:
            if start.device == "cpu" or isinstance(error, SizewiseError):
                raise
            if is_out_of_memory(error):
                following = _smaller(fit, recipe)
            elif fit.compiled:  # Triton may fail in any way
                following = fit._replace(compiled=False)
            else:
                raise
        loop.finish(start.network)
        start.network.zero_grad(set_to_none=True)
        release_memory(start.device)
        fit = following


def _smaller(fit: _Fit, recipe: Recipe) -> _Fit:
    """Return the next attempt after one that didn't fit: half the rows, then activation checkpointing.

    Raises:
        SizewiseError: there is none.
    """
    if fit.micro_rows > 1:
        return fit._replace(micro_rows=_halved(fit.micro_rows)[1])
    if not fit.checkpointing and recipe.checkpointing == "auto":
        return fit._replace(checkpointing=True, micro_rows=fit.rows)
    raise SizewiseError(
        f"Training {recipe.start} with {recipe.method} doesn't fit in the device's memory, not even one row of "
        f"{recipe.context} tokens at a time.",
        "a device with more memory, a smaller model, or shorter rows",
        "--method qlora or --context 256",
    )


def _worth_compiling(recipe: Recipe, start: Start) -> bool:
    if recipe.method in ("dora", "qlora"):
        return False  # layers of peft, which gain little from compilation
    if recipe.tokens is not None:
        return recipe.tokens >= COMPILE_FROM_TOKENS[start.mode]
    return (recipe.minutes or 0) >= COMPILE_FROM_MINUTES[start.mode]


def _seconds_left(recipe: Recipe, spent: float) -> float:
    """Compute what is left of the time budget for steps after the probe and the validations; 0 without one."""
    seconds = 0.0 if recipe.tokens else 60 * (recipe.minutes or 0)
    return max(seconds - spent, 0.2 * seconds)


def _max_tokens(recipe: Recipe, start: Start, material: Material) -> int:
    """Return the tokens of as many epochs as are permitted, of one step at least."""
    epochs = recipe.max_epochs or MAX_EPOCHS[start.mode]
    return max(math.ceil(material.mix.tokens_per_step()), int(epochs * material.mix.tokens_per_epoch()))


def _size_notes(wanted: int, tokens: int, recipe: Recipe, start: Start) -> list[str]:
    """Describe what is unusual about a budget of tokens: fewer than wanted, or few for a network of this size."""
    notes = []
    if tokens < wanted:
        notes.append(
            f"the budget of {wanted:,} tokens was capped at {recipe.max_epochs or MAX_EPOCHS[start.mode]:g} epochs: "
            f"{tokens:,} tokens; --max-epochs allows more, which learning facts takes"
        )
    if start.mode == "scratch":
        made = folders.parameters_of(start.network)
        if abs(made / recipe.parameters - 1) > SIZE_TOLERANCE:
            notes.append(
                f"{recipe.parameters:,} parameters were requested; with this vocabulary the network has {made:,}"
            )
        usual = TOKENS_PER_PARAMETER * made
        if tokens < usual / 2:
            notes.append(
                f"the network will be undertrained: {tokens:,} tokens, where {TOKENS_PER_PARAMETER} per parameter "
                f"would be {usual:,}"
            )
    return notes


def weight_decay_of(mode: str, epochs: float) -> float:
    """Return the weight decay of matrices: none for fine-tuning; from scratch, more where text is repeated more often.

    Args:
        mode: `lora`, `full` or `scratch`.
        epochs: passes over the training text.
    """
    if mode != "scratch":
        return 0.0
    position = math.log2(max(epochs, FEW_EPOCHS) / FEW_EPOCHS) / math.log2(MANY_EPOCHS / FEW_EPOCHS)
    return float(WEIGHT_DECAY * (REPEATED_WEIGHT_DECAY / WEIGHT_DECAY) ** min(1.0, position))


def _learning_rate(start: Start) -> float:
    rate, width = LEARNING_RATES[start.mode]
    return rate * width / int(folders.settings_of(adapt.base_of(start.network).config)["hidden_size"])


def check_size(recipe: Recipe, material: Material, data: str) -> None:
    """Check that there is enough training data.

    Raises:
        SizewiseError: there are fewer than two rows.
    """
    rows = len(material.mix.prose) + len(material.mix.examples)
    if rows < 2:
        advice = ["add documents: sizewise read PATH..."]
        if material.without_answer:
            advice.insert(0, "read examples with answers: sizewise read FILE --reference COLUMN")
        if material.too_long:
            advice.insert(0, "use a longer --context")
        raise SizewiseError(
            ". ".join(
                [f"The training data of {data} fills only {rows} row(s) of {recipe.context} tokens", *material.notes]
            )
            + ".",
            "at least 2 rows; useful training needs hundreds",
            ", or ".join(advice),
        )
