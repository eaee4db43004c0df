"""Why adapters can't be merged: damage, their config, what they were trained with, or else another base."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from sizewise.errors import SizewiseError
from sizewise.lm.weight_files import ADAPTER_CONFIG

WEIGHTS = "adapter_model.safetensors"
_LFS = b"version https://git-lfs"
_MERGE_YOURSELF = "merge them with peft's merge_and_unload, save the model, and open its folder"


def merging_error(folder: Path, base: Path, error: Exception, reason: str) -> SizewiseError:
    """Return the error of adapters that couldn't be merged, with its cause.

    Args:
        folder: folder of the adapters.
        base: folder of the model that they name as their base.
        error: what was raised.
        reason: its message on one line.
    """
    from safetensors import SafetensorError, safe_open

    try:
        config = json.loads((folder / ADAPTER_CONFIG).read_text(encoding="utf-8"))
        with safe_open(folder / WEIGHTS, framework="numpy") as weights:
            shapes = {name: list(weights.get_slice(name).get_shape()) for name in weights.keys()}  # noqa: SIM118
    except (OSError, ValueError, SafetensorError) as damage:
        return _damaged(folder / WEIGHTS, damage)
    known = _cause(folder, config, shapes, error, reason)
    return next(known, None) or SizewiseError(
        f"The adapters in {folder} don't fit the model in {base}: {reason}",
        "the model that they were trained on",
        f"correct base_model_name_or_path in {folder / ADAPTER_CONFIG}",
    )


def _damaged(path: Path, damage: Exception) -> SizewiseError:
    is_pointer = False
    with suppress(OSError), path.open("rb") as file:
        is_pointer = file.read(len(_LFS)) == _LFS
    return SizewiseError(
        f"{path} can't be read: {'it is a pointer of Git LFS, not the weights themselves' if is_pointer else damage}",
        "the weights of the adapters, whole",
        f"fetch them with git lfs pull in {path.parent}" if is_pointer else "download or save the adapters again",
    )


def _cause(
    folder: Path, config: dict[str, Any], shapes: dict[str, list[int]], error: Exception, reason: str
) -> Iterator[SizewiseError]:
    """Yield the causes that the files show."""
    path, rank = folder / ADAPTER_CONFIG, config.get("r")
    if not isinstance(rank, int) or rank < 1:
        yield SizewiseError(f"{path} states the rank r = {rank!r}.", "a positive whole number", f"correct r in {path}")
    ranks = sorted({shape[0] for name, shape in shapes.items() if name.endswith(".lora_A.weight")})
    if ranks and rank not in ranks and not config.get("rank_pattern") and not config.get("target_parameters"):
        yield SizewiseError(
            f"{path} states the rank r = {rank}, but the weights have the rank {', '.join(map(str, ranks))}.",
            "the config that was saved with the weights",
            f"correct r in {path}",
        )
    if config.get("layer_replication"):
        yield SizewiseError(
            f"The adapters in {folder} repeat layers of their base (layer_replication), which isn't supported.",
            "adapters on the layers that the base has",
            _MERGE_YOURSELF,
        )
    if config.get("lora_bias") and "bias" in reason:
        yield SizewiseError(
            f"The adapters in {folder} add a bias to layers that have none in their base (lora_bias).",
            "adapters without lora_bias",
            "train them with lora_bias=False",
        )
    if _differs_in_rows(reason) or (config.get("trainable_token_indices") and isinstance(error, IndexError)):
        yield SizewiseError(
            f"The adapters in {folder} were trained with added tokens or resized embeddings: {reason}",
            "adapters with the vocabulary of their base",
            f"resize the base's embeddings as for training; then {_MERGE_YOURSELF}. If {path} names another model than "
            "the one that they were trained on, correct base_model_name_or_path",
        )


def _differs_in_rows(reason: str) -> bool:
    """Check whether peft complains of an embedding or a head of the same width, but with other tokens."""
    sizes = [tuple(map(int, pair)) for pair in re.findall(r"torch\.Size\(\[(\d+), (\d+)\]\)", reason)]
    is_vocabulary = "size mismatch" in reason and any(name in reason for name in ("embed", "lm_head", "wte"))
    return is_vocabulary and len(sizes) == 2 and any(one == other for one, other in zip(*sizes, strict=True))
