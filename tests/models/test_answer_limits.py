"""The token limit of an answer fits the reference answers in every script."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from sizewise.lm.hf_format import load_tokenizer
from sizewise.models.prompts import answer_limit
from sizewise.records import Example, Message
from tests.languages import PASSAGES

URL = "https://example.com/" + "/".join(f"section-{i}" for i in range(60))
LONG = {
    **{language: " ".join(passage.text for passage in passages) for language, passages in PASSAGES.items()},
    "json": json.dumps({f"field{i}": [i, i + 1] for i in range(80)}, separators=(",", ":")),
    "url": URL,
    "compound": "Donaudampfschifffahrtsgesellschaftskapitän" * 12,
}


@pytest.mark.parametrize("kind", sorted(LONG))
def test_no_reference_answer_is_longer_than_the_limit(tiny_folder: Path, kind: str) -> None:
    tokenizer = load_tokenizer(tiny_folder)
    example = Example(id="e", messages=(Message(role="user", content="Repeat."),), references=(LONG[kind],), source="e")
    needed = len(tokenizer(LONG[kind], add_special_tokens=False)["input_ids"])
    limit = answer_limit([example], lambda texts: [len(tokenizer(text)["input_ids"]) for text in texts])
    assert needed < limit <= 1.6 * needed + 32
    # Without the tokenizer, bytes decide: at least half as many tokens as bytes.
    assert answer_limit([example]) >= len(LONG[kind].encode()) / 2
