"""Sequences that share a beginning, computed in one row, against each sequence by itself."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sizewise.lm import score, shared_rows
from sizewise.lm.execution import Execution
from sizewise.lm.hf_format import load_network, load_tokenizer
from sizewise.lm.score import likeliest_ids, score_ends, score_texts, score_texts_after
from sizewise.lm.shared_rows import share_rows
from tests.conftest import make_tiny

Tiny = tuple[Any, Any]
EXAMPLES = "Text: the record of the plan\nLabel: claim\n\nText: a device holds the code 12\nLabel: device\n\n"
CHOICES = [" claim", " claim of the patient", " claims", " the the the record of the code 12 of 7"]


@pytest.fixture(params=["full", "window:16", "pattern:SL:16"])
def tiny(request: pytest.FixtureRequest, tmp_path: Path, text_folder: Path) -> Tiny:
    folder = make_tiny(tmp_path / "net", text_folder, request.param)
    return load_network(folder, "fp32"), load_tokenizer(folder)


def questions(count: int = 5) -> list[tuple[str, str]]:
    contexts = [f"{EXAMPLES}Text: the patient names the order {number * 37}\nLabel:" for number in range(count)]
    return [(context, choice) for context in contexts for choice in CHOICES]


@settings(max_examples=60, deadline=None)
@given(st.lists(st.lists(st.integers(0, 2), min_size=1, max_size=40), min_size=1, max_size=12))
def test_every_sequence_is_in_one_row_token_by_token(sequences: list[list[int]]) -> None:
    rows = share_rows(sequences)
    assert sorted(i for row in rows for i in row.members) == list(range(len(sequences)))
    for row in rows:
        for i, places in row.with_places():
            assert [row.ids[place] for place in places] == sequences[i]
            assert [row.positions[place] for place in places] == list(range(len(places)))
            assert (np.diff(places) > 0).all()


@pytest.mark.parametrize("batch_tokens", [1024, 150])
def test_shared_scores_equal_those_of_each_text_alone(
    tiny: Tiny, batch_tokens: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(score, "BATCH_TOKENS", batch_tokens)
    monkeypatch.setattr(shared_rows, "ROW_TOKENS", batch_tokens)
    network, tokenizer = tiny
    pairs = [*questions(), ("", "the record of the plan"), ("", ""), ("A device", "")]
    texts, after = [a + b for a, b in pairs], [len(a) for a, _ in pairs]
    found = list(score_texts_after(network, tokenizer, texts, after, 256))
    for text, begin, one in zip(texts, after, found, strict=True):
        (alone,) = score_texts(network, tokenizer, [text], 256)
        counted = alone.starts >= begin
        assert one.starts.tolist() == alone.starts[counted].tolist()
        assert np.abs(one.nats - alone.nats[counted]).max(initial=0) < 1e-5


@pytest.mark.parametrize("tiny", ["full"], indirect=True)
def test_a_shared_context_is_computed_once(tiny: Tiny, monkeypatch: pytest.MonkeyPatch) -> None:
    network, tokenizer = tiny
    tokens: list[int] = []
    plain = Execution.hidden_states

    def counted(execution: Execution, **inputs: Any) -> torch.Tensor:
        tokens.append(inputs["input_ids"].numel())
        return plain(execution, **inputs)

    monkeypatch.setattr(Execution, "hidden_states", counted)
    pairs = questions(8)
    texts, after = [a + b for a, b in pairs], [len(a) for a, _ in pairs]
    list(score_texts_after(network, tokenizer, texts, after, 256))
    once = sum(len(tokenizer(context).input_ids) for context, _ in pairs[:: len(CHOICES)])
    assert sum(tokens) < once * 1.3  # and the examples before all questions only once


@pytest.mark.parametrize("tiny", ["full"], indirect=True)
def test_longer_sequences_are_scored_by_themselves(tiny: Tiny) -> None:
    network, tokenizer = tiny
    ids = [tokenizer(a + b).input_ids for a, b in questions(1)]
    whole = likeliest_ids(network, ids, 24)
    for ends, one in zip(score_ends(network, ids, [len(part) - 3 for part in ids], 24), whole, strict=True):
        assert ends.nats.tolist() == one.nats[-3:].tolist()
        assert ends.best.tolist() == one.best[-3:].tolist()
