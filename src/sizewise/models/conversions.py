"""Models converted for openvino-genai on first use, and compared with the originals before anything is served."""

from __future__ import annotations

import gc
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from filelock import FileLock

from sizewise.errors import SizewiseError
from sizewise.models import openvino
from sizewise.records import Message, fingerprint
from sizewise.store import Store

if TYPE_CHECKING:
    from sizewise.models import parity

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


def converted_folder(
    uri: str,
    folder: Path,
    revision: str,
    *,
    precision: str | None,
    data: str | None,
    store: Store,
    say: Callable[[str], None],
) -> Path:
    """Return a model's folder in openvino-genai's format; convert and compare it on first use.

    A model whose conversion failed is not tried again until openvino-genai is updated.

    Args:
        uri: the model's URI.
        folder: its Hugging Face folder.
        revision: distinguishes two states of the URI.
        precision: `bf16` or `fp32`, in which it will run; by default the processor's native precision.
        data: dataset to take prompts from; built-in ones if None.
        store: where conversions are kept.
        say: receives progress.

    Raises:
        MissingExtraError: openvino-genai is not installed.
        SizewiseError: openvino-genai doesn't support the model, or its outputs differ from the model's.
    """
    from sizewise.lm import hf_format
    from sizewise.lm.device import machine_precision

    openvino.check_convertible(folder)
    precision = precision or machine_precision()
    converted = store.weights_folder(f"openvino-{fingerprint([uri, revision, CONVERSION])}")
    converted.parent.mkdir(parents=True, exist_ok=True)
    passed = converted / f"compared-{precision}.txt"
    refused = converted.with_name(f"{converted.name}-{precision}.refused")
    engine = openvino.engine_name()
    with FileLock(converted.parent / f".{converted.name}.lock"):
        if passed.is_file() and passed.read_text(encoding="utf-8") == engine:
            return converted
        if refused.is_file():
            known, _, reason = refused.read_text(encoding="utf-8").partition("\n")
            if known == engine:
                again = f"{_NEXT}; to try the conversion again, remove {refused}"
                raise SizewiseError(reason, "a model that openvino-genai computes correctly", again)
        original = [hf_format.load_network(folder, "fp32"), hf_format.load_tokenizer(folder)]
        try:
            _convert_and_compare(uri, original, converted, precision, _material(store, data), say)
        except SizewiseError as error:
            refused.write_text(f"{engine}\n{error.what}", encoding="utf-8")
            shutil.rmtree(converted, ignore_errors=True)
            raise
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
    uri: str,
    original: list[Any],
    converted: Path,
    precision: str,
    material: parity.Material,
    say: Callable[[str], None],
) -> None:
    """Convert a network with its tokenizer, unless it is converted already, and compare the outputs.

    Args:
        uri: the model's URI.
        original: network and tokenizer; emptied, because the weights of original and conversion may not both fit into
            memory.
        converted: folder of the conversion.
        precision: `bf16` or `fp32`.
        material: prompts and texts.
        say: receives progress.

    Raises:
        SizewiseError: openvino-genai doesn't support the model, or the outputs differ.
    """
    from sizewise.models import parity

    tokenizer, network = original.pop(), original.pop()
    if not (converted / openvino.MODEL_FILE).is_file():
        say(f"Converting {uri} for openvino-genai")
        openvino.convert_network(network, tokenizer, converted)
    say(f"Comparing the converted {uri} with the original")
    reference = parity.make_reference(network, tokenizer, material, ANSWER_TOKENS, TEXT_TOKENS)
    del network
    gc.collect()
    encode = partial(parity.encode, tokenizer)  # a service passes token ids, so only the network is compared
    with parity.openvino_reader(converted, precision, encode) as reader:
        found = parity.check(reader, reference, parity.BF16 if precision == "bf16" else parity.EXACT)
    if found.reasons:
        raise SizewiseError(
            f"Converted for openvino-genai, its outputs in {precision} differ: {'; '.join(found.reasons)}.",
            "the outputs of the original within the tolerance",
            _NEXT,
        )
