"""Options that share a pass and a cache, against each full text scored by itself."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from sizewise.errors import SizewiseError
from sizewise.lm import option_scores
from sizewise.lm.control_tokens import Rendered
from sizewise.lm.execution import Execution
from sizewise.lm.hf_format import load_network, load_tokenizer
from sizewise.lm.option_scores import Continuation, OptionReader, continue_prompt
from sizewise.lm.score import score_ids
from tests.conftest import make_tiny

EXAMPLES = "Text: the record of the plan\nLabel: claim\n\nText: a device holds the code 12\nLabel: device\n\n"
TEXTS = ["the patient names the order", "", "each plan holds the device of the claim 7 and the record"]
# the same first token, a prefix of another, one token, several, and one that repeats the prompt's words
OPTIONS = [" claim", " claim of the patient", " claims", " device", " x", " the the the record of the code 12 of 7"]


@pytest.fixture(params=["full", "window:16", "pattern:SL:16", "gemma"])
def tiny(request: pytest.FixtureRequest, tmp_path: Path, text_folder: Path) -> tuple[Any, Any]:
    if request.param != "gemma":
        folder = make_tiny(tmp_path / "net", text_folder, request.param)
        return load_network(folder, "fp32"), load_tokenizer(folder)
    from transformers import Gemma3ForCausalLM, Gemma3TextConfig

    tokenizer = load_tokenizer(make_tiny(tmp_path / "net", text_folder, "full"))
    config = Gemma3TextConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=4,
        num_attention_heads=4,
        num_key_value_heads=1,
        head_dim=8,
        sliding_window=16,
        layer_types=["sliding_attention", "full_attention"] * 2,
        max_position_embeddings=256,
    )
    torch.manual_seed(5)
    return Gemma3ForCausalLM(config).float().eval(), tokenizer


def each_alone(network: Any, options: list[Continuation]) -> np.ndarray[Any, Any]:
    return np.array(
        [score_ids(network, [option.ids], 256)[0][option.first - 1 :].sum() for option in options], dtype=np.float64
    )


def items_of(tokenizer: Any, before: str = EXAMPLES) -> list[list[Continuation]]:
    return [
        [continue_prompt(tokenizer, f"{before}Text: {text}\nLabel:", option) for option in OPTIONS] for text in TEXTS
    ]


@pytest.mark.parametrize("pass_tokens", [1024, 7])
def test_options_score_as_their_full_texts_do(
    tiny: tuple[Any, Any], pass_tokens: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(option_scores, "PASS_TOKENS", pass_tokens)
    network, tokenizer = tiny
    reader = OptionReader(network, 256)
    first = items_of(tokenizer)
    # the second call shares a part of the first call's cache, the third has nothing in common with it
    for items in (first, [first[2]], items_of(tokenizer, "Another beginning. "), first):
        for found, options in zip(reader.nats(items), items, strict=True):
            assert np.abs(found - each_alone(network, options)).max() < 1e-4


def test_a_common_beginning_is_computed_once(tiny: tuple[Any, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    network, tokenizer = tiny
    tokens: list[int] = []
    plain = Execution.hidden_states

    def counted(self: Execution, **inputs: Any) -> torch.Tensor:
        tokens.append(inputs["input_ids"].numel())
        return plain(self, **inputs)

    monkeypatch.setattr(Execution, "hidden_states", counted)
    items = items_of(tokenizer)
    reader = OptionReader(network, 256)
    reader.nats(items)
    alone = sum(len(option.ids) for options in items for option in options)
    beginning = len(continue_prompt(tokenizer, EXAMPLES, "").ids)
    assert sum(tokens) < alone / 4
    tokens.clear()
    reader.nats(items)
    assert sum(tokens) < alone / 4 - beginning + 8


@pytest.mark.parametrize("tiny", ["full"], indirect=True)
def test_a_token_that_spans_prompt_and_option_belongs_to_the_option(tiny: tuple[Any, Any]) -> None:
    _, tokenizer = tiny
    merged = continue_prompt(tokenizer, "Label: ", "device")  # the vocabulary has " device" as one token
    assert tokenizer.decode(merged.ids[merged.first :]) == " device"
    plain = continue_prompt(tokenizer, "Label:", " device")
    assert (plain.ids, plain.first) == (merged.ids, merged.first)
    hidden = continue_prompt(tokenizer, "<|im_end|> Label:", " device")  # a control token in a user's text is text
    assert tokenizer.eos_token_id not in hidden.ids
    assert tokenizer.decode(hidden.ids[hidden.first :]) == " device"


@pytest.mark.parametrize("tiny", ["full"], indirect=True)
def test_an_option_after_a_chat_prompt_is_encoded_as_the_model_would_write_it(tiny: tuple[Any, Any]) -> None:
    _, tokenizer = tiny
    found = continue_prompt(tokenizer, Rendered("<|im_start|>assistant\n"), "device")
    assert found.ids[0] == tokenizer.bos_token_id or found.ids[0] != tokenizer.eos_token_id
    assert tokenizer.decode(found.ids[found.first :]) == "device"


@pytest.mark.parametrize("tiny", ["full"], indirect=True)
def test_an_option_longer_than_the_context_is_an_error(tiny: tuple[Any, Any]) -> None:
    network, tokenizer = tiny
    long = [continue_prompt(tokenizer, "Label:", " device" * 100)]
    with pytest.raises(SizewiseError, match="context of 64 tokens"):
        OptionReader(network, 64).nats([long])
