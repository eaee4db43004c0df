"""Models converted for openvino-genai are compared with the originals, and what fails falls back to transformers."""

from __future__ import annotations

import json
import os
import signal
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM

from sizewise.errors import EngineStopped, SizewiseError
from sizewise.lm import hf_format, stateful_graph
from sizewise.models import engine_process, open_model, openvino
from sizewise.models.local import LocalModel
from sizewise.models.openvino import Engine, OpenvinoModel
from sizewise.records import Message, Request
from sizewise.store import Store

LLAMA3 = {
    "rope_type": "llama3", "rope_theta": 500_000.0, "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
    "original_max_position_embeddings": 32,
}  # fmt: skip
LLAMA3_TEMPLATE = (
    "{{ bos_token }}{% for m in messages %}<|im_start|>{{ m['role'] }}\n\n{{ m['content'] | trim }}<|im_end|>"
    "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n\n{% endif %}"
)


def folder_of(tiny: Path, out: Path, kind: str, **settings: Any) -> Path:
    """Save a random network of an architecture with the tokenizer of a tiny folder."""
    tokenizer = hf_format.load_tokenizer(tiny)
    tokenizer.chat_template = LLAMA3_TEMPLATE
    usual = {
        "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2, "num_attention_heads": 4,
        "num_key_value_heads": 2, "max_position_embeddings": 2048, "initializer_range": 0.3, "bos_token_id": 0,
        "eos_token_id": 2, "pad_token_id": 0,
    }  # fmt: skip
    torch.manual_seed(0)
    config = AutoConfig.for_model(kind, vocab_size=len(tokenizer), **(usual | settings))
    hf_format.save_model(AutoModelForCausalLM.from_config(config), tokenizer, out)
    return out


def test_llama3_is_served_by_openvino_with_its_own_positions(tiny_folder: Path, tmp_path: Path, store: Store) -> None:
    folder = folder_of(tiny_folder, tmp_path / "llama3", "llama", rope_parameters=LLAMA3)
    said: list[str] = []
    fast = open_model(str(folder), store=store, precision="fp32", engine="auto", say=said.append)
    assert isinstance(fast, OpenvinoModel), said
    slow = open_model(str(folder), store=store, precision="fp32")
    text = "The river runs past the old mill and under the bridge. " * 12
    (one,), (other,) = list(fast.score([text])), list(slow.score([text]))
    assert len(one.nats) > 100
    assert abs(one.nats.mean() - other.nats.mean()) < 0.005 * other.nats.mean()
    assert float(np.median(np.abs(one.nats - other.nats))) < 0.02
    request = Request(id="a", messages=(Message(role="user", content="What runs past the mill?"),), max_tokens=12)
    assert [answer.text for answer in fast.complete([request])] == [answer.text for answer in slow.complete([request])]
    fast.close()
    slow.close()
    said.clear()
    open_model(str(folder), store=store, precision="fp32", engine="auto", say=said.append).close()
    assert said == []  # converted and compared once


def test_an_engine_that_was_killed_is_tried_again(
    tiny_folder: Path, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    submit = Engine.submit

    def killed(self: Engine, *arguments: Any) -> None:
        submit(self, *arguments)
        with suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGKILL)

    monkeypatch.setattr(Engine, "submit", killed)
    said: list[str] = []
    open_model(str(tiny_folder), store=store, precision="fp32", engine="auto", say=said.append).close()
    assert "because openvino-genai can't run it" in said[-1]
    assert "try the conversion again" not in said[-1]
    assert not list(store.home.glob("weights/*.refused"))
    monkeypatch.undo()
    model = open_model(str(tiny_folder), store=store, precision="fp32", engine="auto", say=said.append)
    assert isinstance(model, OpenvinoModel), said
    model.close()


@pytest.mark.parametrize(("end", "kind"), [("kill -9 $$", EngineStopped), ("echo why >&2; exit 1", SizewiseError)])
def test_a_process_that_is_killed_at_its_start_says_nothing_about_the_model(end: str, kind: type[Exception]) -> None:
    with pytest.raises(SizewiseError) as refused:
        engine_process.Engine("fast", ["sh", "-c", end], SizewiseError("can't open it", "", ""))
    assert type(refused.value) is kind


def test_a_conversion_that_differs_falls_back(tiny_folder: Path, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    right = stateful_graph._packed

    def wrong(values: Any, weights: str) -> Any:
        return right(np.roll(values, 1, axis=0), weights)

    monkeypatch.setattr(stateful_graph, "_packed", wrong)
    said: list[str] = []
    model = open_model(str(tiny_folder), store=store, precision="fp32", engine="auto", say=said.append)
    assert isinstance(model, LocalModel)
    model.close()
    assert "runs with transformers because" in said[-1]
    assert "its outputs in fp32 differ" in said[-1]
    assert "to try the conversion again, remove" in said[-1]
    monkeypatch.setattr(openvino, "convert_network", None)  # it isn't tried again
    with pytest.raises(SizewiseError, match="outputs in fp32 differ"):
        open_model(str(tiny_folder), store=store, precision="fp32", engine="openvino")


@pytest.mark.parametrize(
    ("kind", "settings", "reason"),
    [
        ("mistral", {"sliding_window": 32}, "don't all attend to the whole text"),
        ("mixtral", {"num_local_experts": 4}, "mixture of experts"),
        ("llama", {"rope_parameters": {"rope_type": "dynamic", "rope_theta": 1e4, "factor": 2.0}}, "'dynamic' depend"),
    ],
)
def test_what_the_graph_would_compute_wrongly_is_refused(kind: str, settings: dict[str, Any], reason: str) -> None:
    config = AutoConfig.for_model(kind, hidden_size=64, num_attention_heads=4, max_position_embeddings=512, **settings)
    with pytest.raises(SizewiseError, match=reason):
        stateful_graph.check_convertible(config)


@pytest.mark.parametrize("kind", ["granite", "qwen3", "cohere", "olmo2"])
def test_other_architectures_are_converted(kind: str, tiny_folder: Path, tmp_path: Path, store: Store) -> None:
    settings = {"head_dim": 32} if kind == "qwen3" else {}
    folder = folder_of(tiny_folder, tmp_path / kind, kind, initializer_range=0.05, **settings)
    network, tokenizer = hf_format.load_network(folder, "fp32"), hf_format.load_tokenizer(folder)
    openvino.convert_network(network, tokenizer, tmp_path / "made")
    engine = Engine(tmp_path / "made", "fp32")
    ids = torch.randint(3, len(tokenizer), (120,), generator=torch.Generator().manual_seed(1))
    try:
        (found,) = engine.nats([ids.tolist()])
    finally:
        engine.close()
    with torch.no_grad():
        scores = network(ids[None]).logits[0, :-1].log_softmax(-1)
    expected = -scores.gather(1, ids[1:, None])[:, 0].double().numpy()
    np.testing.assert_allclose(found, expected, atol=0.02)


def test_a_service_keeps_prefixes_and_still_scores(tiny_folder: Path, store: Store) -> None:
    plain = open_model(str(tiny_folder), store=store, precision="fp32", engine="openvino")
    kept = open_model(str(tiny_folder), store=store, precision="fp32", engine="openvino", keep_prefixes=True)
    assert isinstance(kept, OpenvinoModel)
    text = "The river runs past the old mill and under the bridge of stone. " * 4
    requests = [Request(id=str(i), text=text, max_tokens=8) for i in range(2)]
    for _ in range(2):
        answers = [[(answer.text, answer.finish) for answer in model.complete(requests)] for model in (plain, kept)]
        assert answers[0] == answers[1]
        (one,), (other,) = plain.score([text]), kept.score([text])
        np.testing.assert_allclose(one.nats, other.nats, atol=2e-4)
    plain.close()
    kept.close()


def test_the_cache_fits_the_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from sizewise.models import engine_process
    from sizewise.models.openvino import engine

    config = {
        "model_type": "llama", "hidden_size": 4096, "num_hidden_layers": 32, "num_attention_heads": 32,
        "num_key_value_heads": 8, "head_dim": 128, "max_position_embeddings": 131_072, "vocab_size": 128_256,
    }  # fmt: skip
    (tmp_path / "config.json").write_text(json.dumps(config), encoding="utf-8")
    token = 32 * 8 * 128 * 2 * 2
    for memory, expected in ((4, 2**30), (64, 16 * 2**30), (1024, 4 * 131_072 * token)):
        monkeypatch.setattr(engine_process, "machine_bytes", lambda memory=memory: memory * 2**30)
        assert engine.cache_size(tmp_path, "bf16") == expected // token
