"""export(): a model in the format of another program, refused if it would not do what the model did."""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import Any, NamedTuple

from sizewise import datasets
from sizewise.errors import SizewiseError, UsageError
from sizewise.evaluation.general_questions import QUESTIONS
from sizewise.exporting import llamacpp, ollama, parity
from sizewise.exporting.parity import Bounds, Reader
from sizewise.lm import adapt, gguf_writing
from sizewise.lm import hf_format as folders
from sizewise.lm.device import machine_precision
from sizewise.lm.gguf import read_gguf
from sizewise.lm.tokenizer import end_ids
from sizewise.models import openvino
from sizewise.models.opening import resolve_folder, revision_of
from sizewise.progress import Reporter, Silent
from sizewise.records import Checkpoint, Export, Message, fingerprint
from sizewise.store import Saved, Store, sha256_of, versions

PROMPTS, TEXTS = 100, 20
EXACT = Bounds(0.99, 0.005)
# What rounding to fewer bits may cost before the export is refused.
FORMATS = {
    "hf": EXACT,
    "gguf-f16": EXACT,
    "gguf-q8_0": Bounds(0.97, 0.005),
    "gguf-q5_1": Bounds(0.92, 0.01),
    "gguf-q5_0": Bounds(0.92, 0.01),
    "gguf-q4_1": Bounds(0.85, 0.03),
    "gguf-q4_0": Bounds(0.85, 0.03),
    "openvino": EXACT,
    "openvino-q8_0": Bounds(0.97, 0.005),
}
GGUF_FILE = "model.gguf"
LLAMA_CONTEXT = 4_096
SERVED = Bounds(0.96, 0.01)  # in bf16, as the engine computes where the processor can


class _Source(NamedTuple):
    """What is exported."""

    uri: str
    folder: Path
    adapter: Path | None
    base: Path | None
    origin: str
    license: str
    data: str | None
    attention: str = "full"
    context: int = 0


def export(
    model: str,
    to: str,
    out: Path,
    *,
    store: Store | None = None,
    data: str | None = None,
    prompts: int = PROMPTS,
    bounds: Bounds | None = None,
    reporter: Reporter | None = None,
) -> Saved[Export]:
    """Write a model in another program's format and check it; what fails the check is not left behind.

    Args:
        model: model URI, or the id of a run.
        to: one of FORMATS.
        out: folder to write to; it must not exist, or be empty.
        store: where records live; by default SIZEWISE_HOME.
        data: dataset whose test prompts and texts are used; by default that of the training, else general ones.
        prompts: how many prompts are answered.
        bounds: how far the export may be from the model; by default those of the format.
        reporter: told how far it is.

    Raises:
        UsageError: the format or the folder cannot be used.
        SizewiseError: the format has no place for this model, or the export does not do what the model does.
    """
    store, reporter = store or Store(), reporter or Silent()
    if to not in FORMATS:
        raise UsageError(f"There is no format '{to}'.", " or ".join(FORMATS), "")
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UsageError(f"{out} is there already.", "a folder that is new or empty", "--out OTHER")
    if to.startswith("openvino"):
        openvino.require()
    begun = time.monotonic()
    source = _source(model, store, data, reporter.say)
    reporter.say(f"asking {model} itself, in fp32")
    network = (
        adapt.load_adapted(source.base, source.adapter, source.attention, source.context)
        if source.adapter and source.base
        else folders.load_network(source.folder, "fp32")
    )
    tokenizer = folders.load_tokenizer(source.folder)
    conversations, texts = _material(store, source.data, prompts)
    reference = parity.make_reference(adapt.base_of(network), tokenizer, conversations, texts)
    merged = adapt.merge_lora(network) if source.adapter else network
    notes: list[str] = []
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out.parent, prefix=f".{out.name}-") as temporary:
        made = Path(temporary) / "export"
        made.mkdir()
        reporter.say(f"writing {to}")
        _write(to, merged, tokenizer, source, made, notes)
        del network, merged
        found = []
        for reader, limits in _readers(to, made, bounds or FORMATS[to]):
            reporter.say(f"reading it with {reader.name} in {reader.precision}")
            found.append(parity.check(reader, reference, limits))
        reasons = [f"read by {one.reader} in {one.precision}, {reason}" for one in found for reason in one.reasons]
        if reasons:
            raise SizewiseError(
                f"The export of {model} to {to} does not do what the model does: {'; '.join(reasons)}.",
                "an export that says what its model says",
                "--to hf or --to gguf-f16, or other bounds with --min-agreement and --max-bits-increase",
            )
        record = Export(
            model=model,
            to=to,
            folder=str(out),
            files={str(path.relative_to(made)): sha256_of(path) for path in sorted(made.rglob("*")) if path.is_file()},
            bytes=sum(path.stat().st_size for path in made.rglob("*")),
            origin=source.origin,
            license=source.license,
            data=source.data,
            parity=tuple(found),
            notes=tuple(notes),
            seconds=time.monotonic() - begun,
            versions=versions("torch", "transformers", "gguf", "openvino-genai"),
        )
        if out.exists():
            out.rmdir()
        made.rename(out)
    identity = [model, revision_of(model), to, str(out.resolve()), source.data, prompts, record.files]
    return store.write(f"export-{fingerprint(identity)}", record)


def _source(model: str, store: Store, data: str | None, say: Callable[[str], None]) -> _Source:
    """Find weights, and the adapters before they were merged."""
    trained_here = model == Path(model).name and store.exists("checkpoint", model)
    uri = f"run:{model}" if trained_here else model
    folder, origin, license = resolve_folder(uri, store, say)
    adapter = base = None
    attention, context = "full", 0
    if uri.startswith("run:"):
        trained = store.read(Checkpoint, uri.removeprefix("run:"))
        data = data or trained.data
        attention, context = trained.recipe.attention, trained.recipe.context
        beside = folder.parent / "adapter"
        if beside.is_dir():
            adapter, base = beside, resolve_folder(trained.start, store, say)[0]
    return _Source(uri, folder, adapter, base, origin, license, data, attention, context)


def _material(store: Store, data: str | None, prompts: int) -> tuple[list[tuple[Message, ...]], list[str]]:
    """Give prompts, and texts to score: of the domain where it is known."""
    asked: list[tuple[Message, ...]]
    if data is None:
        asked = [(Message(role="user", content=question),) for question, _ in QUESTIONS[:prompts]]
        return asked, [f"{question} {answer}." for question, answer in QUESTIONS[:TEXTS]]
    contents = datasets.load(store, data)
    examples = contents.examples["test"] + contents.examples["validation"] + contents.examples["train"]
    documents = contents.documents["test"] + contents.documents["validation"] + contents.documents["train"]
    asked = [example.messages for example in examples[:prompts]]
    asked = asked or [(Message(role="user", content=document.text[:200]),) for document in documents[:prompts]]
    return asked, [document.text[:4_000] for document in documents[:TEXTS]]


def _write(to: str, network: Any, tokenizer: Any, source: _Source, made: Path, notes: list[str]) -> None:
    if to.startswith("openvino"):
        shutil.rmtree(made)
        quantisation = to.partition("-")[2] or gguf_writing.F16
        openvino.convert_network(network, tokenizer, made, source.uri, source.license, quantisation)
        return
    if to.startswith("gguf-"):
        quantisation = to.removeprefix("gguf-")
        gguf_writing.write_gguf(network, tokenizer, made / GGUF_FILE, quantisation, source.uri, source.license)
        turns = ollama.learn_turns(tokenizer) if tokenizer.chat_template else None
        if turns is None:
            notes.append("the chat template is more than text around turns: Ollama must know it from the GGUF file")
        adds_bos = tokenizer("a").input_ids[:1] == [tokenizer.bos_token_id]
        written = ollama.modelfile(GGUF_FILE, turns, tokenizer, adds_bos, end_ids(network, tokenizer))
        (made / "Modelfile").write_text(written, encoding="utf-8")
        return
    folders.save_model(network, tokenizer, made, _beside(source.folder))
    if source.adapter:
        shutil.copytree(source.adapter, made / "adapter")
        notes.append("adapter/ holds the adapters alone, for servers that load them beside the base model")


def _beside(folder: Path) -> dict[str, str]:
    """Give the model card and its facts, which travel with the weights."""
    return {
        name: (folder / name).read_text(encoding="utf-8")
        for name in ("README.md", "sizewise.json")
        if (folder / name).is_file()
    }


def _readers(to: str, made: Path, bounds: Bounds) -> Iterator[tuple[Reader, Bounds]]:
    """Give the programs that read an export, each with its bounds."""
    if to.startswith("openvino"):
        encode = _openvino_encode(made)
        quick = [("bf16", SERVED)] if machine_precision() == "bf16" else []
        for precision, limits in [("fp32", bounds), *quick]:
            engine = openvino.Engine(made, precision)
            try:
                yield (
                    Reader(openvino.engine_name(), precision, partial(parity.walk, engine.greedy), engine.nats, encode),
                    limits,
                )
            finally:
                engine.close()
        return
    if to.startswith("gguf-"):
        network, tokenizer = read_gguf(made / GGUF_FILE)
    else:
        network, tokenizer = folders.load_network(made, "fp32"), folders.load_tokenizer(made)
    yield parity.network_reader(f"transformers {metadata.version('transformers')}", network, tokenizer), bounds
    if to.startswith("gguf-") and llamacpp.is_installed():
        served = llamacpp.Engine(made / GGUF_FILE, min(network.config.max_position_embeddings, LLAMA_CONTEXT))
        try:
            walked = partial(parity.walk, served.greedy)
            yield Reader(llamacpp.name(), to.removeprefix("gguf-"), walked, None, served.encode), bounds
        finally:
            served.close()


def _openvino_encode(made: Path) -> Callable[[Sequence[Message] | str], list[int]]:
    import openvino_genai

    tokenizer = openvino_genai.Tokenizer(str(made))

    def encode(asked: Sequence[Message] | str) -> list[int]:
        if isinstance(asked, str) or not tokenizer.chat_template:
            text, special = asked if isinstance(asked, str) else asked[-1].content, not isinstance(asked, str)
        else:
            turns = [message.model_dump() for message in asked]
            text, special = tokenizer.apply_chat_template(turns, add_generation_prompt=True), False
        return [int(i) for i in tokenizer.encode(text, add_special_tokens=special).input_ids.data[0]]

    return encode
