"""propose(): candidates to try for a task and a machine, from published facts, before anything is measured."""

from __future__ import annotations

import re
from typing import NamedTuple

from sizewise.errors import UsageError
from sizewise.lm.device import machine_precision
from sizewise.models.identity import identify
from sizewise.models.price_lists import today
from sizewise.models.resolving import find_entry
from sizewise.models.size import BITS, available_bytes
from sizewise.records import CatalogModel, Evaluation, Needs, Proposal, Range
from sizewise.store import Store, offline
from sizewise.studies.dry_run import READING, matmul_flops
from sizewise.training.preflight import PROCESS_BYTES

TRAINING_TOKENS = 300_000
"""Tokens of a short fine-tuning, as in the demo study."""
LORA_WORK = 4
"""Operations per parameter and token of LoRA: forward and backward through frozen weights."""
TRAINED_BYTES = 6
"""Bytes per parameter for LoRA on a processor: weights in fp32, activations and adapters."""
PROMPT_TOKENS, ANSWER_TOKENS = (200, 1500), (20, 300)
"""Assumed lengths of prompts and answers, short and long."""
SPREAD = 2.0
BF16_GAIN = 4.0
"""By how much bf16 training is faster on processors that compute it; 830 against 190 GFLOP/s were measured."""
LOCAL = ("smollm2-135m-instruct", "gemma-3-270m", "qwen2.5-coder-1.5b-instruct", "qwen2.5-0.5b-instruct")
LARGER = ("llama-3.2-3b-instruct", "mistral-7b-instruct-v0.3", "llama-3.1-8b-instruct")
HOSTED = ("gpt-6.1-terra", "claude-sonnet-5.5", "gemini-3.8-flash", "deepseek-v4-flash", "gpt-4o")
NOT_MEASURED = "not measured on your work"
_LABELS = re.compile(
    r"\b(classif\w*|label\w*|categor\w*|triage\w*|rout(?:e|ing)|sort\w*|detect\w*|filter\w*|spam|intent\w*|tag\w*)\b",
    re.I,
)
_CODE = re.compile(r"\b(code|coding|program\w*|sql|python|software)\b", re.I)


class _Machine(NamedTuple):
    """What this machine offers."""

    free_bytes: int | None
    flops: float
    """Operations per second of training, as busy as the machine is now."""

    @classmethod
    def here(cls) -> _Machine:
        """Measure this machine."""
        gain = BF16_GAIN if machine_precision("cpu") == "bf16" else 1.0
        return cls(available_bytes(), READING * matmul_flops() * gain)


def propose(task: str, needs: Needs, *, store: Store | None = None) -> list[Proposal]:
    """Propose candidates for a task, the ones that can be used as things are first.

    Args:
        task: the task in words, such as `answer support questions`.
        needs: requirements; privacy, memory, licenses, context and cost rule candidates out.
        store: where measurements live; by default SIZEWISE_HOME.

    Raises:
        UsageError: the task is empty.
    """
    if not task.strip():
        raise UsageError("The task is empty.", "a task in words", 'sizewise models --for "answer support questions"')
    store, machine = store or Store(), _Machine.here()
    measured = _measured(store)
    found = [_classifier()] if _LABELS.search(task) else []
    for name in (*LOCAL, *LARGER):
        entry = find_entry(name)
        if entry is not None and not ("coder" in name and not _CODE.search(task)):
            found.append(_local(entry, needs, machine, measured))
    for name in HOSTED:
        entry = find_entry(name)
        if entry is not None and not (entry.retires_on and entry.retires_on <= today()):
            found.append(_hosted(entry, needs, measured))
    return sorted(found, key=lambda one: bool(one.blockers))


def _measured(store: Store) -> dict[str, int]:
    """Count the datasets on which each known model was measured here."""
    data: dict[str, set[str]] = {}
    for saved in store.saved(Evaluation):
        model = saved.record.model
        entry = find_entry(model.of or model.uri) if model.start is None else None
        if entry is not None and model.role == "candidate":
            data.setdefault(entry.name, set()).add(saved.record.data)
    return {name: len(found) for name, found in data.items()}


def _evidence(name: str, measured: dict[str, int]) -> str:
    count = measured.get(name, 0)
    return NOT_MEASURED + (f"; measured here on {count} other dataset{'s' * (count > 1)}" if count else "")


def _classifier() -> Proposal:
    return Proposal(
        name="linear classifier",
        model="scratch",
        train=True,
        reasons=("the task asks for labels, and a linear model over words decides in under a millisecond",),
        memory_bytes=round(PROCESS_BYTES),
        minutes=Range(lower=0, expected=0.5, upper=2),
        evidence=NOT_MEASURED,
    )


def _local(entry: CatalogModel, needs: Needs, machine: _Machine, measured: dict[str, int]) -> Proposal:
    """Propose a model with open weights; a small one is fine-tuned, a larger one runs in 4 bits."""
    size = entry.parameters or 0
    small = size < 2e9
    bits = 32.0 if small else BITS["int4"]
    memory = round(size * (TRAINED_BYTES if small else bits / 8) + PROCESS_BYTES)
    minutes = LORA_WORK * size * TRAINING_TOKENS / machine.flops / 60
    reasons = [f"{size / 1e9:.3g} billion parameters run on your machine, so no text leaves it"]
    if small:
        reasons.append(f"time to fine-tune on {TRAINING_TOKENS:,} tokens, estimated with the machine as busy as now")
    if entry.expertise:
        reasons.append(f"made for {entry.expertise.replace(';', ',')}")
    blockers = _common_blockers(entry, needs)
    if machine.free_bytes is not None and memory > machine.free_bytes:
        blockers.append(f"needs {memory / 1e9:.2g} GB of memory, and {machine.free_bytes / 1e9:.2g} GB are free")
    if needs.max_memory_gb is not None and size * bits / 8 > needs.max_memory_gb * 1e9:
        blockers.append(f"its weights exceed max_memory_gb = {needs.max_memory_gb:g}")
    if entry.uri.startswith("hf:"):
        reasons.append("its weights come from the Hugging Face Hub, or from a folder of yours")
        if offline():
            blockers.append("its weights come from the Hub, and SIZEWISE_OFFLINE forbids the connection")
    return Proposal(
        name=entry.name,
        model=entry.uri,
        train=small,
        reasons=tuple(reasons),
        blockers=tuple(blockers),
        memory_bytes=memory,
        minutes=Range(lower=minutes / SPREAD, expected=minutes, upper=minutes * SPREAD) if small else None,
        evidence=_evidence(entry.name, measured),
    )


def _hosted(entry: CatalogModel, needs: Needs, measured: dict[str, int]) -> Proposal:
    """Propose a model behind an API, with the price of 1,000 requests of assumed lengths."""
    prices = identify(entry.uri).prices
    reasons, usd = ["no training and no hardware of your own"], None
    if entry.expertise:
        reasons.append(f"made for {entry.expertise.replace(';', ',')}")
    if prices:
        ends = [
            (read * prices[0].input_usd + written * prices[0].output_usd) / 1e3
            for read, written in zip(PROMPT_TOKENS, ANSWER_TOKENS, strict=True)
        ]
        usd = Range(lower=ends[0], expected=sum(ends) / 2, upper=ends[1])
        lengths = (
            f"{PROMPT_TOKENS[0]} to {PROMPT_TOKENS[1]:,} prompt and {ANSWER_TOKENS[0]} to {ANSWER_TOKENS[1]} answer"
        )
        reasons.append(f"price for {lengths} tokens without reasoning, list of {prices[0].as_of or 'an unknown day'}")
    blockers = _common_blockers(entry, needs)
    if needs.local_only:
        blockers.append("text leaves this machine, and local_only is set")
    if usd is not None and needs.max_cost_usd_per_1000 is not None and usd.lower > needs.max_cost_usd_per_1000:
        blockers.append(f"costs more than max_cost_usd_per_1000 = {needs.max_cost_usd_per_1000:g}")
    if entry.retires_on:
        blockers.append(f"will be shut down on {entry.retires_on}")
    return Proposal(
        name=entry.name,
        model=entry.uri,
        train=False,
        reasons=tuple(reasons),
        blockers=tuple(blockers),
        usd_per_1000=usd,
        evidence=_evidence(entry.name, measured),
    )


def _common_blockers(entry: CatalogModel, needs: Needs) -> list[str]:
    """List the needs that a model can't meet wherever it runs."""
    found = []
    excluded = [name for name in needs.excluded_licenses if entry.license and name.lower() in entry.license.lower()]
    if excluded:
        found.append(f"its license, {entry.license}, is excluded")
    if needs.min_context_tokens is not None and entry.context is not None and entry.context < needs.min_context_tokens:
        found.append(f"its context has {entry.context:,} tokens, and {needs.min_context_tokens:,} are needed")
    return found
