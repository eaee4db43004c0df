"""Sizes, templates and likelihoods of models that are built in another way than most."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from sizewise.datasets import read
from sizewise.errors import SizewiseError
from sizewise.evaluation import evaluate
from sizewise.lm.generate import end_ids
from sizewise.lm.hf_format import load_network, load_tokenizer
from sizewise.lm.tokenizer import chat_sequence
from sizewise.models import open_model
from sizewise.records import Message, Recipe
from sizewise.store import Store
from sizewise.training import train
from tests.cases.conftest import Command, write_rows

# vllm-fit#27, #33, llmfit#230
EXPERTS: dict[str, Any] = {
    "architectures": ["Qwen3MoeForCausalLM"], "model_type": "qwen3_moe", "vocab_size": 151_936, "hidden_size": 2_048,
    "intermediate_size": 6_144, "moe_intermediate_size": 768, "num_hidden_layers": 48, "num_attention_heads": 32,
    "num_key_value_heads": 4, "head_dim": 128, "num_experts": 128, "num_experts_per_tok": 8, "decoder_sparse_step": 1,
    "mlp_only_layers": [], "tie_word_embeddings": False, "max_position_embeddings": 40_960,
}  # fmt: skip
LARGER_PICTURES: dict[str, Any] = {
    "architectures": ["Gemma3ForConditionalGeneration"], "model_type": "gemma3",
    "text_config": {
        "model_type": "gemma3_text", "vocab_size": 262_208, "hidden_size": 3_840, "intermediate_size": 15_360,
        "num_hidden_layers": 48, "num_attention_heads": 16, "num_key_value_heads": 8, "head_dim": 256,
        "sliding_window": 1_024,
    },
    "vision_config": {
        "model_type": "siglip_vision_model", "hidden_size": 1_152, "intermediate_size": 4_304,
        "num_hidden_layers": 27, "num_attention_heads": 16,
    },
}  # fmt: skip


def _sized(folder: Path, config: dict[str, Any], command: Command) -> dict[str, Any]:
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    said = command("models", folder, "--json")
    assert said.code == 0, said.whole
    return dict(said.told["record"])


def test_all_experts_count_in_memory_and_those_at_work_in_speed(tmp_path: Path, command: Command) -> None:
    found = _sized(tmp_path / "experts", EXPERTS, command)
    assert found["parameters"] == 30_532_122_624  # as its weight files on the hub state
    assert found["active_parameters"] == pytest.approx(3.35e9, rel=0.01)
    assert found["weight_bytes"]["bf16"] >= 2 * 30_532_122_624


def test_the_text_part_of_a_model_that_sees_is_counted_by_its_own_sizes(tmp_path: Path, command: Command) -> None:
    width, hidden, queries, keys = 3_840, 15_360, 16 * 256, 8 * 256
    layer = 2 * width * queries + 2 * width * keys + 3 * width * hidden + 4 * width + 2 * 256
    found = _sized(tmp_path / "pictures", LARGER_PICTURES, command)
    assert found["parameters"] == 262_208 * width + 48 * layer + width


# unsloth#416, #419, #1221
@pytest.mark.parametrize(
    "template",
    [
        "{% for m in messages %}{{ m.role ~ '> ' ~ m.content ~ '\n' }}{% endfor %}"
        "{% if add_generation_prompt %}{{ 'assistant> ' }}{% endif %}",
        "{% for m in messages %}{{ '### ' ~ m.role ~ '\n' ~ m.content ~ '\n\n' }}{% endfor %}"
        "{% if add_generation_prompt %}{{ '### assistant\n' }}{% endif %}",
    ],
    ids=["line break", "blank line"],
)
def test_what_is_learnt_of_an_answer_ends_with_a_token_that_ends_answers(tiny_folder: Path, template: str) -> None:
    tokenizer, network = load_tokenizer(tiny_folder), load_network(tiny_folder, "fp32")
    tokenizer.chat_template = template
    asked = [Message(role="user", content="Is the ford passable?")]
    try:
        unit = chat_sequence(tokenizer, asked, "Only on foot.")
    except SizewiseError:
        return  # refused: also right
    assert unit.ids[-1] in end_ids(network, tokenizer)


def test_the_own_template_ends_answers(tiny_folder: Path) -> None:
    tokenizer, network = load_tokenizer(tiny_folder), load_network(tiny_folder, "fp32")
    unit = chat_sequence(tokenizer, [Message(role="user", content="Is the ford passable?")], "Only on foot.")
    assert unit.ids[-1] in end_ids(network, tokenizer)


# trl#6668, #3927, PR#6320, #1053, NeMo-Aligner#57
def test_prompts_that_are_all_too_long_are_refused_with_that_reason(tmp_path: Path, store: Store) -> None:
    rows = [
        {
            "prompt": f"Inventory {i}. " + " ".join(f"Shelf {k} of room {i} holds {k + i} jars." for k in range(50)),
            "answer": f"Room {i} holds jars on fifty shelves.",
        }
        for i in range(20)
    ]
    data = read([write_rows(tmp_path / "rooms.jsonl", rows)], store=store)
    small = {"start": "scratch", "method": "full", "tokens": 2_000, "parameters": 500_000, "control": "none"}
    recipe = Recipe.model_validate(small | {"context": 64, "rows_per_step": 2})
    with pytest.raises(SizewiseError) as refused:
        train(recipe, data.id, store=store)
    said = f"{refused.value.what} {refused.value.expected} {refused.value.next_step}".lower()
    assert "context" in said
    assert "prompt" in said
    assert "64" in said


# nanochat PR#693, autoresearch#384, parameter-golf#897
def test_bits_per_byte_of_emoji_are_the_same_here_and_through_the_service(
    tmp_path: Path, tiny_folder: Path, store: Store
) -> None:
    pytest.importorskip("openai")
    from tests.service.test_service import running

    folder = tmp_path / "signs"
    folder.mkdir()
    for i in range(6):
        text = f"Gleis {i}: 🚲 nur in Wagen {i + 2} 🐕‍🦺 und größere Gepäckstücke ☂️ bitte ans Ende. 🚭 überall 🍀."
        (folder / f"sign{i}.txt").write_text(f"{text}\n\n🕗 Abfahrt um {i + 6} Uhr, 😴 Ruhewagen vorn.\n", "utf-8")
    data = read([folder], store=store)
    own = evaluate(str(tiny_folder), data.id, ["bits_per_byte"], store=store).record.scores["bits_per_byte@all"]
    model = open_model(str(tiny_folder))
    with running({"tiny": model}) as address:
        served = evaluate(f"{address}/v1#tiny", data.id, ["bits_per_byte"], store=store).record
    found = served.scores["bits_per_byte@all"]
    assert own.value is not None
    assert found.value is not None, found.missing_reason
    assert found.value == pytest.approx(own.value, rel=0.12)  # a server leaves the first token of a text out
