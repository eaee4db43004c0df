"""Models converted for faster engines on first use, and compared with the originals before anything is served."""

from __future__ import annotations

import gc
import shutil
from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from filelock import FileLock

from sizewise.errors import EngineStopped, SizewiseError
from sizewise.models import llamacpp, openvino
from sizewise.records import Message, fingerprint
from sizewise.store import Store

if TYPE_CHECKING:
    from sizewise.models import parity

OPENVINO_SUFFIX, LLAMACPP_SUFFIX = "+openvino", "+llamacpp"
"""End of the revision of a model that runs in another format than its own; it counts as the same model."""
CONVERSION = 2
"""Increase it when the conversion changes: models are then converted again."""
PROMPTS, ANSWER_TOKENS = 8, 24
TEXTS, TEXT_TOKENS = 4, 256
QUESTIONS = tuple(
    f"{question}?"
    for question in (
        "What is the capital of France",
        "How many legs does a spider have",
        "Why is the sky blue during the day",
        "What does a librarian do",
        "Which is larger, 0.9 or 0.11",
        "How do I write a polite e-mail to a customer",
        "What is the difference between rain and snow",
        "Who wrote Romeo and Juliet",
    )
)


class Target(NamedTuple):
    """An engine that runs models in a format of its own."""

    engine: str
    """Name of the engine."""
    kind: str
    """Beginning of the names of its folders."""
    file: str
    """File of a converted model."""
    version: Callable[[], str]
    """Returns the engine's name with its version; a new version compares again."""
    check: Callable[[Path], None]
    """Raises an error if the engine isn't installed or can't run a Hugging Face folder."""
    convert: Callable[[Any, Any, Path], None]
    """Writes network and tokenizer to a folder."""
    reader: Callable[[Path, str, Callable[..., list[int]]], AbstractContextManager[parity.Reader]]
    """Opens a converted folder in a precision for the comparison."""


def _openvino_reader(
    folder: Path, precision: str, encode: Callable[..., list[int]]
) -> AbstractContextManager[parity.Reader]:
    from sizewise.models import parity

    return parity.openvino_reader(folder, precision, encode)


def _llamacpp_reader(
    folder: Path, precision: str, encode: Callable[..., list[int]]
) -> AbstractContextManager[parity.Reader]:
    from sizewise.models import parity

    return parity.llamacpp_reader(folder / GGUF_FILE, "f16", encode)


def _write_openvino(network: Any, tokenizer: Any, folder: Path) -> None:
    openvino.convert_network(network, tokenizer, folder)


def _check_gguf(folder: Path) -> None:
    from sizewise.lm import gguf_writing, hf_format

    llamacpp.require()
    gguf_writing.check_writable(hf_format.load_config(folder), hf_format.load_tokenizer(folder))


def _write_gguf(network: Any, tokenizer: Any, folder: Path) -> None:
    from sizewise.lm import gguf_writing

    folder.mkdir(parents=True, exist_ok=True)
    new = folder / f"{GGUF_FILE}.new"
    gguf_writing.write_gguf(network, tokenizer, new, "f16", folder.name, "")
    new.replace(folder / GGUF_FILE)


GGUF_FILE = "model.gguf"
OPENVINO = Target(
    "openvino-genai",
    "openvino",
    openvino.MODEL_FILE,
    openvino.engine_name,
    openvino.check_convertible,
    _write_openvino,
    _openvino_reader,
)
LLAMACPP = Target("llama.cpp", "llamacpp", GGUF_FILE, llamacpp.engine_name, _check_gguf, _write_gguf, _llamacpp_reader)


class ConversionRefused(SizewiseError):
    """An engine can't run a model, and isn't tried again before it is updated.

    Args:
        what: What happened.
        engine: Name of the engine.
        kept: File that keeps the refusal.
    """

    def __init__(self, what: str, engine: str, kept: Path) -> None:
        self.again = f"to try the conversion again, remove {kept}"
        super().__init__(what, f"a model that {engine} computes correctly", f"{_NEXT}; {self.again}")


def converted_folder(
    target: Target,
    uri: str,
    folder: Path,
    revision: str,
    *,
    precision: str | None,
    data: str | None,
    store: Store,
    say: Callable[[str], None],
) -> Path:
    """Return a model's folder in an engine's format; convert and compare it on first use.

    A model whose conversion failed is not tried again until the engine is updated; one whose engine was killed or
    crashed meanwhile is.

    Args:
        target: the engine.
        uri: the model's URI.
        folder: its Hugging Face folder.
        revision: distinguishes two states of the URI.
        precision: `bf16` or `fp32`, in which it will run; by default the processor's native precision.
        data: dataset to take prompts from; built-in ones if None.
        store: where conversions are kept.
        say: receives progress.

    Raises:
        MissingExtraError: the engine is not installed.
        EngineStopped: the engine was killed or crashed.
        SizewiseError: the engine doesn't support the model, or its outputs differ from the model's.
    """
    from sizewise.lm import hf_format
    from sizewise.lm.device import machine_precision

    target.check(folder)
    precision = precision or machine_precision()
    converted = store.weights_folder(f"{target.kind}-{fingerprint([uri, revision, CONVERSION])}")
    converted.parent.mkdir(parents=True, exist_ok=True)
    passed = converted / f"compared-{precision}.txt"
    refused = converted.with_name(f"{converted.name}-{precision}.refused")
    engine = target.version()
    with FileLock(converted.parent / f".{converted.name}.lock"):
        if passed.is_file() and passed.read_text(encoding="utf-8") == engine:
            return converted
        if refused.is_file():
            known, _, reason = refused.read_text(encoding="utf-8").partition("\n")
            if known == engine:
                raise ConversionRefused(reason, target.engine, refused)
        original = [hf_format.load_network(folder, "fp32"), hf_format.load_tokenizer(folder)]
        try:
            _convert_and_compare(target, uri, original, converted, precision, _material(store, data), say)
        except EngineStopped:
            raise
        except SizewiseError as error:
            refused.write_text(f"{engine}\n{error.what}", encoding="utf-8")
            shutil.rmtree(converted, ignore_errors=True)
            raise ConversionRefused(error.what, target.engine, refused) from error
        passed.write_text(engine, encoding="utf-8")
    return converted


_NEXT = "run the same command with --engine transformers"


def _material(store: Store, data: str | None) -> parity.Material:
    """Take prompts and texts from a dataset that is still stored; else built-in questions and the Python manual."""
    from sizewise.models import parity

    if data is not None and store.exists("dataset", data):
        return parity.dataset_material(store, data, PROMPTS, TEXTS)
    asked = [(Message(role="user", content=question),) for question in QUESTIONS]
    return parity.Material(asked, [""] * len(asked), parity.manual_texts(TEXTS))


def _convert_and_compare(
    target: Target,
    uri: str,
    original: list[Any],
    converted: Path,
    precision: str,
    material: parity.Material,
    say: Callable[[str], None],
) -> None:
    """Convert a network with its tokenizer, unless it is converted already, and compare the outputs.

    Args:
        target: the engine.
        uri: the model's URI.
        original: network and tokenizer; emptied, because the weights of original and conversion may not both fit into
            memory.
        converted: folder of the conversion.
        precision: `bf16` or `fp32`.
        material: prompts and texts.
        say: receives progress.

    Raises:
        SizewiseError: the engine doesn't support the model, or the outputs differ.
    """
    from sizewise.models import parity

    tokenizer, network = original.pop(), original.pop()
    if not (converted / target.file).is_file():
        say(f"Converting {uri} for {target.engine}")
        target.convert(network, tokenizer, converted)
    say(f"Comparing the converted {uri} with the original")
    reference = parity.make_reference(network, tokenizer, material, ANSWER_TOKENS, TEXT_TOKENS)
    del network
    gc.collect()
    encode = partial(parity.encode, tokenizer)  # a service passes token ids, so only the network is compared
    with target.reader(converted, precision, encode) as reader:
        found = parity.check(reader, reference, parity.EXACT if reader.precision == "fp32" else parity.BF16)
    if found.reasons:
        raise SizewiseError(
            f"Converted for {target.engine}, its outputs in {precision} differ: {'; '.join(found.reasons)}.",
            "the outputs of the original within the tolerance",
            _NEXT,
        )
