"""Networks that our tests do not cover are checked when they are opened, and run so that the numbers are their own."""

from __future__ import annotations

import copy
import importlib
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, LlamaForCausalLM
from transformers.models.auto.configuration_auto import CONFIG_MAPPING

from sizewise.errors import SizewiseError
from sizewise.lm import checking, execution, loop
from sizewise.lm.checking import VERIFIED, check_network
from sizewise.lm.embed import embed_ids
from sizewise.lm.execution import execution_of
from sizewise.lm.generate import run_batch
from sizewise.lm.hf_format import load_network
from sizewise.lm.packing import Unit, pack
from sizewise.lm.score import score_ids
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
ONE_BY_ONE: dict[str, dict[str, Any]] = {
    "bamba": MAMBA | {"attn_layer_indices": [3]},
    "gemma2": {"query_pre_attn_scalar": 8, "sliding_window": 12},
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


@pytest.mark.parametrize("kind", ONE_BY_ONE)
def test_texts_that_would_influence_each_other_are_trained_one_at_a_time(kind: str) -> None:
    """States of linear attention run on, and our attention knows no sinks and no soft-capping."""
    network = other(kind, **ONE_BY_ONE[kind])
    was = network.config._attn_implementation
    check_network(network)
    plain = copy.deepcopy(network)
    texts = [list(range(3, 3 + length)) for length in (40, 12, 30, 29)]
    logits = [torch.log_softmax(plain(input_ids=torch.tensor([ids])).logits[0, :-1], -1) for ids in texts]
    nats = torch.cat([-row.gather(1, torch.tensor(ids[1:])[:, None]) for row, ids in zip(logits, texts, strict=True)])
    nats.mean().backward()
    loop.prepare(network, compiled=False)
    assert execution_of(network).rows == "separate"
    assert network.config._attn_implementation == was
    assert any("one text at a time" in note for note in execution_of(network).notes())
    loss = loop.loss_of(network, pack([Unit(ids, 1) for ids in texts], 64, 0).all())
    loss.backward()
    assert float(loss.detach()) == pytest.approx(float(nats.mean().detach()), abs=1e-5)
    for (name, one), (_, two) in zip(network.named_parameters(), plain.named_parameters(), strict=True):
        if two.grad is not None and two.grad.any():
            assert one.grad is not None, name
            assert torch.allclose(one.grad, two.grad, atol=1e-4), name
    loop.finish(network)
    check_network(network)


@pytest.mark.parametrize("kind", ["bamba", "qwen3_next"])
def test_a_state_that_runs_on_shows_in_numbers_too(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    network = other(kind, **ONE_BY_ONE[kind])
    kinds = set(network.config.layer_types)
    monkeypatch.setattr(checking, "PACKED_KINDS", (*checking.PACKED_KINDS, *kinds))
    loop.prepare(network, compiled=False)
    assert execution_of(network).rows == "separate"


@pytest.mark.parametrize("precision", [torch.float32, torch.bfloat16])
def test_a_network_with_a_head_of_its_own_runs_in_its_own_forward_pass(
    precision: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    network = other("olmo2").to(precision)
    forward = type(network).forward

    def colder(self: Any, *args: Any, **named: Any) -> Any:
        found = forward(self, *args, **named)
        found.logits = found.logits * 0.5
        return found

    check_network(network)
    assert execution_of(network).logits == "head"
    monkeypatch.setattr(type(network), "forward", colder)
    check_network(network)
    assert execution_of(network).logits == "model"
    ids = list(range(3, 40))
    with torch.no_grad():
        expected = torch.log_softmax(network(torch.tensor([ids])).logits[0, :-1].float(), -1)
    (nats,) = score_ids(network, [ids], 64)
    assert nats == pytest.approx(-expected.gather(1, torch.tensor(ids[1:])[:, None])[:, 0].numpy(), abs=1e-4)
    (states,) = embed_ids(network, [ids])
    assert states.shape == (48,)


def test_a_network_with_a_cache_of_its_own_answers_without_one(monkeypatch: pytest.MonkeyPatch) -> None:
    network = other("olmo2")
    decoder = type(network.model)
    forward = decoder.forward

    def forgetful(self: Any, *args: Any, **named: Any) -> Any:
        if named.get("use_cache"):
            named["past_key_values"] = None
        return forward(self, *args, **named)

    monkeypatch.setattr(decoder, "forward", forgetful)
    check_network(network)
    assert execution_of(network).answers == "uncached"
    assert any("without a cache" in note for note in execution_of(network).notes())


def test_prompts_that_cannot_share_a_batch_are_answered_one_by_one() -> None:
    """With the network's own cache and greedy search, whatever its generation config says."""
    network = other("olmo2")
    network.generation_config.repetition_penalty = 5.0
    prompts = [list(range(3, 30)), list(range(40, 50))]

    def write() -> list[list[int]]:
        return run_batch(
            network,
            SimpleNamespace(pad_token_id=0),
            prompts,
            lambda member, new: len(new) >= 6 - member,
            lambda states, head, _: head.logits(states).argmax(-1),
        )

    expected = write()
    assert [len(tokens) for tokens in expected] == [6, 5]
    for answers in ("single", "uncached"):
        execution_of(network).answers = answers
        assert write() == expected
    assert network.generation_config.repetition_penalty == 5.0


def test_a_network_that_sees_later_tokens_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make("llama").save_pretrained(tmp_path)
    load_network(tmp_path, "fp32")
    monkeypatch.setattr(checking, "VERIFIED", ())
    forward = LlamaForCausalLM.forward

    def foresighted(*args: Any, **named: Any) -> Any:
        found = forward(*args, **named)
        found.logits = found.logits + found.logits.mean(1, keepdim=True)
        return found

    monkeypatch.setattr(LlamaForCausalLM, "forward", foresighted)
    with pytest.raises(SizewiseError, match=r"isn't causal: the scores of tokens change by") as refused:
        load_network(tmp_path, "fp32")
    assert "llama" in refused.value.what
    assert refused.value.expected
    assert refused.value.next_step


def test_a_network_that_fails_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make("llama").save_pretrained(tmp_path)
    monkeypatch.setattr(checking, "VERIFIED", ())
    monkeypatch.setattr(LlamaForCausalLM, "forward", lambda *a, **k: 1 / 0)
    with pytest.raises(SizewiseError, match=r"can't be run here: ZeroDivisionError"):
        load_network(tmp_path, "fp32")


def test_soft_capped_logits_are_ours(tmp_path: Path) -> None:
    other("gemma2", query_pre_attn_scalar=8, final_logit_softcapping=0.5).save_pretrained(tmp_path)
    network = load_network(tmp_path, "fp32")
    assert execution_of(network).logits == "head"
    assert execution_of(network).head.cap == 0.5


def test_a_soft_cap_that_small_logits_hardly_show_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    other("gemma2", query_pre_attn_scalar=8, final_logit_softcapping=30.0).save_pretrained(tmp_path)
    assert execution_of(load_network(tmp_path, "fp32")).logits == "head"
    monkeypatch.setattr(execution, "_CAPS", ())  # as if the setting had a name that isn't known here
    network = load_network(tmp_path, "fp32")
    assert execution_of(network).logits == "model"
    ids = list(range(3, 40))
    with torch.no_grad():
        expected = torch.log_softmax(network(torch.tensor([ids])).logits[0, :-1].double(), -1)
    nats = -expected.gather(1, torch.tensor(ids[1:])[:, None])[:, 0].numpy()
    assert score_ids(network, [ids], 64)[0] == pytest.approx(nats, abs=1e-5)


@pytest.mark.parametrize("kind", ["recurrent_gemma", "xlstm"])
def test_caps_of_other_names_are_ours(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(Path(__file__).parents[2])
    network = importlib.import_module("benchmarks.tiny_networks").tiny_network(kind, "text")
    check_network(network)
    assert execution_of(network).logits == "head"
    assert execution_of(network).head.cap == 30.0


def test_the_result_for_large_networks_is_remembered(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checking, "LARGE", 0)
    network = other("mamba", state_size=8, time_step_rank=4)
    check_network(network)
    found = execution_of(network)
    assert found.answers == "single"
    assert len(list((home / "checked").iterdir())) == 1
    monkeypatch.setattr(checking, "_reference", lambda *_: pytest.fail("it was checked again"))
    again = other("mamba", state_size=8, time_step_rank=4)
    check_network(again)
    assert execution_of(again) == found
