"""Ids, addresses and paths, which are not the thing itself."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from sizewise.errors import SizewiseError
from sizewise.evaluation import evaluate
from sizewise.models.recorded import read_log
from sizewise.store import Store
from tests.cases.conftest import ReadIn, values, write_rows
from tests.cases.speaker import NAME, Speaker
from tests.conftest import make_tiny

COUNT = 8


def _rows(first: int = 0) -> list[dict[str, Any]]:
    numbers = range(first, first + COUNT)
    return [{"prompt": f"Who rang bell {i}?", "answer": f"Bell {i} was rung by guest {i + 20}."} for i in numbers]


# the kind of lmnr#2412
def test_documents_and_examples_with_the_id_0_belong_together(tmp_path: Path, read_in: ReadIn) -> None:
    texts = [{"id": i, "text": f"Guest {i + 20} rang bell {i} at {i + 8} in the evening."} for i in range(COUNT)]
    asked = [row | {"id": f"q{i}", "source": i} for i, row in enumerate(_rows())]
    folder = tmp_path / "bells"
    folder.mkdir()
    write_rows(folder / "a.jsonl", texts)
    write_rows(folder / "b.jsonl", asked)
    read = read_in(folder)
    assert {document.id for document in read.documents} == {str(i) for i in range(COUNT)}
    assert {example.source for example in read.examples} == {str(i) for i in range(COUNT)}


def test_a_request_that_was_logged_under_0_keeps_its_name(tmp_path: Path) -> None:
    rows = [{"id": i, "prompt": row["prompt"], "completion": row["answer"]} for i, row in enumerate(_rows())]
    assert [request.id for request in read_log(write_rows(tmp_path / "log.jsonl", rows))] == [
        str(i) for i in range(COUNT)
    ]


# ids that are given twice
@pytest.mark.parametrize("with_prompt", [True, False], ids=["prompts", "ids alone"])
def test_answers_whose_ids_repeat_are_matched_by_question_or_refused(
    tmp_path: Path, store: Store, with_prompt: bool
) -> None:
    rows = [row | {"id": i} for first in (0, 50) for i, row in enumerate(_rows(first), start=1)]
    said = [
        {"id": row["id"], "completion": row["answer"]} | ({"prompt": row["prompt"]} if with_prompt else {})
        for row in rows
    ]
    data = write_rows(tmp_path / "test.jsonl", rows)
    path = write_rows(tmp_path / "said.jsonl", said)
    try:
        record = evaluate(f"recorded:{path}", data, ["exact_match"], store=store).record
    except SizewiseError as error:
        assert re.search(r"\bids?\b", error.what)  # noqa: PT017 (one of two right outcomes)
        return
    assert values(record)["exact_match"] == 1.0
    assert record.failed == 0


# the kind of lm-evaluation-harness#4063
def test_other_weights_in_the_same_folder_are_measured(tmp_path: Path, text_folder: Path, store: Store) -> None:
    import torch

    from sizewise.lm.hf_format import load_network, load_tokenizer, save_model

    folder = make_tiny(tmp_path / "model", text_folder, "full")
    data = write_rows(tmp_path / "texts.jsonl", [{"text": f"{row['prompt']} {row['answer']}"} for row in _rows()])
    first = evaluate(str(folder), data, ["bits_per_byte"], store=store)
    network, tokenizer = load_network(folder, "fp32"), load_tokenizer(folder)
    with torch.no_grad():
        for weight in network.parameters():
            weight.mul_(1.7)
    save_model(network, tokenizer, folder)
    second = evaluate(str(folder), data, ["bits_per_byte"], store=store)
    assert first.id != second.id
    assert values(first.record)["bits_per_byte"] != values(second.record)["bits_per_byte"]


def test_other_answers_in_the_same_file_are_measured(tmp_path: Path, store: Store) -> None:
    rows = [row | {"id": f"q{i}"} for i, row in enumerate(_rows())]
    data = write_rows(tmp_path / "test.jsonl", rows)
    found = []
    for answer in ("Nobody did.", None):
        said = [{"id": row["id"], "completion": answer or row["answer"]} for row in rows]
        path = write_rows(tmp_path / "said.jsonl", said)
        found.append(values(evaluate(f"recorded:{path}", data, ["exact_match"], store=store).record)["exact_match"])
    assert found == [0.0, 1.0]


def test_other_rows_in_the_same_test_file_are_measured(tmp_path: Path, store: Store) -> None:
    found = []
    said = [{"prompt": row["prompt"], "completion": "Nobody did."} for row in _rows()]
    said += [{"prompt": row["prompt"], "completion": row["answer"]} for row in _rows(50)]
    path = write_rows(tmp_path / "said.jsonl", said)
    for first in (0, 50):
        data = write_rows(tmp_path / "test.jsonl", _rows(first))
        found.append(values(evaluate(f"recorded:{path}", data, ["exact_match"], store=store).record)["exact_match"])
    assert found == [0.0, 1.0]


def test_another_name_at_the_same_address_is_another_model(tmp_path: Path, store: Store, speaker: Speaker) -> None:
    pytest.importorskip("pydantic_ai")
    data = write_rows(tmp_path / "test.jsonl", _rows())
    first = evaluate(speaker.uri, data, ["exact_match"], store=store)
    asked = len(speaker.bodies)
    second = evaluate(speaker.uri.replace(NAME, "sisterhouse"), data, ["exact_match"], store=store)
    assert first.id != second.id
    assert len(speaker.bodies) == 2 * asked


def test_answers_kept_for_an_address_are_asked_anew_or_told_on_other_data(
    tmp_path: Path, store: Store, speaker: Speaker
) -> None:
    pytest.importorskip("pydantic_ai")
    rows = _rows()
    right = {row["prompt"]: row["answer"] for row in (*rows, *_rows(50))}
    speaker.say = lambda asked: "Nobody did."
    evaluate(speaker.uri, write_rows(tmp_path / "one.jsonl", rows), ["exact_match"], store=store)
    speaker.say = lambda asked: right[asked]
    more = write_rows(tmp_path / "two.jsonl", [*rows, *_rows(50)])  # the same questions and further ones
    record = evaluate(speaker.uri, more, ["exact_match"], store=store).record
    told = json.dumps(record.notes).lower()
    words = ("again", "earlier", "kept", "already", "before", "new-run")
    assert values(record)["exact_match"] == 1.0 or any(word in told for word in words)
