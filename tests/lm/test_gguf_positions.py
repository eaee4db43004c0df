from __future__ import annotations

from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
import torch
from transformers import (
    LlamaConfig,
    LlamaForCausalLM,
    Phi3Config,
    Phi3ForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
)
from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

from sizewise.errors import SizewiseError
from sizewise.exporting import llamacpp
from sizewise.lm import hf_format, k_quants
from sizewise.lm.gguf import read_gguf, read_gguf_settings
from sizewise.lm.gguf_positions import _llama3_settings, llama3_factors
from sizewise.lm.gguf_writing import QUANTIZATIONS, write_gguf

LLAMA3 = {
    "rope_type": "llama3", "rope_theta": 500_000.0, "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
    "original_max_position_embeddings": 64,
}  # fmt: skip
YARN = {"rope_type": "yarn", "rope_theta": 10_000.0, "factor": 4.0, "original_max_position_embeddings": 64}
LINEAR = {"rope_type": "linear", "rope_theta": 10_000.0, "factor": 4.0}
ENDINGS = {"rope_type": "longrope", "rope_theta": 10_000.0, "factor": 4.0, "short_factor": [1.0] * 16,
           "long_factor": [2.0] * 16, "original_max_position_embeddings": 64}  # fmt: skip


def network_with(rope: dict[str, Any], tokens: int, **more: Any) -> Any:
    torch.manual_seed(0)
    settings = {
        "initializer_range": 0.2,
        "hidden_size": 128,
        "intermediate_size": 256,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
    }
    config = LlamaConfig(
        vocab_size=tokens, num_key_value_heads=2, max_position_embeddings=256, rope_parameters=rope,
        bos_token_id=0, eos_token_id=2, pad_token_id=0, **(settings | more),
    )  # fmt: skip
    return LlamaForCausalLM(config).eval()


@pytest.mark.parametrize("rope", [LLAMA3, YARN, LINEAR], ids=lambda rope: str(rope["rope_type"]))
def test_scaled_positions_are_written_and_read_back(rope: dict[str, Any], tiny_folder: Path, tmp_path: Path) -> None:
    tokenizer = hf_format.load_tokenizer(tiny_folder)
    network = network_with(rope, len(tokenizer))
    path = tmp_path / "model.gguf"
    write_gguf(network, tokenizer, path, "f16", "tiny", "none")
    back, _ = read_gguf(path)
    assert back.config.rope_parameters["rope_type"] == rope["rope_type"]
    assert read_gguf_settings(path)[0].rope_parameters == back.config.rope_parameters
    ids = torch.randint(3, len(tokenizer), (1, 200), generator=torch.Generator().manual_seed(1))
    plain = network_with({"rope_type": "default", "rope_theta": rope["rope_theta"]}, len(tokenizer))
    plain.load_state_dict(network.state_dict())
    with torch.no_grad():
        expected, found, unscaled = network(ids).logits, back(ids).logits, plain(ids).logits
    error = (found - expected).abs().mean()
    assert error < 0.01 * expected.std()
    assert (unscaled - expected).abs().mean() > 20 * error  # without the scaling the test would fail


@pytest.mark.skipif(not llamacpp.is_installed(), reason="llama.cpp's bindings are not installed")
@pytest.mark.parametrize("rope", [LLAMA3, YARN], ids=lambda rope: str(rope["rope_type"]))
def test_llama_cpp_computes_the_same_positions(rope: dict[str, Any], tiny_folder: Path, tmp_path: Path) -> None:
    tokenizer = hf_format.load_tokenizer(tiny_folder)
    network = network_with(rope, len(tokenizer))
    path = tmp_path / "model.gguf"
    write_gguf(network, tokenizer, path, "f16", "tiny", "none")
    prompt = torch.randint(3, len(tokenizer), (180,), generator=torch.Generator().manual_seed(1)).tolist()
    plain = network_with({"rope_type": "default", "rope_theta": rope["rope_theta"]}, len(tokenizer))
    plain.load_state_dict(network.state_dict())
    lengths = range(100, 180, 4)
    engine = llamacpp.Engine(path, 256)
    try:
        found = [(ids or [2])[0] for ids in engine.greedy([prompt[:length] for length in lengths], [1] * len(lengths))]
    finally:
        engine.close()
    with torch.no_grad():
        expected, unscaled = (net(torch.tensor([prompt])).logits[0].argmax(-1) for net in (network, plain))
    same, plainly = (
        sum(int(ids[length - 1]) == token for length, token in zip(lengths, found, strict=True))
        for ids in (expected, unscaled)
    )
    assert same >= 0.7 * len(lengths)  # with plain positions too, random weights have that many near-ties in F16
    assert plainly <= 0.1 * len(lengths)


def test_llama3_settings_are_inferred_from_their_factors() -> None:
    for length, factor, high in ((8192, 8.0, 4.0), (8192, 32.0, 4.0), (64, 8.0, 4.0), (2048, 16.0, 8.0)):
        given = LLAMA3 | {"original_max_position_embeddings": length, "factor": factor, "high_freq_factor": high}
        factors = llama3_factors(given, 128)
        config = LlamaConfig(head_dim=128, num_attention_heads=1, hidden_size=128, rope_parameters=given)
        frequencies, _ = ROPE_INIT_FUNCTIONS["llama3"](config, torch.device("cpu"))
        plain = 1 / 500_000.0 ** (np.arange(0, 128, 2) / 128)
        np.testing.assert_allclose(plain / factors, frequencies.numpy(), rtol=1e-5)
        assert _llama3_settings(factors, 500_000.0) == given
    assert _llama3_settings(np.linspace(1, 3, 64, dtype=np.float32), 500_000.0) is None


def test_unknown_positions_are_refused(tiny_folder: Path, tmp_path: Path) -> None:
    tokenizer = hf_format.load_tokenizer(tiny_folder)
    for rope, reason in ((ENDINGS, "'longrope' rotary"), (YARN | {"attention_factor": 2.0}, "scale attention")):
        with pytest.raises(SizewiseError, match=reason):
            write_gguf(network_with(rope, len(tokenizer)), tokenizer, tmp_path / "no.gguf", "f16", "tiny", "none")
    path = tmp_path / "model.gguf"
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_tensor("rope_freqs.weight", np.linspace(1, 3, 16, dtype=np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    from sizewise.lm.gguf_positions import read_positions

    assert "transformers doesn't know" in read_positions(gguf.GGUFReader(path), LlamaConfig())


@pytest.mark.skipif(not llamacpp.is_installed(), reason="llama.cpp's bindings are not installed")
@pytest.mark.parametrize("mix", sorted(k_quants.MIXES))
def test_k_quants_are_those_of_llama_cpp(mix: str, tiny_folder: Path, tmp_path: Path) -> None:
    tokenizer = hf_format.load_tokenizer(tiny_folder)
    network = network_with(LLAMA3, len(tokenizer), hidden_size=256, intermediate_size=320)
    path = tmp_path / "model.gguf"
    write_gguf(network, tokenizer, path, mix, "tiny", "none")
    kinds = {tensor.name: tensor.tensor_type for tensor in gguf.GGUFReader(path).tensors}
    most = QUANTIZATIONS[mix]
    assert kinds["blk.0.attn_q.weight"] == most
    assert kinds["output.weight"] == gguf.GGMLQuantizationType.Q6_K
    back, _ = read_gguf(path)
    weight, found = (net.model.layers[0].mlp.gate_proj.weight.detach() for net in (network, back))
    error = float((found - weight).abs().mean() / weight.abs().mean())
    assert error < {"q4_k_m": 0.1, "q5_k_m": 0.05, "q6_k": 0.03}[mix]
    engine = llamacpp.Engine(path, 256)
    try:
        (answer,) = engine.greedy([[5, 6, 7]], [4])
    finally:
        engine.close()
    assert len(answer) == 4


def test_the_mix_is_llama_cpps() -> None:
    kind, q4, q6 = k_quants.mixed_kind, k_quants.Kind.Q4_K, k_quants.Kind.Q6_K
    blocks = 16
    precise = [i for i in range(blocks) if kind("q4_k_m", f"blk.{i}.ffn_down.weight", i, blocks, 512, False) == q6]
    assert precise == [0, 1, 4, 7, 10, 13, 14, 15]
    assert kind("q4_k_m", "blk.0.ffn_up.weight", 0, blocks, 512, False) == q4
    assert kind("q4_k_m", "token_embd.weight", 0, blocks, 512, True) == q6
    assert kind("q4_k_m", "blk.0.ffn_up.weight", 0, blocks, 576, False) == k_quants.Kind.Q5_0
    assert kind("q6_k", "blk.0.ffn_up.weight", 0, blocks, 576, False) == k_quants.Kind.Q8_0


@pytest.mark.parametrize("rotated", [1.0, 0.5])
@pytest.mark.parametrize("long", [True, False])
def test_positions_of_phi_are_read(
    long: bool, rotated: float, tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Phi-3.5 and Phi-4 mini: one set of factors for short texts, another for long ones, and a part of each head."""
    tokenizer = hf_format.load_tokenizer(tiny_folder)
    rope: dict[str, Any] = {"rope_type": "default", "rope_theta": 10_000.0, "partial_rotary_factor": rotated}
    pairs, attention = int(16 * rotated), 1.19
    if long:
        rope |= {
            "rope_type": "longrope", "short_factor": [1.0] * pairs, "long_factor": np.linspace(1, 9, pairs).tolist(),
            "original_max_position_embeddings": 64, "attention_factor": attention,
        }  # fmt: skip
    torch.manual_seed(0)
    config = Phi3Config(
        vocab_size=len(tokenizer), hidden_size=128, intermediate_size=256, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, max_position_embeddings=256, rope_parameters=rope, sliding_window=None,
        original_max_position_embeddings=64, bos_token_id=0, eos_token_id=2, pad_token_id=0, initializer_range=0.2,
    )  # fmt: skip
    network = Phi3ForCausalLM(config).eval()

    def add_positions(writer: gguf.GGUFWriter, config: Any) -> None:  # as llama.cpp's converter does
        if long:
            writer.add_rope_scaling_orig_ctx_len(64)
            writer.add_rope_scaling_attn_factors(attention)
            for name in ("long", "short"):
                writer.add_tensor(f"rope_factors_{name}.weight", np.array(rope[f"{name}_factor"], dtype=np.float32))

    monkeypatch.setattr("sizewise.lm.gguf_writing.why_not_writable", lambda *_: "")
    monkeypatch.setattr("sizewise.lm.gguf_writing.add_positions", add_positions)
    write_gguf(network, tokenizer, tmp_path / "model.gguf", "f16", "tiny", "none")
    back, _ = read_gguf(tmp_path / "model.gguf")
    back.config.save_pretrained(tmp_path / "saved")  # checks the settings
    for length in (40, 200):
        ids = torch.randint(3, len(tokenizer), (1, length), generator=torch.Generator().manual_seed(1))
        with torch.no_grad():
            assert (back(ids).logits - network(ids).logits).abs().mean() < 0.02 * network(ids).logits.std()


def test_a_head_of_another_width_is_read(tiny_folder: Path, tmp_path: Path) -> None:
    """transformers takes Qwen 3's usual width for every file."""
    tokenizer = hf_format.load_tokenizer(tiny_folder)
    torch.manual_seed(0)
    config = Qwen3Config(
        vocab_size=len(tokenizer), hidden_size=64, intermediate_size=96, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, head_dim=16, max_position_embeddings=64, bos_token_id=0, eos_token_id=2, pad_token_id=0,
    )  # fmt: skip
    network = Qwen3ForCausalLM(config).eval()
    write_gguf(network, tokenizer, tmp_path / "model.gguf", "f16", "tiny", "none")
    back, _ = read_gguf(tmp_path / "model.gguf")
    ids = torch.arange(3, 40)[None]
    with torch.no_grad():
        torch.testing.assert_close(back(ids).logits, network(ids).logits, atol=5e-3, rtol=1e-2)
