"""The layer with its adapter in one step, against peft's own."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import pytest
import torch

from sizewise.lm import fused_lora
from sizewise.lm.adapt import add_lora
from sizewise.lm.hf_format import load_network


def adapted(folder: Path, dora: bool = False) -> Any:
    network = add_lora(load_network(folder, "fp32"), rank=4, seed=1, dora=dora)
    with torch.no_grad():  # adapters begin as no change, which would hide a wrong gradient
        for name, parameter in network.named_parameters():
            if "lora_B" in name:
                parameter.normal_(std=0.1, generator=torch.Generator().manual_seed(len(name)))
    return network


def run(network: Any, ids: torch.Tensor) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    loss = network(input_ids=ids, labels=ids).loss
    loss.backward()
    gradients = {n: p.grad.clone() for n, p in network.named_parameters() if p.grad is not None}
    network.zero_grad()
    return loss.detach(), gradients


def test_equals_peft_forward_and_back(tiny_folder: Path) -> None:
    network = adapted(tiny_folder)
    ids = torch.randint(0, 300, (2, 40), generator=torch.Generator().manual_seed(0))
    loss, gradients = run(network, ids)
    fused_lora.fuse_adapters(network)
    assert any("forward" in vars(layer) for layer in network.modules())
    fused_loss, fused = run(network, ids)
    assert float(fused_loss) == pytest.approx(float(loss), abs=1e-6)
    assert fused.keys() == gradients.keys()
    for name, gradient in gradients.items():
        assert torch.allclose(fused[name], gradient, atol=1e-6), name
    fused_lora.unfuse_adapters(network)
    assert not any("forward" in vars(layer) for layer in network.modules())


def test_dora_is_left_to_peft(tiny_folder: Path) -> None:
    network = adapted(tiny_folder, dora=True)
    fused_lora.fuse_adapters(network)
    assert not any("forward" in vars(layer) for layer in network.modules())


def test_the_operation_obeys_autograd() -> None:
    x, weight = torch.randn(3, 5, dtype=torch.float64, requires_grad=True), torch.randn(7, 5, dtype=torch.float64)
    down = torch.randn(2, 5, dtype=torch.float64, requires_grad=True)
    up = torch.randn(7, 2, dtype=torch.float64, requires_grad=True)
    torch.library.opcheck(fused_lora._adapted, (x, weight, None, down, up, 2.0))
    assert torch.autograd.gradcheck(
        lambda *some: fused_lora._adapted(some[0], weight, None, *some[1:], 2.0)[0], (x, down, up)
    )


@pytest.mark.parametrize(("kind", "adapted"), [("falcon", "dense_h_to_4h"), ("llama4_text", "q_proj")])
def test_an_architectures_own_linear_layers_get_adapters_unless_they_return_more(
    kind: str, adapted: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(Path(__file__).parents[2])
    network = add_lora(importlib.import_module("benchmarks.tiny_networks").tiny_network(kind, "text"), rank=4, seed=1)
    layers = {name.rpartition(".lora_A")[0].rpartition(".")[2] for name in network.state_dict() if ".lora_A" in name}
    assert adapted in layers
    assert "router" not in layers
    assert "lm_head" not in layers
