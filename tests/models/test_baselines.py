"""Trivial baselines that are learnt from a dataset."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest

from sizewise.datasets import load, read
from sizewise.errors import SizewiseError
from sizewise.evaluation import evaluate
from sizewise.models import open_model
from sizewise.models.baselines import NgramModel
from sizewise.records import Dataset, Request
from sizewise.store import Saved, Store


def test_chances_of_an_ngram_model_add_up_to_one_and_fit_its_text(dataset: Saved[Dataset], store: Store) -> None:
    model = NgramModel(dataset.id, store)
    for before in (b"", b"The ", b"zzzz", b"\xff"):
        assert sum(model.probability(before, bytes([i])) for i in range(256)) == pytest.approx(1)
    text = load(store, dataset.id).documents["test"][0].text
    (seen, other) = model.score([text, "Qwx! \u00fc zyk"])
    assert len(seen.nats) == len(text.encode("utf-8"))
    bits = float(seen.nats.mean()) / math.log(2)
    assert 0.3 < bits < 3 < float(other.nats.mean()) / math.log(2)
    (answer,) = model.complete([Request(id="a", text="The patient ")])
    assert answer.text
    assert model.describe().role == "baseline"


def test_the_most_frequent_answer_is_that_of_training(tmp_path: Path, store: Store, text_folder: Path) -> None:
    from sizewise.datasets import read

    path = tmp_path / "labels.jsonl"
    rows = "".join(
        f'{{"prompt": "case {i}", "reference": "{"no" if i % 3 else "yes"}", "source": "d{i}"}}\n' for i in range(90)
    )
    path.write_text(rows, encoding="utf-8")
    data = read([text_folder, path], store=store)
    model = open_model(f"frequent:{data.id}", store=store)
    (answer,) = model.complete([Request(id="a", text="case 3")])
    assert answer.text == "no"
    assert "seen" in model.describe().origin
    record = evaluate(f"frequent:{data.id}", data.id, store=store).record
    accuracy = record.scores["accuracy"].value
    assert accuracy is not None
    assert 0.4 < accuracy < 0.9
    assert record.scores["bits_per_byte"].missing_reason


def labelled(folder: Path, count: int) -> Path:
    """Messages of which every third asks for money."""
    rows = []
    for i in range(count):
        fraud = i % 3 == 0
        text = f"Send {i} pounds to win prize {i}" if fraud else f"See you at {i} by the river, {i}"
        rows.append({"id": f"m{i}", "prompt": text, "references": ["fraud" if fraud else "none"]})
    path = folder / "messages.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def test_a_linear_classifier_learns_labels_from_training_alone(tmp_path: Path, store: Store) -> None:
    data = read([labelled(tmp_path, 120)], store=store)
    found = evaluate(f"linear:{data.id}", data.id, ["accuracy"], store=store).record
    assert found.scores["accuracy"].value == 1
    assert found.scores["accuracy"].n == data.record.splits["test"].examples
    assert found.model.role == "baseline"
    often = evaluate(f"frequent:{data.id}", data.id, ["accuracy"], store=store).record.scores["accuracy"].value
    assert often is not None
    assert often < 0.9


def test_answers_that_are_no_labels_are_nothing_to_classify(dataset: Saved[Dataset], store: Store) -> None:
    with pytest.raises(SizewiseError, match="has no labels to learn"):
        evaluate(f"linear:{dataset.id}", dataset.id, ["chrf"], store=store)
