"""Checks of loaded weights: that all of a file's weights have a place, and that they are usable numbers."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open

from sizewise.errors import SizewiseError
from sizewise.lm.weight_files import weight_files

_BLOCK = re.compile(r"^(?P<blocks>.+?)\.(?P<number>\d+)\.")


PACKED = ("I", "U", "F8", "F4")
"""How the types of quantized weights begin in safetensors: integers, and floating point of 8 or 4 bits."""


def check_not_packed(folder: Path, config: Any) -> None:
    """Check that no weights are quantized without a config that says how; transformers would take them as numbers.

    Raises:
        SizewiseError: some weights are integers, or floating point of 8 or 4 bits.
    """
    if getattr(config, "quantization_config", None):
        return
    for path in weight_files(folder):
        try:
            with safe_open(path, "pt") as file:
                parts = {name: file.get_slice(name) for name in file.keys() if name.endswith("weight")}  # noqa: SIM118
                packed = [name for name, part in parts.items() if len(part.get_shape()) > 1 and _is_packed(part)]
        except (SafetensorError, OSError):
            return  # loading it gives a better error
        if packed:
            kind = parts[packed[0]].get_dtype()
            raise SizewiseError(
                f"{len(packed)} weights in {path} are quantized, for example {packed[0]} ({kind}), and config.json has "
                "no quantization_config that says how.",
                "weights in bf16, fp16 or fp32",
                "use the repository with the original weights, or a GGUF file: gguf:FILE",
            )


def _is_packed(part: Any) -> bool:
    return str(part.get_dtype()).startswith(PACKED)


def check_all_used(network: Any, unexpected: Iterable[str], folder: Path) -> None:
    """Check that the config has a place for all weights of its blocks, heads and embeddings.

    transformers skips weights that it has no place for. Parts of other networks, such as vision towers, heads of other
    tasks and blocks that predict several tokens, may be skipped; biases, scales and further blocks may not.

    Args:
        network: the loaded network.
        unexpected: names of the weights that were skipped.
        folder: its folder.

    Raises:
        SizewiseError: a skipped weight belongs to a part of the network, or to a block that it should have.
    """
    modules = dict(network.named_modules())
    predicting = int(getattr(network.config.get_text_config(), "num_nextn_predict_layers", None) or 0)
    lost = sorted(name for name in unexpected if _has_place(name, modules, predicting))
    if lost:
        raise SizewiseError(
            f"The config in {folder} has no place for {len(lost)} of the weights, for example {lost[0]}. Without them, "
            "the network would compute something else.",
            "a config.json that belongs to the weights",
            "download the model again, or correct its config.json",
        )


def _has_place(name: str, modules: dict[str, Any], predicting: int) -> bool:
    owner = modules.get(name.rpartition(".")[0])
    if owner is not None and isinstance(getattr(owner, "weight", None), torch.Tensor):
        return True  # a bias or a scale of a layer
    block = _BLOCK.match(name)
    blocks = modules.get(block["blocks"]) if block else None
    return isinstance(blocks, torch.nn.ModuleList) and int(block["number"]) >= len(blocks) + predicting  # type: ignore[index]


@torch.no_grad()
def check_numbers(network: Any, source: Path) -> None:
    """Check that no weight is infinite or not a number, and that no block and no embedding is all zeros.

    Zeros stand where a download was interrupted after its space was reserved.

    Args:
        network: a network; weights packed into 4 bits are left out.
        source: folder of its weights, for the error.

    Raises:
        SizewiseError: some weights are unusable.
    """
    named = [
        (name, weight)
        for name, weight in network.named_parameters()
        if weight.is_floating_point() and weight.itemsize > 1 and weight.numel() and weight.device.type != "meta"
    ]
    if not named:
        return
    device = named[0][1].device
    bounds = torch.stack([torch.stack(torch.aminmax(weight)).float().to(device) for _, weight in named])
    broken = [name for (name, _), finite in zip(named, bounds.isfinite().all(1).tolist(), strict=True) if not finite]
    if broken:
        raise _unusable(
            source, f"{len(broken)} of {len(named)} weight tensors have values that are NaN or infinite", broken
        )
    tables = {id(layer.weight) for layer in (network.get_input_embeddings(), network.get_output_embeddings()) if layer}
    zero = bounds.abs().amax(1).eq(0).tolist()
    parts: dict[str, bool] = {}
    for (name, weight), is_zero in zip(named, zero, strict=True):
        block = _BLOCK.match(name)
        if weight.dim() > 1 and (block or id(weight) in tables):
            part = block[0].rstrip(".") if block else name
            parts[part] = parts.get(part, True) and is_zero
    empty = [part for part, is_zero in parts.items() if is_zero]
    if empty:
        raise _unusable(source, f"{len(empty)} of {len(parts)} blocks and embeddings are all zeros", empty)


def _unusable(source: Path, what: str, names: Sequence[str]) -> SizewiseError:
    return SizewiseError(
        f"The weights in {source} can't be used: {what}, for example {names[0]}.",
        "weights of a finished training and a complete download",
        "download the model again; if it was trained, use an earlier checkpoint",
    )
