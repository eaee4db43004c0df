"""Training plans: turn the budget of a recipe into a plan once; a resumed run reads it back."""

from __future__ import annotations

import json
import time
from dataclasses import asdict
from pathlib import Path
from typing import NamedTuple

from sizewise.errors import SizewiseError
from sizewise.lm import adapt, loop
from sizewise.lm import hf_format as folders
from sizewise.lm.device import free_device_bytes, machine_precision
from sizewise.lm.kernels import can_compile
from sizewise.progress import Reporter
from sizewise.records import Estimate, Recipe
from sizewise.records.upgrades import upgrade
from sizewise.store import write_atomically
from sizewise.training import preflight
from sizewise.training.batches import Material
from sizewise.training.starts import Start

# Peak learning rates at a reference width; they scale with its inverse (Yang et al., 2022, Tensor Programs V).
# Measured for LoRA on SmolLM2-135M: see docs/log.md. Full training takes about a tenth of LoRA's rate.
LEARNING_RATES = {"lora": (3e-3, 576), "full": (2e-4, 576), "scratch": (3e-3, 256)}
WEIGHT_DECAYS = {"lora": 0.0, "full": 0.0, "scratch": 0.1}
# Number of validations in a run, and tokens between them.
MIN_VALIDATIONS, MAX_VALIDATIONS, TOKENS_PER_VALIDATION = 4, 20, 100_000
# Below this many tokens, compiling the blocks takes longer than it saves.
COMPILE_FROM_TOKENS = {"lora": 30_000, "full": 30_000, "scratch": 1_000_000}
COMPILE_FROM_MINUTES = {"lora": 1.5, "full": 1.5, "scratch": 3.0}
PROBE_STEPS = 5
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
    path, validation_s, usd_per_hour, teacher = setting
    if path.is_file():
        saved = upgrade(json.loads(path.read_text(encoding="utf-8")), 1, "Plan")
        known = Estimate.model_validate(saved["estimate"]) if saved["estimate"] else None
        return Planned(loop.Plan(**saved["plan"]), known, tuple(saved["notes"]))
    notes: list[str] = []
    shape, memory, checkpointing = _fit_memory(recipe, start)
    if checkpointing:
        notes.append("activation checkpointing was on, which takes less memory and more time")
    wanted = _worth_compiling(recipe, start)
    compiled = wanted and can_compile(start.device)
    if wanted and not compiled:
        notes.append("no C++ compiler was found, so training ran without compiled kernels, at about half the speed")
        reporter.say(
            "No C++ compiler (g++ or clang++) found: training runs without compiled kernels, at half the speed"
        )
    begun = time.monotonic()
    speed = None
    if recipe.tokens is None or recipe.tokens > 4 * PROBE_STEPS * material.mix.tokens_per_step():
        reporter.say(
            f"Training {recipe.start}: measuring the speed" + (" (compiling takes a minute or two)" if compiled else "")
        )
        loop.prepare(start.network, compiled, checkpointing)
        _, speed = loop.probe_speed(start.network, material.mix, teacher, PROBE_STEPS - 1)
    spent = time.monotonic() - begun
    tokens = recipe.tokens or _tokens_in(60 * (recipe.minutes or 0), spent, speed or 1.0, validation_s, recipe)
    tokens = _capped(tokens, recipe, start, material, notes)
    validations = min(MAX_VALIDATIONS, max(MIN_VALIDATIONS, tokens // TOKENS_PER_VALIDATION))
    plan = loop.Plan(
        tokens=tokens,
        learning_rate=recipe.learning_rate or _learning_rate(start),
        weight_decay=WEIGHT_DECAYS[start.mode],
        compiled=compiled,
        validations=validations,
        patience=recipe.patience,
        checkpointing=checkpointing,
    )
    expected = None
    if speed is not None:
        overhead = (validations + 1) * validation_s
        memory = preflight.expected_memory(shape, memory, start.device)
        expected = preflight.estimate(shape, memory, tokens, speed, overhead, usd_per_hour, start.device)
        expected = expected.model_copy(update={"encoded_bytes": material.encoded_bytes})
        reporter.say(f"Training {recipe.start}: {format_estimate(expected)}")
    text = {"plan": asdict(plan), "estimate": expected and expected.model_dump(mode="json"), "notes": notes}
    write_atomically(path, json.dumps(text, indent=1))
    return Planned(plan, expected, tuple(notes))


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


def _fit_memory(recipe: Recipe, start: Start) -> tuple[preflight.Shape, float, bool]:
    """Compute the memory, with activation checkpointing if the recipe asks for it or memory is short."""
    base = adapt.base_of(start.network)
    trained = sum(p.numel() for p in start.network.parameters() if p.requires_grad)
    shape = preflight.Shape.of(folders.settings_of(base.config), folders.parameters_of(base), trained)
    tokens = recipe.rows_per_step * recipe.context
    width = 2 if recipe.method == "qlora" or machine_precision(start.device) == "bf16" else 4
    plain = preflight.memory_bytes(shape, recipe.method, tokens, recipe.checkpointing == "on", width)
    minimum = preflight.memory_bytes(shape, recipe.method, recipe.context, checkpointing=True, width=width)
    free = _free_bytes(start)
    if recipe.checkpointing != "auto" or free is None or plain <= free:
        preflight.check_memory(plain, minimum, free, recipe)
        return shape, plain, recipe.checkpointing == "on"
    again = preflight.memory_bytes(shape, recipe.method, tokens, checkpointing=True, width=width)
    preflight.check_memory(again, minimum, free, recipe)
    return shape, again, True


def _free_bytes(start: Start) -> int | None:
    """Return free memory plus the memory that the loaded network already holds; None if unknown."""
    free = free_device_bytes(start.device)
    if free is None:
        free = preflight.available_bytes()
    held = folders.parameters_of(adapt.base_of(start.network)) * 2
    return None if free is None else free + held


def _worth_compiling(recipe: Recipe, start: Start) -> bool:
    if recipe.method in ("dora", "qlora"):
        return False  # layers of peft, which gain little from compilation
    if recipe.tokens is not None:
        return recipe.tokens >= COMPILE_FROM_TOKENS[start.mode]
    return (recipe.minutes or 0) >= COMPILE_FROM_MINUTES[start.mode]


def _tokens_in(seconds: float, spent: float, speed: float, validation_s: float, recipe: Recipe) -> int:
    """Compute the tokens that fit into the time budget after the probe and the validations."""
    left = max(seconds - spent - (MIN_VALIDATIONS + 1) * validation_s, 0.2 * seconds)
    return max(int(left * speed), recipe.rows_per_step * recipe.context)


def _capped(tokens: int, recipe: Recipe, start: Start, material: Material, notes: list[str]) -> int:
    max_tokens = int(recipe.max_epochs * material.mix.tokens_per_epoch())
    if tokens > max_tokens:
        notes.append(
            f"the budget of {tokens:,} tokens was capped at {recipe.max_epochs:g} epochs: {max_tokens:,} tokens"
        )
        tokens = max_tokens
    if start.mode == "scratch":
        made = folders.parameters_of(start.network)
        if abs(made / recipe.parameters - 1) > SIZE_TOLERANCE:
            notes.append(
                f"{recipe.parameters:,} parameters were requested; with this vocabulary the network has {made:,}"
            )
        wanted = TOKENS_PER_PARAMETER * made
        if tokens < wanted / 2:
            notes.append(
                f"the network will be undertrained: {tokens:,} tokens, where {TOKENS_PER_PARAMETER} per parameter "
                f"would be {wanted:,}"
            )
    return tokens


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
        more_text = "add documents: sizewise read PATH..."
        raise SizewiseError(
            ". ".join(
                [f"The training data of {data} fills only {rows} row(s) of {recipe.context} tokens", *material.notes]
            )
            + ".",
            "at least 2 rows; useful training needs hundreds",
            f"use a longer --context, or {more_text}" if material.notes else more_text,
        )
