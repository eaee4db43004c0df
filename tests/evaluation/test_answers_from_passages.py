"""Passages, declined answers and token probabilities, from the answer to the score."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from sizewise.evaluation import EvaluationOptions, evaluate
from sizewise.evaluation.rescoring import rescore
from sizewise.models import open_model
from sizewise.records import Dataset, Evaluation, ItemRow, Message, Request
from sizewise.store import Saved, Store

CITY, TOWER = "Paris is the capital of France.", "The tower was completed in 1889."
METRICS = ["groundedness", "citation_recall", "answered_accuracy", "risk_coverage_area"]


def write(path: Path, rows: list[dict[str, Any]]) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return str(path)


def items_of(store: Store, saved: Saved[Evaluation]) -> list[ItemRow]:
    return list(store.read_rows(saved.path.parent, "items.jsonl", ItemRow))


def test_recorded_answers_are_measured_against_their_passages(tmp_path: Path, store: Store) -> None:
    count = 30
    data = write(
        tmp_path / "data.jsonl",
        [
            {"id": f"q{i}", "prompt": f"What is the capital, {i}?", "references": ["Paris"], "source": f"d{i}"}
            for i in range(count)
        ],
    )
    said = ["The capital of France is Paris [1].", "The capital of France is Rome [1].", "I don't know."]
    answers = write(
        tmp_path / "answers.jsonl",
        [
            {"id": f"q{i}", "completion": said[i % 3], "passages": [CITY, TOWER], "confidence": (0.9, 0.6, 0.2)[i % 3]}
            for i in range(count)
        ],
    )
    saved = evaluate(f"recorded:{answers}", data, METRICS, store=store)
    scores = saved.record.scores
    assert [scores[name].value for name in METRICS] == [0.5, 0.5, 0.5, 0.25]
    area = scores["risk_coverage_area"]
    assert area.ci_low is not None
    assert area.ci_high is not None
    assert area.ci_low < 0.25 < area.ci_high
    assert "The model declines 10 of 30 questions (33%) and is right in 50% of what it answers." in saved.record.notes
    rows = items_of(store, saved)
    assert rows[0].passages == (CITY, TOWER)
    again = rescore(store, saved.record, rows)
    assert (again.differing, again.unknown) == ([], [])


def test_retrieved_passages_are_those_of_the_prompt(dataset: Saved[Dataset], store: Store) -> None:
    long = EvaluationOptions(max_tokens=5_000)
    saved = evaluate(f"rag:{dataset.id}:fake:echo", dataset.id, ["groundedness"], store=store, limit=5, options=long)
    rows = [row for row in items_of(store, saved) if row.kind == "example"]
    assert rows
    assert all(row.passages for row in rows)
    assert all(passage in (row.completion or "") for row in rows for passage in row.passages)  # the echo


def test_a_local_model_reports_its_confidence_only_where_it_is_needed(tiny_folder: Path, store: Store) -> None:
    model = open_model(str(tiny_folder), store=store, precision="fp32")
    asked = Request(id="a", text="Each patient names", max_tokens=6)
    said = Request(id="b", messages=(Message(role="user", content="x"),), max_tokens=6).model_copy(
        update={"messages": (), "text": "Each patient names", "logprobs": True}
    )
    (without,) = model.complete([asked])
    (known,) = model.complete([said])
    model.close()
    assert without.confidence is None
    assert known.text == without.text
    assert known.confidence is not None
    assert 0 < known.confidence < 1


def test_logged_probabilities_are_read(tmp_path: Path) -> None:
    log = {
        "request": {"messages": [{"role": "user", "content": "Is it?"}]},
        "response": {
            "choices": [
                {
                    "message": {"role": "assistant", "content": "Yes"},
                    "logprobs": {"content": [{"token": "Y", "logprob": -0.2}, {"token": "es", "logprob": -0.4}]},
                }
            ]
        },
    }
    path = write(tmp_path / "log.jsonl", [log, {"prompt": "And now?", "completion": "No", "avg_logprob": "-0.5"}])
    model = open_model(f"recorded:{path}")
    found = [
        next(iter(model.complete([Request(id="x", messages=(Message(role="user", content=text),))]))).confidence
        for text in ("Is it?", "And now?")
    ]
    assert found == [pytest.approx(2.718281828**-0.3), pytest.approx(2.718281828**-0.5)]
