"""Architectures that our tests do not cover are checked when they are opened, and refused where they disagree."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, LlamaForCausalLM
from transformers.models.auto.configuration_auto import CONFIG_MAPPING

from sizewise.errors import SizewiseError
from sizewise.lm import checking, loop
from sizewise.lm.checking import VERIFIED, check_network
from sizewise.lm.hf_format import load_network
from tests.lm.test_architectures import COMMON, MAKE, MIXED, make

EXPERTS = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 32}
LINEAR = {"linear_num_key_heads": 2, "linear_num_value_heads": 4, "linear_key_head_dim": 8, "linear_value_head_dim": 8}
MAMBA = {"mamba_n_heads": 12, "mamba_d_head": 8, "mamba_d_state": 8, "mamba_n_groups": 1}
RIGHT: dict[str, dict[str, Any]] = {
    "gpt2": {},
    "hyperclovax": {"logits_scaling": 0.5},
    "mixtral": {"num_local_experts": 4},
    "olmo3": {"sliding_window": 12, "layer_types": MIXED},
    "qwen3_moe": EXPERTS,
}
SERVED_ONLY: dict[str, dict[str, Any]] = {
    "bamba": MAMBA | {"attn_layer_indices": [3]},
    "gpt_oss": {"num_local_experts": 4, "num_experts_per_tok": 2, "sliding_window": 12},
    "qwen3_next": EXPERTS | LINEAR | {"shared_expert_intermediate_size": 32},
}


def other(kind: str, **settings: Any) -> Any:
    torch.manual_seed(5)
    network = AutoModelForCausalLM.from_config(CONFIG_MAPPING[kind](**(COMMON | settings)))
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    return network.eval()


def test_what_is_taken_for_right_is_tested() -> None:
    assert set(VERIFIED) <= {make(name).config.model_type for name in MAKE}


@pytest.mark.parametrize("name", MAKE)
def test_verified_architectures_pass_the_check(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checking, "VERIFIED", ())
    network = make(name)
    windows = [getattr(one, "sliding_window", None) for one in (network.config, *network.modules())]
    check_network(network)
    loop.prepare(network, compiled=False)
    assert [getattr(one, "sliding_window", None) for one in (network.config, *network.modules())] == windows


@pytest.mark.parametrize("kind", RIGHT)
def test_others_that_agree_are_opened_and_trained(kind: str) -> None:
    network = other(kind, **RIGHT[kind])
    check_network(network)
    loop.prepare(network, compiled=False)
    assert network.training
    loop.finish(network)
    assert network.config._attn_implementation in ("sdpa", "eager")


@pytest.mark.parametrize("kind", SERVED_ONLY)
def test_what_runs_from_text_to_text_is_not_trained(kind: str) -> None:
    """States of linear attention run on, and our attention knows no sinks."""
    network = other(kind, **SERVED_ONLY[kind])
    was = network.config._attn_implementation
    check_network(network)
    with pytest.raises(SizewiseError, match=r"leaks from one text|s_aux"):
        loop.prepare(network, compiled=False)
    assert network.config._attn_implementation == was
    check_network(network)


@pytest.mark.parametrize("kind", ["bamba", "qwen3_next"])
def test_a_state_that_runs_on_shows_in_numbers_too(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    network = other(kind, **SERVED_ONLY[kind])
    kinds = set(network.config.layer_types)
    monkeypatch.setattr(checking, "PACKED_KINDS", (*checking.PACKED_KINDS, *kinds))
    with pytest.raises(SizewiseError, match="nats per token"):
        loop.prepare(network, compiled=False)


@pytest.mark.parametrize("precision", [torch.float32, torch.bfloat16])
def test_an_architecture_with_a_head_of_its_own_is_refused(
    precision: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    network = other("olmo2").to(precision)
    forward = type(network).forward

    def colder(self: Any, *args: Any, **named: Any) -> Any:
        found = forward(self, *args, **named)
        found.logits = found.logits * 0.5
        return found

    check_network(network)
    monkeypatch.setattr(type(network), "forward", colder)
    with pytest.raises(SizewiseError, match="produces scores that differ") as refused:
        check_network(network)
    assert "olmo2" in refused.value.what
    assert refused.value.expected
    assert refused.value.next_step


def test_an_architecture_with_a_cache_of_its_own_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    network = other("olmo2")
    decoder = type(network.model)
    forward = decoder.forward

    def forgetful(self: Any, *args: Any, **named: Any) -> Any:
        if named.get("use_cache"):
            named["past_key_values"] = None
        return forward(self, *args, **named)

    monkeypatch.setattr(decoder, "forward", forgetful)
    with pytest.raises(SizewiseError, match=r"produces answers that differ|can't be run here"):
        check_network(network)


def test_soft_capping_is_refused_when_a_model_is_opened(tmp_path: Path) -> None:
    other("gemma2", query_pre_attn_scalar=8).save_pretrained(tmp_path)
    with pytest.raises(SizewiseError, match="after the head"):
        load_network(tmp_path, "fp32")


def test_a_broken_architecture_is_refused_when_it_is_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make("llama").save_pretrained(tmp_path)
    load_network(tmp_path, "fp32")
    monkeypatch.setattr(checking, "VERIFIED", ())
    forward = LlamaForCausalLM.forward
    monkeypatch.setattr(LlamaForCausalLM, "forward", lambda *a, **k: _shifted(forward(*a, **k)))
    with pytest.raises(SizewiseError, match="differ from transformers"):
        load_network(tmp_path, "fp32")


def _shifted(found: Any) -> Any:
    found.logits = found.logits.roll(1, dims=-1)
    return found


def test_of_large_networks_the_verdict_is_kept(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checking, "LARGE", 0)
    network = other("olmo2")
    check_network(network)
    assert len(list((home / "checked").iterdir())) == 1
    monkeypatch.setattr(checking, "_reference", lambda *_: pytest.fail("it was checked again"))
    check_network(network)
