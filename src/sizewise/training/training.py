"""train(): a recipe and a dataset in, a checkpoint out; a run that was killed goes on."""

from __future__ import annotations

import json
import resource
import shutil
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

from sizewise import dataset as datasets
from sizewise.dataset import DatasetContents
from sizewise.errors import SizewiseError
from sizewise.lm import adapt, architecture, loop
from sizewise.lm import folder as folders
from sizewise.lm import tokenizer as tokenizers
from sizewise.lm.kernels import can_compile
from sizewise.lm.state import remove_states
from sizewise.models.opening import resolve_folder, revision_of
from sizewise.progress import Reporter, Silent
from sizewise.records import Checkpoint, CurvePoint, Recipe, fingerprint
from sizewise.store import Store, Stored, versions, write_atomically
from sizewise.training.rows import Material, make_mix, validation_texts

# Peak learning rates at a width; they fall in proportion to the width (Yang et al., 2022, Tensor Programs V).
# Measured for LoRA on SmolLM2-135M: see docs/log.md. Full training takes about a tenth of LoRA's rate.
LEARNING_RATES = {"lora": (3e-3, 576), "full": (2e-4, 576), "scratch": (3e-3, 256)}
WEIGHT_DECAYS = {"lora": 0.0, "full": 0.0, "scratch": 0.1}
VALIDATIONS = 4
VALIDATION_CHARACTERS = 12_000
# Below this many tokens, compiling the blocks takes longer than it saves.
COMPILE_FROM_TOKENS = {"lora": 40_000, "full": 40_000, "scratch": 1_000_000}
COMPILE_FROM_MINUTES = {"lora": 2.0, "full": 2.0, "scratch": 3.0}


class _Start(NamedTuple):
    """A network ready to train, and what it is."""

    network: Any
    tokenizer: Any
    way: str
    origin: str
    licence: str


def train(
    recipe: Recipe,
    data: str,
    *,
    store: Store | None = None,
    reporter: Reporter | None = None,
    out: Path | None = None,
) -> Stored[Checkpoint]:
    """Train a model.

    The same recipe on the same data is the same run: finished, its record is given back; killed, it goes
    on from its last checkpoint.

    Args:
        recipe: what to do.
        data: dataset id.
        store: where records live; by default SIZEWISE_HOME.
        reporter: told how far it is.
        out: a folder to copy the finished model to.

    Raises:
        SizewiseError: the start cannot be opened, there is too little text, or the loss diverged.
    """
    store, reporter = store or Store(), reporter or Silent()
    contents = datasets.load(store, data)
    run_id = f"run-{fingerprint([recipe.model_dump(mode='json'), data, revision_of(recipe.start)])}"
    if not store.exists("checkpoint", run_id):
        with store.lock("checkpoint", run_id):
            _train(recipe, data, contents, store, run_id, reporter)
    stored = store.get(Checkpoint, run_id)
    if out is not None:
        _copy(stored, out)
    return stored


def _copy(stored: Stored[Checkpoint], out: Path) -> None:
    try:
        shutil.copytree(stored.path.parent / "model", out, dirs_exist_ok=True)
        shutil.copy(stored.path, out / "sizewise.json")
    except OSError as error:
        raise SizewiseError(
            f"The model cannot be copied to {out}: {error}.", "a folder that can be written", ""
        ) from error


def _train(
    recipe: Recipe,
    data: str,
    contents: DatasetContents,
    store: Store,
    run_id: str,
    reporter: Reporter,
) -> None:
    folder = store.folder("checkpoint", run_id)
    start = _open_start(recipe, contents, store, reporter)
    material = make_mix(contents, start.tokenizer, recipe)
    _check_size(material, recipe, data)
    if not validation_texts(contents, VALIDATION_CHARACTERS):
        raise SizewiseError(
            f"{data} has no text to watch training by: its validation split is empty.",
            "a document or an example in the validation split",
            "add documents and read them again: sizewise read PATH...",
        )
    plan, notes = _plan(recipe, start, material, folder / "plan.json", reporter)
    result = _fit(recipe, contents, start, material, plan, folder, reporter)
    peak = peak_memory_bytes()
    trained = sum(p.numel() for p in start.network.parameters() if p.requires_grad)
    network = _save(start, folder, {"run": run_id, "data": data, "recipe": recipe.model_dump(mode="json")})
    if result.best_step < result.steps:
        notes.append(f"the weights of step {result.best_step} of {result.steps} were kept: best in validation")
    record = Checkpoint(
        start=recipe.start,
        recipe=recipe,
        data=data,
        parameters=folders.parameters_of(network),
        trained_parameters=trained,
        attention=folders.attention_words(network.config),
        tokens=result.tokens,
        steps=result.steps,
        epochs=result.tokens / material.mix.tokens_per_epoch(),
        best_step=result.best_step,
        best_bits_per_byte=result.best_bits_per_byte,
        start_bits_per_byte=result.start_bits_per_byte,
        curve=tuple(CurvePoint(**asdict(point)) for point in result.points),
        seconds=result.seconds,
        warmup_s=result.warmup_s,
        tokens_per_s=result.tokens_per_s,
        compiled=plan.compiled,
        sessions=result.sessions,
        peak_memory_bytes=peak,
        origin=start.origin,
        licence=start.licence,
        notes=(*material.notes, *notes),
        versions=versions("torch", "transformers", "peft", "tokenizers"),
    )
    store.write(run_id, record)
    remove_states(folder / "state")


def _fit(
    recipe: Recipe,
    contents: DatasetContents,
    start: _Start,
    material: Material,
    plan: loop.Plan,
    folder: Path,
    reporter: Reporter,
) -> loop.Result:
    texts = validation_texts(contents, VALIDATION_CHARACTERS)
    loop.prepare(start.network, plan.compiled)
    try:
        result = loop.train_network(
            start.network,
            material.mix,
            plan,
            lambda: loop.validation_bits(start.network, start.tokenizer, texts, recipe.context),
            folder / "state",
            lambda progress: _tell(progress, recipe, reporter),
        )
    except FloatingPointError as error:
        raise SizewiseError(
            f"Training diverged: {error}.",
            "a loss that stays finite",
            "train again with a lower --learning-rate",
        ) from error
    loop.finish(start.network)
    return result


def _save(start: _Start, folder: Path, made: dict[str, Any]) -> Any:
    """Write adapter and merged model; give the plain network."""
    network = start.network
    if start.way == "lora":
        network.save_pretrained(folder / "adapter")
        network = adapt.merge_lora(network)
    folders.save_model(network, start.tokenizer, folder / "model")
    folders.write_json(folder / "model" / "sizewise.json", made)
    return network


def _open_start(recipe: Recipe, contents: DatasetContents, store: Store, reporter: Reporter) -> _Start:
    if recipe.start == "scratch":
        return _from_scratch(recipe, contents)
    architecture.parse_attention(recipe.attention)
    if recipe.attention != "full":
        raise SizewiseError(
            f"The attention of {recipe.start} is part of how it was made and cannot become {recipe.attention}.",
            "--attention full for pretrained models",
            f"sizewise train scratch --data ID --attention {recipe.attention} --minutes 1",
        )
    folder, origin, licence = resolve_folder(recipe.start, store, reporter.say)
    tokenizer = folders.load_tokenizer(folder)
    network = folders.load_network(folder, "bf16")
    room = getattr(network.config, "max_position_embeddings", recipe.context)
    if recipe.context > room:
        raise SizewiseError(
            f"Rows of {recipe.context} tokens are longer than the context of {recipe.start}.",
            f"at most {room} tokens",
            f"--context {room}",
        )
    if recipe.method == "lora":
        network = adapt.add_lora(network, recipe.rank, recipe.seed)
    return _Start(network, tokenizer, recipe.method, f"{origin}; trained here by {recipe.method}", licence)


def _from_scratch(recipe: Recipe, contents: DatasetContents) -> _Start:
    shape = architecture.shape_for(recipe.parameters)
    texts = [document.text for document in contents.documents["train"]]
    texts += [part for e in contents.examples["train"] for part in (e.prompt, e.references[0])]
    tokenizer = tokenizers.train_tokenizer(texts, shape.vocabulary, recipe.context)
    ids = {
        "bos": tokenizer.bos_token_id,
        "eos": tokenizer.eos_token_id,
        "pad": tokenizer.pad_token_id,
    }
    shape = shape._replace(vocabulary=len(tokenizer))
    network = architecture.build_network(shape, recipe.attention, recipe.context, ids, recipe.seed)
    licences = ", ".join(sorted(contents.record.licences)) or "not stated"
    origin = f"from scratch: {shape.layers} blocks of width {shape.width}, {shape.parameters:,} parameters"
    return _Start(network.bfloat16(), tokenizer, "scratch", origin, f"as the training text: {licences}")


def _check_size(material: Material, recipe: Recipe, data: str) -> None:
    rows = len(material.mix.prose) + len(material.mix.examples)
    if rows < 2:
        raise SizewiseError(
            f"The training text of {data} fills {rows} row(s) of {recipe.context} tokens.",
            "at least 2 rows; useful training needs hundreds",
            "add documents and read them again: sizewise read PATH...",
        )


def _plan(
    recipe: Recipe, start: _Start, material: Material, path: Path, reporter: Reporter
) -> tuple[loop.Plan, list[str]]:
    """Turn the dial into a plan once; a resumed run reads it back."""
    if path.is_file():
        saved = json.loads(path.read_text(encoding="utf-8"))
        return loop.Plan(**saved["plan"]), list(saved["notes"])
    notes: list[str] = []
    wanted = (
        recipe.tokens >= COMPILE_FROM_TOKENS[start.way]
        if recipe.tokens is not None
        else (recipe.minutes or 0) >= COMPILE_FROM_MINUTES[start.way]
    )
    compiled = wanted and can_compile()
    if wanted and not compiled:
        notes.append("no C++ compiler was found: trained without compiled blocks, which is slower")
        reporter.say("no C++ compiler (g++ or clang++) was found: training runs eagerly, at about half the speed")
    tokens = recipe.tokens or _probe_tokens(recipe, start, material, compiled, reporter)
    most = int(recipe.max_epochs * material.mix.tokens_per_epoch())
    if tokens > most:
        notes.append(
            f"the budget of {tokens:,} tokens was capped at {recipe.max_epochs:g} passes over the text: {most:,}"
        )
        tokens = most
    plan = loop.Plan(
        tokens=tokens,
        learning_rate=recipe.learning_rate or _learning_rate(start),
        weight_decay=WEIGHT_DECAYS[start.way],
        compiled=compiled,
        validations=VALIDATIONS,
    )
    write_atomically(path, json.dumps({"plan": asdict(plan), "notes": notes}, indent=1))
    return plan, notes


def _learning_rate(start: _Start) -> float:
    rate, width = LEARNING_RATES[start.way]
    return rate * width / int(adapt.base_of(start.network).config.hidden_size)


def _probe_tokens(recipe: Recipe, start: _Start, material: Material, compiled: bool, reporter: Reporter) -> int:
    """Measure the speed for a moment and give the tokens that fit into the minutes.

    Validation takes about a third of a training step's time for each of its tokens.
    """
    reporter.say(f"measuring the speed of {recipe.start} for a moment" + (" (compiling)" if compiled else ""))
    loop.prepare(start.network, compiled)
    warmup, speed = loop.probe(start.network, material.mix)
    seconds = 60 * (recipe.minutes or 0)
    validation = (VALIDATIONS + 1) * (VALIDATION_CHARACTERS / 4) / (3 * speed)
    left = seconds - warmup - validation
    if left < 0.2 * seconds:
        left = 0.2 * seconds
    return max(int(left * speed), recipe.rows_per_step * recipe.context)


def _tell(progress: loop.Progress, recipe: Recipe, reporter: Reporter) -> None:
    parts = [f"loss {progress.loss:.3f}"]
    if progress.bits_per_byte is not None:
        reporter.say(f"validation after {progress.tokens:,} tokens: {progress.bits_per_byte:.4f} bits/byte")
    if progress.tokens_per_s:
        parts.append(f"{progress.tokens_per_s:,.0f} tokens/s")
    reporter.advance(f"training {recipe.start}", progress.tokens, progress.budget, ", ".join(parts))


def peak_memory_bytes() -> int:
    """Give the largest resident memory of this process so far."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
