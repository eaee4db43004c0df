from __future__ import annotations

from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sizewise.errors import SizewiseError
from sizewise.lm.control_tokens import answer_text
from sizewise.lm.generate import _is_done
from sizewise.lm.text_stream import Text
from sizewise.lm.tokenizer import CHAT_TEMPLATE, chat_sequence, end_ids, render_chat, text_ids, train_tokenizer
from sizewise.records import Message

TOKENIZER: Any = train_tokenizer(["the quick brown fox jumps over the lazy dog " * 5], 300, 128)
QUESTION = (Message(role="user", content="Who is it?"),)


@given(st.text())
def test_decoding_gives_the_text_back(text: str) -> None:
    ids = TOKENIZER(text, add_special_tokens=False).input_ids
    assert TOKENIZER.decode(ids, clean_up_tokenization_spaces=False) == text


def test_only_the_answer_counts() -> None:
    tokens = chat_sequence(TOKENIZER, QUESTION, "the fox")
    assert TOKENIZER.decode(tokens.ids[: tokens.first_target]).endswith("<|im_start|>assistant\n")
    assert TOKENIZER.decode(tokens.ids[tokens.first_target :]) == "the fox<|im_end|>"


def test_a_template_without_generation_prompt_is_refused(tmp_path: Path) -> None:
    tokenizer: Any = train_tokenizer(["abc"], 300, 128)
    tokenizer.chat_template = "{% for message in messages %}{{ message['content'] }}{% endfor %}"
    with pytest.raises(SizewiseError, match="no generation prompt"):
        chat_sequence(tokenizer, QUESTION, "the fox")


R1 = (
    "{% for m in messages %}{% set text = m.content.split('</think>')[-1] %}{% if m.role == 'assistant' %}"
    "{{ '<|Assistant|>' + text + '<|im_end|>' }}{% else %}{{ '<|User|>' + text }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|Assistant|><think>\n' }}{% endif %}"
)
CLOSED_THOUGHTS = (
    "{% for m in messages %}{{ '<|turn>' + m.role + '\n' + m.content | trim + '<turn|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|turn>assistant\n<|channel>thought\n<channel|>' }}{% endif %}"
)


@pytest.mark.parametrize(
    ("template", "begins", "learnt"),
    [
        (R1, "<|Assistant|><think>\n", "\n</think>\n\nthe fox<|im_end|>"),
        (CLOSED_THOUGHTS, "<|channel>thought\n<channel|>", "the fox<turn|>"),
    ],
)
def test_a_prompt_with_thoughts_is_followed_by_the_answer(template: str, begins: str, learnt: str) -> None:
    tokenizer: Any = train_tokenizer(["abc"], 300, 128)
    tokenizer.add_special_tokens({"additional_special_tokens": ["<|turn>", "<turn|>"]})
    tokenizer.chat_template = template
    unit = chat_sequence(tokenizer, QUESTION, "the fox")
    asked = text_ids(tokenizer, render_chat(tokenizer, QUESTION))
    assert unit.ids[: unit.first_target] == asked
    assert tokenizer.decode(asked).endswith(begins)
    assert tokenizer.decode(unit.ids[unit.first_target :]) == learnt


def test_answers_are_learnt_with_an_end_and_end_there() -> None:
    tokenizer: Any = train_tokenizer(["abc"], 300, 128)
    network = SimpleNamespace(generation_config=SimpleNamespace(eos_token_id=None))
    tokenizer.chat_template = (
        "{% for m in messages %}{{ m.role + ': ' + m.content + '\n' }}{% endfor %}"
        "{% if add_generation_prompt %}{{ 'assistant: ' }}{% endif %}"
    )
    unit = chat_sequence(tokenizer, QUESTION, "the fox")
    assert tokenizer.decode(unit.ids[unit.first_target :]) == "the fox<|im_end|>"
    tokenizer.chat_template = CHAT_TEMPLATE
    tokenizer.eos_token = "<|endoftext|>"  # as base models with a chat template have it
    unit = chat_sequence(tokenizer, QUESTION, "the fox")
    assert unit.ids[-1] == tokenizer.convert_tokens_to_ids("<|im_end|>")
    assert end_ids(network, tokenizer) == {unit.ids[-1], tokenizer.eos_token_id}


def test_stop_texts_of_any_length_end_an_answer() -> None:
    for stop in ("\n", "END", "=" * 60, "the quick brown fox jumps over the lazy dog, twice, thrice and again"):
        ids = TOKENIZER(f"an answer {stop}", add_special_tokens=False).input_ids
        texts = [Text(partial(answer_text, TOKENIZER), (stop,))]
        done = [_is_done(1_000, set(), texts, 0, ids[: place + 1]) for place in range(len(ids))]
        assert done == [False] * (len(ids) - 1) + [True]


def test_a_template_cannot_reach_python() -> None:
    tokenizer: Any = train_tokenizer(["abc"], 300, 128)
    tokenizer.chat_template = "{{ messages.__class__.__mro__[1].__subclasses__() }}"
    with pytest.raises(SizewiseError, match="rejects"):
        chat_sequence(tokenizer, QUESTION, "the fox")
