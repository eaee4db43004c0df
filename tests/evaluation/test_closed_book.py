"""Closed-book questions on general knowledge."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from sizewise.comparison import compare
from sizewise.errors import SizewiseError
from sizewise.evaluation import evaluate_suite
from sizewise.evaluation.closed_book import SHOTS, general_knowledge, is_right, knowledge_request
from sizewise.evaluation.rescoring import rescore
from sizewise.models.fake import FakeModel
from sizewise.records import Completion, ItemRow
from sizewise.store import Store

ITEMS = general_knowledge(None)
ANSWERS = {item.id: [part.text.strip() for part in item.texts] for item in ITEMS}


def test_there_are_enough_questions_of_each_kind_and_none_repeats() -> None:
    kinds = Counter(item.group for item in ITEMS)
    assert set(kinds) == {"science", "history", "geography", "everyday"}
    assert min(kinds.values()) >= 60
    assert len({item.question for item in ITEMS}) == len(ITEMS) >= 240
    assert not {question for question, _ in SHOTS} & {item.question for item in ITEMS}


def test_every_form_of_every_answer_is_accepted() -> None:
    refused = [
        (item.question, form, said)
        for item in ITEMS
        for form in ANSWERS[item.id]
        for said in (form, f"The answer is {form}, of course.")
        if not is_right(said, ANSWERS[item.id], item.question)
    ]
    assert not refused


def test_the_answers_to_other_questions_are_wrong() -> None:
    others = {item.id: [ANSWERS[ITEMS[(i + step) % len(ITEMS)].id][0] for step in (1, 7, 61, 122, 183)]
              for i, item in enumerate(ITEMS)}  # fmt: skip
    taken = [
        (item.question, other)
        for item in ITEMS
        for other in others[item.id]
        if other not in ANSWERS[item.id] and is_right(other, ANSWERS[item.id], item.question)
    ]
    assert not taken


@pytest.mark.parametrize(
    ("said", "right"),
    [
        ("Paris", True),
        ("The capital of France is Paris.", True),
        ("It is not Paris, it is Lyon.", False),
        ("I don't know.", False),
        ("", False),
        ("Parisian", False),
        ("Lyon " * 80 + "Paris", False),
    ],
)
def test_answers_are_read_with_denials_and_refusals(said: str, right: bool) -> None:
    assert is_right(said, ["Paris"], "What is the capital of France?") is right


def test_two_models_are_compared_on_general_knowledge(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    nothing = evaluate_suite("fake:silent", "general-knowledge", store=store)
    assert nothing.record.scores["general_knowledge"].value == 0

    def knows(self: FakeModel, requests: list[object]) -> object:
        for request in requests:
            said = ANSWERS[request.id][-1] if int(request.id.rpartition("-")[2]) % 2 else "no idea"  # type: ignore[attr-defined]
            yield Completion(
                id=request.id, text=said, prompt_tokens=1, completion_tokens=1, seconds=0.0, finish="stop"  # type: ignore[attr-defined]
            )  # fmt: skip

    monkeypatch.setattr(FakeModel, "complete", knows)
    half = evaluate_suite("fake:echo", "general-knowledge", store=store)
    score = half.record.scores["general_knowledge"]
    assert score.value is not None
    assert 0.45 < score.value < 0.55
    assert score.n == len(ITEMS)
    assert "closed book|form:chat" in score.signature
    assert half.record.scores["general_knowledge#history"].n == 60
    (first, *_) = compare([half.id, nothing.id], store=store).record.differences
    assert first.better == "fake:echo"
    rows = store.read_rows(store.folder("evaluation", half.id), "items.jsonl", ItemRow)
    assert rescore(store, half.record, rows).measured == len(ITEMS)
    assert not rescore(store, half.record, rows).differing


def test_a_model_without_a_chat_template_gets_worked_examples() -> None:
    request = knowledge_request(ITEMS[0], chat=False)
    assert request.text is not None
    assert request.text.count("Answer:") == len(SHOTS) + 1
    assert request.text.endswith(f"Question: {ITEMS[0].question}\nAnswer:")
    assert knowledge_request(ITEMS[0], chat=True).messages[0].content.startswith(ITEMS[0].question)


def test_own_questions_are_read_and_bad_files_refused(tmp_path: Path, store: Store) -> None:
    path = tmp_path / "own.toml"
    path.write_text('house = [["Who founded us?", "Ada", "Ada Lovelace"]]', encoding="utf-8")
    assert (
        evaluate_suite("fake:silent", "general-knowledge", path, store=store).record.scores["general_knowledge"].n == 1
    )
    for bad in ("house = [['Who?']]", "house = 3", "house = [[1, 2]]", "not toml"):
        path.write_text(bad, encoding="utf-8")
        with pytest.raises(SizewiseError, match="isn't a valid file of questions"):
            evaluate_suite("fake:silent", "general-knowledge", path, store=store)
