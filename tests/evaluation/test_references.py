"""What is measured depends on the language and the labels of the data."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from sizewise import datasets
from sizewise.evaluation import default_metrics, evaluate
from sizewise.evaluation.references import data_language, reference_set
from sizewise.store import Store
from tests.languages import PASSAGES


def _write(path: Path, rows: list[dict[str, object]]) -> Path:
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return path


def _questions(path: Path, language: str) -> Path:
    rows = [{"prompt": passage.question, "references": [passage.answer]} for passage in PASSAGES[language]]
    return _write(path, [dict(row) for row in rows])


def test_refusals_are_not_measured_in_another_language(tmp_path: Path, store: Store) -> None:
    record = evaluate("fake:echo", _questions(tmp_path / "q.jsonl", "th"), store=store).record
    for name in ("refusals", "refusals@all"):
        assert record.scores[name].value is None
        reason = record.scores[name].missing_reason or ""
        assert "Refusal rate is defined for 15 languages; the data are in Thai (th)" in reason
    assert record.scores["chrf@all"].value is not None


def test_refusals_are_measured_in_english_and_where_the_language_is_unknown(tmp_path: Path, store: Store) -> None:
    english = [
        {"prompt": f"What is the number of the desk in room {i}?", "references": [f"Desk {i}"]} for i in range(12)
    ]
    codes = [{"prompt": f"K-{i}", "references": [f"{i}"]} for i in range(12)]
    for number, rows in enumerate((english, codes)):
        record = evaluate("fake:echo", _write(tmp_path / f"{number}.jsonl", rows), store=store).record
        assert record.scores["refusals@all"].value == 0


@pytest.mark.parametrize("language", ["de", "zh", "ar"])
def test_refusals_are_measured_in_known_languages(tmp_path: Path, store: Store, language: str) -> None:
    record = evaluate("fake:echo", _questions(tmp_path / "q.jsonl", language), store=store).record
    assert record.scores["refusals@all"].value == 0


INTENTS = [f"intent {chr(97 + i // 26)}{chr(97 + i % 26)}" for i in range(77)]


def test_labels_are_labels_although_the_test_split_has_few_rows_of_each(tmp_path: Path, store: Store) -> None:
    rows = [
        {"text": f"customer message number {i}, about {INTENTS[i % 77]} and more", "label": INTENTS[i % 77]}
        for i in range(231)
    ]
    contents = datasets.load(store, datasets.read(_write(tmp_path / "intents.jsonl", rows), store=store).id)
    references = reference_set(contents)
    assert len(references.labels) == 77
    assert len(references) < 2 * 77
    metrics = default_metrics(contents)
    assert {"accuracy", "macro_f1"} <= set(metrics)


def test_a_category_beside_a_written_reply_is_no_label_to_predict(tmp_path: Path, store: Store) -> None:
    rows = [
        {
            "prompt": f"Ticket {i}: the door of cabin {i} sticks.",
            "references": [f"We oil the door of cabin {i} today."],
            "label": "door" if i % 2 else "cabin",
        }
        for i in range(40)
    ]
    contents = datasets.load(store, datasets.read(_write(tmp_path / "t.jsonl", rows), store=store, all_test=True).id)
    assert reference_set(contents).labels == ()
    assert "accuracy" not in default_metrics(contents)


def test_one_reference_that_is_no_json_is_left_out_and_counted(tmp_path: Path, store: Store) -> None:
    rows = [{"prompt": f"Bill {i}", "references": [f'{{"sum": {i}}}']} for i in range(1, 40)]
    rows.append({"prompt": "Bill 40", "references": ["none"]})
    path = _write(tmp_path / "bills.jsonl", [dict(row) for row in rows])
    record = evaluate("fake:echo", path, store=store).record
    assert record.scores["json_f1@all"].n == record.scores["json_valid@all"].n == 39
    assert record.failed == 0
    notes = [note for note in record.notes if "leaves out" in note]
    assert sorted(notes) == [
        f"{name} leaves out 1 of 40 examples: the reference answer isn't a JSON object or list."
        for name in ("json_f1", "json_valid")
    ]


def test_json_metrics_of_mixed_references_are_missing_and_say_why(tmp_path: Path, store: Store) -> None:
    rows = [{"prompt": f"Bill {i}", "references": [f'{{"sum": {i}}}' if i % 2 else f"no bill {i}"]} for i in range(40)]
    record = evaluate("fake:echo", _write(tmp_path / "b.jsonl", [dict(row) for row in rows]), store=store).record
    assert record.scores["json_f1"].value is None
    assert "20 of 40 reference answers aren't JSON" in (record.scores["json_f1"].missing_reason or "")


@pytest.mark.parametrize("language", sorted(PASSAGES))
def test_the_language_of_documents_and_examples(tmp_path: Path, store: Store, language: str) -> None:
    contents = datasets.load(
        store, datasets.read(_questions(tmp_path / "q.jsonl", language), store=store, all_test=True).id
    )
    assert data_language(contents, "test") == language
    assert data_language(contents, "train") == ""
