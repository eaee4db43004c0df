"""Export a model to another format, and reject the export if its outputs differ from the model's."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterator
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import Any, NamedTuple

from sizewise.errors import MissingExtraError, SizewiseError, UsageError
from sizewise.evaluation.general_questions import questions_in
from sizewise.exporting import classifiers, llamacpp, ollama
from sizewise.lm import adapt, gguf_writing, hf_format
from sizewise.lm.device import machine_precision
from sizewise.lm.execution import execution_of
from sizewise.lm.gguf import read_gguf
from sizewise.lm.tokenizer import end_ids
from sizewise.models import openvino, parity
from sizewise.models.opening import resolve_folder, revision_of
from sizewise.models.parity import EXACT, Bounds, Reader
from sizewise.models.run_starts import start_folder
from sizewise.progress import Reporter, Silent
from sizewise.records import Checkpoint, Export, Message, Parity, fingerprint
from sizewise.store import Saved, Store, is_free, sha256_of, staged, uri_of, versions

PROMPTS, TEXTS = 100, 20
# Maximum loss from quantization before an export is rejected.
FORMATS = {
    "hf": EXACT,
    "gguf-f16": EXACT,
    "gguf-q8_0": Bounds(0.97, 0.005),
    "gguf-q6_k": Bounds(0.95, 0.0075),
    "gguf-q5_k_m": Bounds(0.92, 0.01),
    "gguf-q4_k_m": Bounds(0.85, 0.03),
    "gguf-q5_1": Bounds(0.92, 0.01),
    "gguf-q5_0": Bounds(0.92, 0.01),
    "gguf-q4_1": Bounds(0.85, 0.03),
    "gguf-q4_0": Bounds(0.85, 0.03),
    "openvino": EXACT,
    "openvino-q8_0": Bounds(0.97, 0.005),
}
MERGED = "So the export is of the merged weights that the run saved, rounded to their precision, without adapter/."
GGUF_FILE = "model.gguf"
LLAMA_CONTEXT = 4_096
TRANSFORMERS = f"transformers {metadata.version('transformers')}"


class _Source(NamedTuple):
    """The model to export."""

    uri: str
    folder: Path
    adapter: Path | None
    base: Path | None
    origin: str
    license: str
    data: str | None
    attention: str = "full"
    context: int = 0
    notes: tuple[str, ...] = ()


def export(
    model: str | Path | Saved[Checkpoint],
    to: str,
    out: str | Path,
    *,
    store: Store | None = None,
    data: str | None = None,
    prompts: int = PROMPTS,
    bounds: Bounds | None = None,
    reporter: Reporter | None = None,
) -> Saved[Export]:
    """Export a model and verify its outputs. An export that fails the check is deleted.

    Args:
        model: model URI, or the id of a run.
        to: one of FORMATS, or `onnx` for a classifier.
        out: destination folder; must be new or empty.
        store: store of the records; by default SIZEWISE_HOME.
        data: dataset to take prompts and texts from; by default the training dataset, else general questions.
        prompts: number of prompts to answer.
        bounds: tolerance between export and model; by default the format's.
        reporter: shows progress.

    Raises:
        UsageError: the format is unknown or the folder is not empty.
        SizewiseError: the format doesn't support the model, or the export's outputs differ from the model's.
    """
    store, reporter = store or Store(), reporter or Silent()
    uri, out = uri_of(model), Path(out)
    if uri == Path(uri).name and store.exists("classifier", uri):
        uri = f"run:{uri}"
    _check_target(to, out, classifier=uri.startswith(classifiers.PREFIX))
    if uri.startswith(classifiers.PREFIX):
        return classifiers.export_classifier(uri, to, out, store=store, data=data, texts=prompts, reporter=reporter)
    with staged(out) as made:  # refuses what can't be written before the work
        record = _write_checked(uri, to, out, made, store, data, prompts, bounds or FORMATS[to], reporter)
    identity = [uri, revision_of(uri), to, str(out.resolve()), record.data, prompts, record.files]
    return store.write(f"export-{fingerprint(identity)}", record)


def _write_checked(
    uri: str,
    to: str,
    out: Path,
    made: Path,
    store: Store,
    data: str | None,
    prompts: int,
    bounds: Bounds,
    reporter: Reporter,
) -> Export:
    """Write an export to `made`, and verify it."""
    begun = time.monotonic()
    source = _source(uri, store, data, reporter.say)
    reporter.say(f"Generating reference outputs with {uri} in fp32")
    network = _load(source)
    tokenizer = hf_format.load_tokenizer(source.folder)
    reference = parity.make_reference(adapt.base_of(network), tokenizer, _material(store, source.data, prompts))
    merged = adapt.merge_lora(network) if source.adapter else network
    notes = list(source.notes)
    made.mkdir()
    reporter.say(f"Writing {to}")
    _write(to, merged, tokenizer, source, made, notes)
    del network, merged
    checks = _verify(to, made, bounds, reference, reporter, chats=bool(tokenizer.chat_template))
    reasons = [f"with {c.reader} in {c.precision}, {reason}" for c in checks for reason in c.reasons]
    if reasons:
        raise SizewiseError(
            f"The export of {uri} to {to} doesn't match the model: {'; '.join(reasons)}.",
            "outputs within the tolerance of the format",
            _next_step(to, reasons),
        )
    return Export(
        model=uri,
        to=to,
        folder=str(out),
        files={str(path.relative_to(made)): sha256_of(path) for path in sorted(made.rglob("*")) if path.is_file()},
        bytes=sum(path.stat().st_size for path in made.rglob("*")),
        origin=source.origin,
        license=source.license,
        data=source.data,
        parity=tuple(checks),
        notes=tuple(notes),
        seconds=time.monotonic() - begun,
        versions=versions("torch", "transformers", "gguf", "openvino-genai"),
    )


def _next_step(to: str, reasons: list[str]) -> str:
    """Return what to do about a rejected export: no tolerance helps against other tokens."""
    if any("encodes" in reason for reason in reasons):
        return "use --to hf, which keeps the model's own tokenizer"
    exact = "--to hf" if to in ("hf", "gguf-f16", "openvino") else "--to hf or --to gguf-f16"
    return f"use {exact}, or change the tolerance with --min-agreement and --max-bits-increase"


def _check_target(to: str, out: Path, *, classifier: bool) -> None:
    if to == classifiers.ONNX and not classifier:
        raise UsageError(
            "A language model can't be exported as onnx.", "a classifier, or another format", "--to gguf-f16"
        )
    if to not in FORMATS and to != classifiers.ONNX:
        raise UsageError(
            f"Unknown export format '{to}'.",
            f"{', '.join(FORMATS)}, or {classifiers.ONNX} for classifiers",
            f"sizewise export MODEL --to gguf-f16 --out {out}",
        )
    if not is_free(out):
        raise UsageError(f"The folder {out} already exists and isn't empty.", "a new or empty folder", "--out OTHER")
    if to.startswith("openvino"):
        openvino.require()


def _load(source: _Source) -> Any:
    if source.adapter and source.base:
        return adapt.load_adapted(source.base, source.adapter, source.attention, source.context)
    return hf_format.load_network(source.folder, "fp32")


def _verify(
    to: str, made: Path, bounds: Bounds, reference: parity.Reference, reporter: Reporter, *, chats: bool
) -> list[Parity]:
    """Compare an export with the reference in every program that can load it."""
    checks = []
    for reader, limits in _readers(to, made, bounds, chats):
        reporter.say(f"Verifying with {reader.name} in {reader.precision}")
        checks.append(parity.check(reader, reference, limits))
    return checks


def _source(model: str, store: Store, data: str | None, say: Callable[[str], None]) -> _Source:
    """Locate the weights, and the unmerged adapters of a trained model."""
    trained_here = model == Path(model).name and store.exists("checkpoint", model)
    uri = f"run:{model}" if trained_here else model
    folder, origin, license = resolve_folder(uri, store, say)
    adapter = base = None
    attention, context = "full", 0
    notes: tuple[str, ...] = ()
    if uri.startswith("run:"):
        trained = store.read(Checkpoint, uri.removeprefix("run:"))
        data = data or trained.data
        attention, context = trained.recipe.attention, trained.recipe.context
        adapter_folder = folder.parent / "adapter"
        if adapter_folder.is_dir():
            try:
                base = start_folder(uri.removeprefix("run:"), trained, store, say)[0]
                adapter = adapter_folder
            except SizewiseError as error:
                notes = (f"{error.what} {MERGED}",)
                say(notes[0])
    return _Source(uri, folder, adapter, base, origin, license, data, attention, context, notes)


def _material(store: Store, data: str | None, prompts: int) -> parity.Material:
    """Collect prompts and texts from the domain's dataset if there is one."""
    if data is not None:
        return parity.dataset_material(store, data, prompts, TEXTS)
    questions = questions_in("en")[:prompts]
    return parity.Material(
        [(Message(role="user", content=question),) for question, _ in questions],
        [answer for _, answer in questions],
        parity.manual_texts(TEXTS),
    )


def _write(to: str, network: Any, tokenizer: Any, source: _Source, made: Path, notes: list[str]) -> None:
    if to.startswith("openvino"):
        shutil.rmtree(made)
        openvino.convert_network(network, tokenizer, made, to.partition("-")[2] or "f16")
        return
    if to.startswith("gguf-"):
        quantization = to.removeprefix("gguf-")
        gguf_writing.write_gguf(network, tokenizer, made / GGUF_FILE, quantization, source.uri, source.license)
        turns = ollama.learn_turns(tokenizer) if tokenizer.chat_template else None
        if turns is None:
            notes.append("The chat template is too complex for a Modelfile. Ollama must use the one in the GGUF file.")
        adds_bos = gguf_writing.begins_prompts(tokenizer)
        if (
            not adds_bos
            and tokenizer.bos_token_id is not None
            and tokenizer("a").input_ids[0] == tokenizer.bos_token_id
        ):
            notes.append(f"Readers don't put {tokenizer.bos_token} before prompts, because the chat template doesn't.")
        written = ollama.modelfile(GGUF_FILE, turns, tokenizer, adds_bos, end_ids(network, tokenizer))
        (made / "Modelfile").write_text(written, encoding="utf-8")
        return
    hf_format.save_model(network, tokenizer, made, _model_card_files(source.folder))
    if source.adapter:
        shutil.copytree(source.adapter, made / "adapter")
        notes.append("adapter/ contains only the adapters, for servers that load them on top of the base model.")


def _model_card_files(folder: Path) -> dict[str, str]:
    """Read the model card and sizewise.json, which accompany the weights."""
    return {
        name: (folder / name).read_text(encoding="utf-8")
        for name in ("README.md", "sizewise.json")
        if (folder / name).is_file()
    }


def _readers(to: str, made: Path, bounds: Bounds, chats: bool) -> Iterator[tuple[Reader, Bounds]]:
    """Yield the programs that verify an export, each with its tolerance."""
    if to.startswith("openvino"):
        bf16 = [("bf16", parity.BF16)] if machine_precision() == "bf16" else []
        for precision, limits in [("fp32", bounds), *bf16]:
            with parity.openvino_reader(made, precision) as reader:
                yield reader, limits
        return
    if to.startswith("gguf-"):
        yield from _gguf_readers(to, made / GGUF_FILE, bounds, chats)
        return
    network, tokenizer = hf_format.load_network(made, "fp32"), hf_format.load_tokenizer(made)
    yield parity.network_reader(TRANSFORMERS, network, tokenizer), bounds


def _gguf_readers(to: str, path: Path, bounds: Bounds, chats: bool) -> Iterator[tuple[Reader, Bounds]]:
    """Yield transformers, if it reads the file's architecture, and llama.cpp, if it is installed."""
    context = LLAMA_CONTEXT
    if gguf_writing.has_reader(path):
        network, tokenizer = read_gguf(path)
        context = min(execution_of(network).context or context, context)
        yield parity.network_reader(TRANSFORMERS, network, tokenizer), bounds
    elif not llamacpp.is_installed():
        raise MissingExtraError("xllamacpp", "llamacpp")
    if llamacpp.is_installed():
        llama = llamacpp.Engine(path, context, chats)
        try:
            walked = partial(parity.walk, llama.greedy)
            yield Reader(llamacpp.name(), to.removeprefix("gguf-"), walked, None, llama.encode), bounds
        finally:
            llama.close()
