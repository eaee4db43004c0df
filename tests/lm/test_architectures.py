"""Every architecture in our packed rows and in our scoring, against transformers' own logits in fp32."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from transformers import (
    Cohere2Config,
    Cohere2ForCausalLM,
    CohereConfig,
    CohereForCausalLM,
    Gemma2Config,
    Gemma2ForCausalLM,
    Gemma3ForCausalLM,
    Gemma3TextConfig,
    GraniteConfig,
    GraniteForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    MinistralConfig,
    MinistralForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    Phi3Config,
    Phi3ForCausalLM,
    PhiConfig,
    PhiForCausalLM,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
)

from sizewise.errors import UsageError
from sizewise.lm import loop
from sizewise.lm.architecture import with_attention
from sizewise.lm.execution import execution_of
from sizewise.lm.generate import Wanted, generate_together
from sizewise.lm.packing import Unit, pack
from sizewise.lm.score import score_ids
from sizewise.models.size import cache_bytes

VOCABULARY = 97
COMMON: dict[str, Any] = {
    "vocab_size": VOCABULARY,
    "hidden_size": 48,
    "intermediate_size": 64,
    "num_hidden_layers": 4,
    "num_attention_heads": 6,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "max_position_embeddings": 256,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
MIXED = ["sliding_attention", "sliding_attention", "sliding_attention", "full_attention"]
MAKE = {
    "llama": lambda: LlamaForCausalLM(LlamaConfig(**COMMON)),
    "mistral": lambda: MistralForCausalLM(MistralConfig(**COMMON, sliding_window=12)),
    "ministral": lambda: MinistralForCausalLM(MinistralConfig(**COMMON, sliding_window=12, layer_types=MIXED)),
    "qwen2": lambda: Qwen2ForCausalLM(Qwen2Config(**COMMON, use_sliding_window=False)),
    "qwen2 mixed": lambda: Qwen2ForCausalLM(
        Qwen2Config(**COMMON, use_sliding_window=True, sliding_window=12, layer_types=MIXED)
    ),
    "qwen3": lambda: Qwen3ForCausalLM(Qwen3Config(**COMMON)),
    "granite": lambda: GraniteForCausalLM(
        GraniteConfig(
            **COMMON, embedding_multiplier=6.0, logits_scaling=4.0, residual_multiplier=0.4, attention_multiplier=0.2
        )
    ),
    "phi3": lambda: Phi3ForCausalLM(Phi3Config(**COMMON, sliding_window=12)),
    "phi4 mini": lambda: Phi3ForCausalLM(
        Phi3Config(
            **COMMON,
            tie_word_embeddings=True,
            rope_parameters={"rope_type": "default", "rope_theta": 10_000.0, "partial_rotary_factor": 0.75},
        )
    ),
    "cohere": lambda: CohereForCausalLM(CohereConfig(**COMMON, logit_scale=0.25)),
    "cohere2": lambda: Cohere2ForCausalLM(
        Cohere2Config(**COMMON, logit_scale=0.25, sliding_window=12, layer_types=MIXED)
    ),
    "phi": lambda: PhiForCausalLM(PhiConfig(**COMMON)),  # Phi-1 and Phi-2 add a bias to their logits
    "gemma2": lambda: Gemma2ForCausalLM(  # caps its logits, and its attention, so it can't be packed
        Gemma2Config(**COMMON, sliding_window=12, layer_types=MIXED, query_pre_attn_scalar=8)
    ),
    "gemma3": lambda: Gemma3ForCausalLM(
        Gemma3TextConfig(**COMMON, sliding_window=12, layer_types=MIXED, query_pre_attn_scalar=8)
    ),
}


def make(name: str) -> Any:
    torch.manual_seed(5)
    network = MAKE[name]()
    with torch.no_grad():
        for parameter in network.parameters():  # random biases and norms too, or a forgotten one would not show
            parameter.add_(0.05 * torch.randn_like(parameter))
    return network.eval()


def plain_nats(network: Any, ids: list[int]) -> torch.Tensor:
    with torch.no_grad():
        logits = network(torch.tensor([ids])).logits[0, :-1].double()
    return -torch.log_softmax(logits, -1).gather(1, torch.tensor(ids[1:])[:, None])[:, 0]


def sequences() -> list[list[int]]:
    generator = np.random.default_rng(3)
    return [generator.integers(3, VOCABULARY, length).tolist() for length in (70, 41, 17, 60)]


@pytest.mark.parametrize("name", MAKE)
def test_logits_in_packed_rows_equal_transformers(name: str) -> None:
    network = make(name)
    with torch.no_grad():
        plain = [network(torch.tensor([ids])).logits[0] for ids in sequences()]
    rows = pack([Unit(ids, 1) for ids in sequences()], 128, 0).all()
    loop.prepare(network, compiled=False)
    network.eval()
    with torch.no_grad():
        logits = execution_of(network).head.logits(loop.hidden_of(network, rows))
    loop.finish(network)
    found = [
        logits[row][torch.from_numpy(rows.segments[row] == segment)]
        for row in range(len(rows))
        for segment in range(1, int(rows.segments[row].max()) + 1)
    ]
    for expected in plain:
        (same,) = [part for part in found if part.shape == expected.shape]
        assert (same - expected).abs().max() < 1e-4


@pytest.mark.parametrize("name", MAKE)
def test_scores_equal_transformers(name: str) -> None:
    network = make(name)
    for ids, nats in zip(sequences(), score_ids(network, sequences(), 128), strict=True):
        assert np.abs(nats - plain_nats(network, ids).numpy()).max() < 1e-4


@pytest.mark.parametrize("name", MAKE)
@pytest.mark.parametrize("shared", [0, 20])
def test_answers_and_their_likelihoods_equal_transformers(name: str, shared: int) -> None:
    """With and without worked examples that stand before all prompts."""
    network = make(name)
    told: dict[int, list[tuple[int, float]]] = {}

    def asked(place: int, prompt: list[int]) -> Wanted:
        def take(token: int, likely: float) -> bool:
            told.setdefault(place, []).append((token, likely))
            return len(told[place]) >= 20

        return Wanted(prompt, 0.0, 1.0, None, take)

    examples = sequences()[3][:shared]
    prompts = [examples + ids[:length] for ids, length in zip(sequences(), (40, 9, 17, 25), strict=True)]
    tokenizer = SimpleNamespace(pad_token_id=0)
    generate_together(network, tokenizer, [asked(place, prompt) for place, prompt in enumerate(prompts)])
    for place, prompt in enumerate(prompts):
        ids = list(prompt)
        for token, likely in told[place]:
            with torch.no_grad():
                expected = torch.log_softmax(network(torch.tensor([ids])).logits[0, -1].double(), -1)
            assert token == int(expected.argmax())
            assert likely == pytest.approx(float(expected[token]), abs=1e-4)
            ids.append(token)


@pytest.mark.parametrize("name", MAKE)
def test_gradients_equal_a_plain_loop(name: str) -> None:
    network, other = make(name), make(name)
    ids = sequences()[0]
    plain = other(torch.tensor([ids]), labels=torch.tensor([ids])).loss
    plain.backward()
    loop.prepare(network, compiled=False)
    loss = loop.loss_of(network, pack([Unit(ids, 1)], 128, 0).all())
    loss.backward()
    assert float(loss.detach()) == pytest.approx(float(plain.detach()), abs=1e-5)
    for (where, one), (_, two) in zip(network.named_parameters(), other.named_parameters(), strict=True):
        assert one.grad is not None
        assert torch.allclose(one.grad, two.grad, atol=1e-4), where


def test_a_pretrained_network_takes_windows_with_its_weights() -> None:
    network = make("llama")
    (ids, *_) = sequences()
    changed = with_attention(network, "window:12", 128)
    assert type(changed).__name__ == "MistralForCausalLM"
    short = torch.tensor([ids[:12]])
    with torch.no_grad():
        assert torch.allclose(changed(short).logits, network(short).logits, atol=1e-5)
        assert not torch.allclose(changed(torch.tensor([ids])).logits, network(torch.tensor([ids])).logits, atol=1e-3)
    mixed = with_attention(make("llama"), "pattern:SL:12", 128)
    assert mixed.config.layer_types == ["sliding_attention", "full_attention"] * 2
    with pytest.raises(UsageError, match="qwen3"):
        with_attention(make("qwen3"), "window:12", 128)


def test_cache_memory_follows_the_windows() -> None:
    one = 2 * 2 * 8 * 2  # keys and values, heads, size, bytes
    kept = {"llama": 4 * 100, "mistral": 4 * 12, "gemma3": 3 * 12 + 100}
    for name, tokens in kept.items():
        assert cache_bytes(make(name).config.to_dict(), 100, 2) == tokens * one
