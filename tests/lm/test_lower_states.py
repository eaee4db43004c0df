"""Remembered states of lower blocks: the divided network computes what the whole one does."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from sizewise.lm.adapt import add_lora, base_of
from sizewise.lm.classification_head import HeadedNetwork, HeadPlan, Labeled, steps_of_epoch
from sizewise.lm.hf_format import load_network
from sizewise.lm.loop import prepare
from sizewise.lm.lower_states import LowerStates, spans_of
from tests.conftest import make_tiny

PLAN = HeadPlan(epochs=2, batch=8)


@pytest.fixture(params=["full", "window:16", "pattern:SL:16"])
def headed(request: pytest.FixtureRequest, tmp_path: Path, text_folder: Path) -> HeadedNetwork:
    network = add_lora(load_network(make_tiny(tmp_path / "net", text_folder, request.param), "fp32"), 4, 0)
    prepare(network, compiled=False)
    with torch.no_grad():
        for name, one in network.named_parameters():
            if "lora_B" in name and ".layers.1." in name:
                one.normal_(0, 0.05, generator=torch.Generator().manual_seed(0))
    return HeadedNetwork(network, 3)


def labeled() -> Labeled:
    generator = np.random.default_rng(0)
    ids = [generator.integers(3, 90, int(size)).tolist() for size in generator.integers(2, 40, 30)]
    return Labeled([*ids, ids[0], ids[1]], np.eye(3)[generator.integers(0, 3, 32)])  # two texts stand twice


def gradients(headed: HeadedNetwork, rows: Any) -> dict[str, torch.Tensor]:
    headed.zero_grad()
    logits, _ = headed.packed_logits(rows)
    logits.square().sum().backward()
    found = {name: one.grad.clone() for name, one in headed.named_parameters() if one.grad is not None}
    return found | {"logits": logits.detach()}


@pytest.mark.parametrize("max_bytes", [1 << 20, 60_000, 0])
def test_states_and_gradients_are_those_of_the_whole_network(headed: HeadedNetwork, max_bytes: int) -> None:
    data = labeled()
    batches = [rows for epoch in (0, 1) for rows in steps_of_epoch(data, PLAN, epoch, 0)]
    whole = [gradients(headed, rows) for rows in batches]
    assert headed.adapt_from(1)
    headed.lower = LowerStates(headed.network, 1, max_bytes)
    headed.lower.remember(steps_of_epoch(data, PLAN, 0, 0))
    for rows, expected in zip(batches, whole, strict=True):
        found = gradients(headed, rows)
        assert not any(".layers.0." in name for name in found)
        assert any(".layers.1." in name for name in found)
        for name, value in found.items():
            assert torch.allclose(value, expected[name], rtol=1e-4, atol=1e-5), name
    kept = sum(one.numel() * 4 for one in headed.lower._states.values())
    assert kept <= max_bytes
    assert bool(kept) == (max_bytes > 0)
    blocks = base_of(headed.network).model.layers
    assert "forward" not in blocks[0].__dict__
    assert not any(block._forward_pre_hooks for block in blocks)


@pytest.mark.parametrize("headed", ["full"], indirect=True)
def test_lower_blocks_run_once_for_each_text(headed: HeadedNetwork) -> None:
    data, runs = labeled(), list[int]()
    batches = steps_of_epoch(data, PLAN, 0, 0)
    assert headed.adapt_from(1)
    assert headed.lower is not None
    headed.lower.remember(batches)
    plain = headed.lower._reached
    headed.lower._reached = lambda rows: runs.append(1) or plain(rows)  # type: ignore[method-assign, func-returns-value]
    for epoch in range(3):
        for rows in steps_of_epoch(data, PLAN, epoch, 0):
            headed.packed_logits(rows)
    assert len(runs) == len(batches)


@pytest.mark.parametrize("headed", ["full"], indirect=True)
def test_states_do_not_depend_on_which_row_came_first(headed: HeadedNetwork) -> None:
    data = labeled()
    first, second = LowerStates(headed.network, 1), LowerStates(headed.network, 1)
    for one in (first, second):
        one.remember(steps_of_epoch(data, PLAN, 0, 0))
    later = steps_of_epoch(data, PLAN, 1, 0)
    for rows in steps_of_epoch(data, PLAN, 0, 0):
        first.states(rows)
    assert all(torch.equal(first.states(rows), second.states(rows)) for rows in later)
    texts = [span.key for rows in later for span in spans_of(rows)]
    assert sorted(texts) == sorted(np.array(ids, np.int64).tobytes() for ids in data.ids)


@pytest.mark.parametrize("headed", ["full"], indirect=True)
def test_blocks_that_hand_over_more_than_states_are_not_divided(
    headed: HeadedNetwork, monkeypatch: pytest.MonkeyPatch
) -> None:
    below, above = base_of(headed.network).model.layers[:2]
    seen: list[torch.Tensor] = []
    below.register_forward_hook(lambda _block, _inputs, output: seen.append(output))
    plain = above.forward
    monkeypatch.setattr(above, "forward", lambda states, **named: plain(states + seen[-1].mean(), **named))
    assert LowerStates(headed.network, 1).agrees() is False
    assert headed.adapt_from(1) is False
    assert any(one.requires_grad for one in below.parameters())
    assert headed.adapt_from(0) is False
    assert headed.adapt_from(2) is False
