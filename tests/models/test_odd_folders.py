"""Folders of every kind are opened, or refused by an error that says what to do: never by a traceback."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import (
    Gemma3Config,
    Gemma3ForConditionalGeneration,
    GPT2Config,
    GPT2LMHeadModel,
    Mistral3Config,
    Mistral3ForConditionalGeneration,
    OPTConfig,
    OPTForCausalLM,
    T5Config,
    T5ForConditionalGeneration,
)

from sizewise.errors import SizewiseError
from sizewise.lm.hf_format import load_network
from sizewise.models import model_size, open_model
from sizewise.models.size import stored_parameters, weight_bytes
from sizewise.records import Request
from sizewise.store import Store

VOCABULARY = 400
TEXT: dict[str, Any] = {
    "vocab_size": VOCABULARY,
    "hidden_size": 48,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "max_position_embeddings": 256,
}
SEEING: dict[str, Any] = {
    "hidden_size": 32,
    "intermediate_size": 32,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "image_size": 28,
    "patch_size": 14,
}


def gemma() -> Any:
    text = TEXT | {"sliding_window": 12, "layer_types": ["sliding_attention", "full_attention"]}
    return Gemma3ForConditionalGeneration(
        Gemma3Config(text_config=text, vision_config=SEEING, mm_tokens_per_image=4, image_token_index=399)
    )


def mistral() -> Any:
    text = TEXT | {"model_type": "mistral"}
    seeing = SEEING | {"model_type": "pixtral", "head_dim": 16}
    return Mistral3ForConditionalGeneration(
        Mistral3Config(text_config=text, vision_config=seeing, image_token_index=399, tie_word_embeddings=False)
    )


def gpt2() -> Any:
    return GPT2LMHeadModel(GPT2Config(vocab_size=VOCABULARY, n_embd=48, n_layer=2, n_head=4, n_positions=256))


def opt() -> Any:
    config = OPTConfig(
        vocab_size=VOCABULARY,
        hidden_size=48,
        ffn_dim=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        max_position_embeddings=256,
        word_embed_proj_dim=48,
    )
    return OPTForCausalLM(config)


OPENED = {"gemma 3 that sees": gemma, "mistral 3 that sees": mistral, "gpt-2": gpt2, "opt": opt}


def saved(network: Any, tiny_folder: Path, folder: Path) -> Path:
    network.eval().save_pretrained(folder)
    for name in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja"):
        if (tiny_folder / name).is_file():
            shutil.copy(tiny_folder / name, folder / name)
    return folder


def change(folder: Path, **settings: Any) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text(encoding="utf-8")) | settings), encoding="utf-8")


@pytest.mark.parametrize("name", OPENED)
def test_other_shapes_are_opened(name: str, tiny_folder: Path, tmp_path: Path, store: Store) -> None:
    torch.manual_seed(1)
    whole = OPENED[name]()
    folder = saved(whole, tiny_folder, tmp_path / "model")
    ids = torch.arange(5, 25)[None]
    with torch.no_grad():
        expected = whole(ids).logits
        assert (load_network(folder, "fp32")(ids).logits - expected).abs().max() < 1e-5
    model = open_model(str(folder), store=store, precision="fp32", engine="auto")
    (answer,) = model.complete([Request(id="a", text="The patient", max_tokens=2)])
    (scored,) = model.score(["The patient names the plan."])
    described = model.describe()
    model.close()
    assert answer.error is None
    assert len(scored.nats) == len(scored.starts)
    assert described.memory_bytes > described.parameters * 4
    assert model_size(str(folder))[0].parameters == described.parameters


def test_the_text_part_is_found_under_its_older_names(tiny_folder: Path, tmp_path: Path) -> None:
    whole = gemma()
    folder = saved(whole, tiny_folder, tmp_path / "model")
    path = folder / "model.safetensors"
    weights = {
        name.replace("model.language_model.", "language_model.model."): values
        for name, values in load_file(path).items()
    }
    save_file(weights, path, {"format": "pt"})
    ids = torch.arange(5, 25)[None]
    with torch.no_grad():
        assert (load_network(folder, "fp32")(ids).logits - whole(ids).logits).abs().max() < 1e-5


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"quantization_config": {"quant_method": "gptq", "bits": 4}}, "gptq"),
        ({"quantization_config": {"quant_method": "awq", "bits": 4}}, "awq"),
        ({"quantization_config": {"quant_method": "compressed-tensors", "config_groups": {}}}, "compressed-tensors"),
        ({"model_type": "no-such-network", "architectures": ["NoSuchForCausalLM"]}, "NoSuchForCausalLM"),
        ({"model_type": "clip", "architectures": ["CLIPModel"]}, "CLIPModel"),
        ({"num_attention_heads": "many"}, "can't be loaded"),
        ({"rope_parameters": {"rope_type": "strange"}}, "can't be loaded"),
    ],
)
def test_what_cannot_be_opened_says_what_can(
    tiny_folder: Path, store: Store, settings: dict[str, Any], said: str
) -> None:
    change(tiny_folder, **settings)
    with pytest.raises(SizewiseError, match=said) as refused:
        open_model(str(tiny_folder), store=store, engine="auto")
    assert refused.value.expected
    assert refused.value.next_step


@pytest.mark.parametrize("engine", ["auto", "transformers"])
@pytest.mark.parametrize("kind", [torch.int8, torch.float8_e4m3fn])
def test_quantized_weights_without_their_config_are_refused(
    tiny_folder: Path, store: Store, kind: torch.dtype, engine: Any
) -> None:
    path = tiny_folder / "model.safetensors"
    weights = load_file(path)
    name = next(name for name in weights if name.endswith("mlp.down_proj.weight"))
    save_file(weights | {name: (weights[name] * 16).to(kind)}, path, {"format": "pt"})
    with pytest.raises(SizewiseError, match="no quantization_config"):
        open_model(str(tiny_folder), store=store, engine=engine)


def test_a_model_that_is_no_language_model_is_refused(tiny_folder: Path, tmp_path: Path, store: Store) -> None:
    config = T5Config(vocab_size=VOCABULARY, d_model=32, d_kv=8, d_ff=32, num_layers=1, num_heads=4)
    folder = saved(T5ForConditionalGeneration(config), tiny_folder, tmp_path / "t5")
    with pytest.raises(SizewiseError, match="T5ForConditionalGeneration"):
        open_model(str(folder), store=store)


def test_faults_nobody_has_thought_of_are_no_tracebacks(
    tiny_folder: Path, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise AttributeError("'Strange' object has no attribute 'config'")

    monkeypatch.setattr("sizewise.models.local.cache_bytes", fail)
    with pytest.raises(SizewiseError, match=r"can't be loaded \(.*Strange"):
        open_model(str(tiny_folder), store=store)


def test_weights_that_are_there_twice_count_once(tiny_folder: Path, store: Store) -> None:
    parameters, size = stored_parameters(tiny_folder), weight_bytes(tiny_folder)
    weights = load_file(tiny_folder / "model.safetensors")
    (tiny_folder / "model.safetensors").rename(tiny_folder / "consolidated.safetensors")
    half = len(weights) // 2
    parts = {"model-1.safetensors": list(weights)[:half], "model-2.safetensors": list(weights)[half:]}
    for name, members in parts.items():
        save_file({one: weights[one] for one in members}, tiny_folder / name, {"format": "pt"})
    index = {"metadata": {}, "weight_map": {one: name for name, members in parts.items() for one in members}}
    (tiny_folder / "model.safetensors.index.json").write_text(json.dumps(index), encoding="utf-8")
    assert stored_parameters(tiny_folder) == parameters
    assert weight_bytes(tiny_folder) < 1.1 * size
    assert model_size(str(tiny_folder))[0].parameters > 0
    open_model(str(tiny_folder), store=store).close()
