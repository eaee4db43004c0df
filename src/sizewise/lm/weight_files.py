"""The weight files of a Hugging Face folder, without loading them."""

from __future__ import annotations

import json
from pathlib import Path

from sizewise.errors import SizewiseError

ADAPTER_CONFIG = "adapter_config.json"
INDEX, SINGLE = "model.safetensors.index.json", "model.safetensors"


def weight_files(folder: Path) -> list[Path]:
    """List the weight files that transformers reads: model.safetensors, the files in the index, or else all files.

    Mistral's repositories contain a second copy of the weights in consolidated.safetensors, which is
    ignored.

    Raises:
        SizewiseError: the index can't be read, or names files that are missing.
    """
    index, single = folder / INDEX, folder / SINGLE
    if single.is_file():
        return [single]
    if not index.is_file():
        return sorted(folder.glob("*.safetensors"))
    try:
        found = json.loads(index.read_text(encoding="utf-8"))
        named = sorted(set(map(str, found["weight_map"].values())))
        outside = [name for name in named if "/" in name or "\\" in name]
        if outside:
            raise ValueError(f"it names {outside[0]}, which isn't a file of this folder")
        if "metadata" not in found:
            raise ValueError("it has no metadata, which transformers requires")
    except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
        raise SizewiseError(
            f"{index} can't be read: {error}",
            "the index of a model's weight files, with weight_map and metadata",
            "download the model again",
        ) from error
    absent = [name for name in named if not (folder / name).is_file()]
    if absent:
        raise SizewiseError(
            f"{len(absent)} of {len(named)} weight files in {folder} are missing, for example {absent[0]}.",
            f"all files that {INDEX} names",
            "download the model again, or copy the missing files into the folder",
        )
    return [folder / name for name in named]
