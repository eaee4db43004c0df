"""Folders that hold only adapters, as peft saves them: merged into their base once, and then a model like any other."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from filelock import FileLock

from sizewise.errors import SizewiseError
from sizewise.lm.weight_files import ADAPTER_CONFIG as CONFIG
from sizewise.models.adapter_faults import WEIGHTS, merging_error
from sizewise.records import fingerprint
from sizewise.store import Store

TASK = "CAUSAL_LM"
MERGED = 2
"""Increase it when merging changes: adapters are then merged again."""
_TOKENIZER = ("tokenizer.json", "tokenizer_config.json")


def is_adapter(folder: Path) -> bool:
    """Check whether a folder holds adapters, but not the model that they belong to; some trainers add its config."""
    if not (folder / CONFIG).is_file():
        return False
    return not (folder / "config.json").is_file() or [path.name for path in folder.glob("*.safetensors")] == [WEIGHTS]


def base_of_adapter(folder: Path) -> str:
    """Return the URI of the model that adapters were trained on: a folder on this machine, or a model on the Hub.

    Raises:
        SizewiseError: the config doesn't name it, or the adapters are of a kind that can't be merged.
    """
    path = folder / CONFIG
    try:
        config: Any = json.loads(path.read_text(encoding="utf-8"))
        kind, name = str(config["peft_type"]), str(config["base_model_name_or_path"] or "")
        task = str(config.get("task_type") or TASK)
    except (OSError, ValueError, LookupError, TypeError) as error:
        raise SizewiseError(
            f"{path} can't be read: {error}",
            "the config of adapters saved by peft",
            "save the adapters again with save_pretrained()",
        ) from error
    if kind != "LORA":
        raise SizewiseError(
            f"{folder} holds adapters of the kind {kind}, which can't be merged into a model here.",
            "LoRA or DoRA adapters",
            "merge them with peft's merge_and_unload, save the model, and open its folder",
        )
    if task != TASK:
        raise SizewiseError(
            f"{folder} holds adapters for the task {task}, whose head a language model lacks.",
            f"adapters of a causal language model ({TASK})",
            "merge them with peft's merge_and_unload and use the library that they were trained for",
        )
    if not name:
        raise SizewiseError(
            f"{path} doesn't name the model that the adapters belong to.",
            "base_model_name_or_path: a folder, or ORG/NAME on the Hub",
            f"write it into {path}",
        )
    if not (folder / WEIGHTS).is_file():
        raise SizewiseError(
            f"{folder} has no {WEIGHTS}; adapters in other files can execute code.",
            f"adapters saved by peft as {WEIGHTS}",
            "save them again with safe_serialization=True",
        )
    for near in (Path(name).expanduser(), folder / name):
        if near.is_dir() and near.resolve() != folder.resolve():
            return str(near)
    if name.count("/") == 1 and not name.startswith((".", "/", "~")):
        return f"hf:{name}"
    raise SizewiseError(
        f"{folder} holds adapters of {name}, which isn't on this machine.",
        "the folder of the model that they were trained on",
        f"correct base_model_name_or_path in {path}",
    )


def merged_folder(folder: Path, revision: str, base: Path, store: Store, say: Callable[[str], None]) -> Path:
    """Return a folder with the adapters merged into their base; merge them on first use.

    Args:
        folder: folder of the adapters; its tokenizer, if it has one, takes the place of the base's.
        revision: distinguishes two states of the folder and of the base.
        base: folder of the model that they were trained on.
        store: where merged models are kept.
        say: receives progress.

    Raises:
        SizewiseError: the adapters don't fit the model.
    """
    merged = store.weights_folder(f"merged-{fingerprint([str(folder.resolve()), revision, str(base), MERGED])}")
    merged.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(merged.parent / f".{merged.name}.lock"):
        if not merged.is_dir():
            from sizewise.lm import adapt, hf_format

            say(f"Merging the adapters in {folder} into {base}")
            own = all((folder / name).is_file() for name in _TOKENIZER)
            tokenizer = hf_format.load_tokenizer(folder if own else base)
            try:
                network = adapt.merge_saved(base, folder)
                hf_format.check_tokenizer(network, tokenizer, folder)
                hf_format.save_model(network, tokenizer, merged)
            except SizewiseError:
                raise
            except Exception as error:  # peft may raise anything for adapters of another model
                raise merging_error(folder, base, error, hf_format.error_line(error)) from error
    return merged
