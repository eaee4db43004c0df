from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from sizewise.errors import SizewiseError
from sizewise.records import Dataset, Recipe
from sizewise.store import Saved, Store
from sizewise.training import distillation, train
from tests.training.test_training import TINY


def recorded(store: Store, dataset: str, path: Path, missing: int = 0) -> Path:
    rows = [
        json.loads(line)
        for line in (store.folder("dataset", dataset) / "train.examples.jsonl").read_text(encoding="utf-8").splitlines()
    ]
    kept = rows[missing:]
    path.write_text(
        "\n".join(json.dumps({"id": r["id"], "completion": f"A taught answer to {r['id']}, by heart."}) for r in kept),
        encoding="utf-8",
    )
    return path


def test_recorded_answers_teach(dataset: Saved[Dataset], store: Store, tmp_path: Path) -> None:
    path = recorded(store, dataset.id, tmp_path / "answers.jsonl")
    recipe = Recipe.model_validate(TINY | {"tokens": 2_000, "teacher": f"recorded:{path}", "teacher_share": 1.0})
    record = train(recipe, dataset.id, store=store).record
    assert any("wrote" in note and "training answers" in note for note in record.notes)


def test_a_teacher_that_stops_answering_keeps_what_it_said(
    dataset: Saved[Dataset], store: Store, tmp_path: Path
) -> None:
    path = recorded(store, dataset.id, tmp_path / "answers.jsonl", missing=30)
    recipe = Recipe.model_validate(TINY | {"tokens": 2_000, "teacher": f"recorded:{path}", "teacher_share": 1.0})
    with pytest.raises(SizewiseError, match="failed on") as error:
        train(recipe, dataset.id, store=store)
    assert "answers are kept" in error.value.next_step
    (kept,) = store.home.glob("checkpoint/*/teacher.jsonl")
    known = len(kept.read_text(encoding="utf-8").splitlines())
    assert known > 5
    recorded(store, dataset.id, path)  # other answers: another run
    saved = train(recipe, dataset.id, store=store)
    assert any("wrote" in note for note in saved.record.notes)
    assert len((saved.path.parent / "teacher.jsonl").read_text(encoding="utf-8").splitlines()) > known
    assert len(kept.read_text(encoding="utf-8").splitlines()) == known


def test_answers_that_failed_before_training_began_do_not_change_the_rows_when_it_resumes(
    dataset: Saved[Dataset], store: Store, tmp_path: Path
) -> None:
    from sizewise import datasets
    from sizewise.progress import Silent

    examples = datasets.load(store, dataset.id).examples["train"]
    path = recorded(store, dataset.id, tmp_path / "answers.jsonl", missing=3)
    recipe = Recipe.model_validate(TINY | {"tokens": 500, "teacher": f"recorded:{path}", "teacher_share": 1.0})
    first = distillation._from_answers(recipe, examples, tmp_path / "run" / "teacher.jsonl", store, Silent())
    recorded(store, dataset.id, path)  # now the three would be answered
    second = distillation._from_answers(recipe, examples, tmp_path / "run" / "teacher.jsonl", store, Silent())
    assert second == first
    assert 0 < len(first.answers) <= len(examples) - 3


def test_a_half_written_line_is_asked_again(tmp_path: Path) -> None:
    path = tmp_path / "teacher.jsonl"
    path.write_text('{"id": "a", "text": "x"}\n{"id": "b", "te', encoding="utf-8")
    assert distillation._saved_answers(path) == {"a": "x"}


def test_answers_that_teach_nothing_are_dropped(dataset: Saved[Dataset], store: Store) -> None:
    from sizewise import datasets

    examples = datasets.load(store, dataset.id).examples["train"][:4]
    long = "one two three four five six seven eight nine ten eleven twelve"
    answers = {
        examples[0].id: long,
        examples[1].id: long + ".",
        examples[2].id: examples[2].prompt,
        examples[3].id: "",
    }
    kept, dropped = distillation.filter_answers(examples, answers)
    assert kept == {examples[0].id: long}
    assert dropped == 3


def test_the_same_answer_to_different_questions_is_kept(dataset: Saved[Dataset], store: Store) -> None:
    """Labels and canned answers are the same for many questions."""
    from sizewise import datasets

    made = datasets.load(store, dataset.id).examples["train"]
    asked = ["Where is my parcel?", "I was charged twice last month", "The app crashes when I open the camera"]
    examples = [
        one.model_copy(update={"messages": (one.messages[0].model_copy(update={"content": text}),)})
        for one, text in zip(made, asked, strict=False)
    ]
    answers = {one.id: "Request for a refund" for one in examples}
    assert distillation.filter_answers(examples, answers) == (answers, 0)


def test_a_shared_vocabulary_teaches_token_by_token(dataset: Saved[Dataset], store: Store, tiny_folder: Path) -> None:
    values: dict[str, Any] = TINY | {"tokens": 2_000, "teacher": str(tiny_folder), "tokenizer": str(tiny_folder)}
    record = train(Recipe.model_validate(values), dataset.id, store=store).record
    assert any("likeliest tokens" in note for note in record.notes)


def test_a_teacher_whose_answers_are_all_dropped_is_refused(dataset: Saved[Dataset], store: Store) -> None:
    with pytest.raises(SizewiseError, match=r"None of the \d+ answers of fake:echo can be learned") as refused:
        train(
            Recipe.model_validate(TINY | {"tokens": 2_000, "teacher": "fake:echo", "example_share": 1.0}),
            dataset.id,
            store=store,
        )
    assert "teacher.jsonl" in refused.value.next_step


def test_answers_with_line_separators_and_a_cut_line_are_kept(tmp_path: Path) -> None:
    path = tmp_path / "answers.jsonl"
    rows = [{"id": "a", "text": "so\u2028on"}, {"id": "b", "text": "and\x85so"}]
    lines = [json.dumps(row, ensure_ascii=False) for row in rows]
    path.write_text("\n".join([*lines, '{"id": "c", "te']), encoding="utf-8")
    assert distillation._saved_answers(path) == {"a": "so\u2028on", "b": "and\x85so"}
