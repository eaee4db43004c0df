"""Weights that a config has no place for, and weights that are no usable numbers, are refused."""

from __future__ import annotations

import json
import resource
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from sizewise.errors import SizewiseError
from sizewise.lm.adapt import add_lora, save_adapters
from sizewise.lm.hf_format import load_network, load_tokenizer, save_model

Weights = dict[str, torch.Tensor]
QUERY, DOWN = "model.layers.0.self_attn.q_proj", "model.layers.1.mlp.down_proj.weight"


def another_block(weights: Weights) -> None:
    weights |= {name.replace("layers.1.", "layers.2."): value.clone() for name, value in weights.items()}


def bias(weights: Weights) -> None:
    weights[f"{QUERY}.bias"] = torch.ones(len(weights[f"{QUERY}.weight"]))


def scale(weights: Weights) -> None:
    weights[f"{QUERY}.weight_scale"] = torch.ones(1)


def no_number(weights: Weights) -> None:
    weights[DOWN][3, 3] = float("nan")


def infinite(weights: Weights) -> None:
    weights["model.embed_tokens.weight"][50, 0] = float("inf")


def interrupted(weights: Weights) -> None:
    for name, value in weights.items():
        if ".layers.1." in name:
            value.zero_()


def harmless(weights: Weights) -> None:
    weights["v_head.summary.weight"] = weights["score.weight"] = torch.ones(1, 64)
    weights["model.layers.0.self_attn.rotary_emb.inv_freq"] = torch.ones(8)
    weights["lm_head.weight"] = weights["model.embed_tokens.weight"].clone()
    weights["vision_tower.layers.7.fc.weight"] = torch.ones(4, 4)


def change(folder: Path, edit: Callable[[Weights], None]) -> None:
    weights = load_file(folder / "model.safetensors")
    edit(weights)
    save_file({name: value.clone() for name, value in weights.items()}, folder / "model.safetensors", {"format": "pt"})


@pytest.mark.parametrize(
    ("edit", "said"),
    [
        (another_block, r"no place for \d+ of the weights, for example model.layers.2"),
        (bias, "no place for 1 of the weights, for example .*q_proj.bias"),
        (scale, "q_proj.weight_scale"),
        (no_number, "NaN or infinite, for example model.layers.1.mlp.down_proj.weight"),
        (infinite, "NaN or infinite, for example model.embed_tokens.weight"),
        (interrupted, "1 of 3 blocks and embeddings are all zeros, for example model.layers.1"),
    ],
)
def test_unusable_weights_are_refused(edit: Callable[[Weights], None], said: str, tiny_folder: Path) -> None:
    change(tiny_folder, edit)
    with pytest.raises(SizewiseError, match=said) as refused:
        load_network(tiny_folder, "fp32")
    assert refused.value.next_step


def test_weights_of_other_parts_are_skipped(tiny_folder: Path) -> None:
    before = load_network(tiny_folder, "fp32").state_dict()
    change(tiny_folder, harmless)
    after = load_network(tiny_folder, "fp32").state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ({"num_key_value_heads": 4}, "does not match its weights: 4 of them are missing or have another shape"),
        ({"num_attention_heads": "4"}, "expected int, got str"),
        ({"hidden_act": "sillu"}, "KeyError: 'sillu'"),
    ],
)
def test_a_wrong_setting_is_named(setting: dict[str, object], said: str, tiny_folder: Path) -> None:
    path = tiny_folder / "config.json"
    config = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps(config | setting), encoding="utf-8")
    with pytest.raises(SizewiseError, match=said):
        load_network(tiny_folder, "fp32")


def test_a_full_disk_is_told_where_weights_are_saved(tiny_folder: Path, tmp_path: Path) -> None:
    network, tokenizer = load_network(tiny_folder, "fp32"), load_tokenizer(tiny_folder)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, limits[1]))  # as if no more fitted on the disk
    try:
        with pytest.raises(SizewiseError, match="can't be written") as model:
            save_model(network, tokenizer, tmp_path / "model")
        with pytest.raises(SizewiseError, match="can't be written"):
            save_adapters(add_lora(network, 8, seed=1), tmp_path / "adapter")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert "free disk space" in model.value.next_step
    assert [path.name for path in tmp_path.iterdir() if "model" in path.name] == []
