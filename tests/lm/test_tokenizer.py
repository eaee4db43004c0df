from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sizewise.errors import SizewiseError
from sizewise.lm.tokenizer import chat_sequence, train_tokenizer
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


def test_a_template_cannot_reach_python() -> None:
    tokenizer: Any = train_tokenizer(["abc"], 300, 128)
    tokenizer.chat_template = "{{ messages.__class__.__mro__[1].__subclasses__() }}"
    with pytest.raises(SizewiseError, match="refuses"):
        chat_sequence(tokenizer, QUESTION, "the fox")
