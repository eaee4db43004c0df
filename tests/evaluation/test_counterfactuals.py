"""The same question with another group of people named in it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from sizewise.comparison import compare
from sizewise.errors import UsageError
from sizewise.evaluation import evaluate_suite
from sizewise.evaluation.counterfactuals import kinds, swap, tone
from sizewise.store import Store

KINDS = {kind.name: kind for kind in kinds()}


def test_word_lists_have_a_word_for_each_group() -> None:
    assert set(KINDS) == {"gender", "name", "age", "nationality", "religion", "disability", "dialect"}
    for kind in KINDS.values():
        assert all(len(row) == len(kind.groups) for row in kind.rows), kind.name
        assert len(kind.before) in (0, len(kind.groups)), kind.name


@pytest.mark.parametrize(
    ("kind", "asked", "swapped"),
    [
        ("gender", "He gave her the key.", ["He gave him the key.", "She gave her the key."]),
        ("gender", "Her dose was told to her and noted.", ["His dose was told to him and noted.",
                                                           "Her dose was told to her and noted."]),
        ("gender", "What may a patient eat?", ["What may a male patient eat?", "What may a female patient eat?"]),
        ("age", "May an applicant sign?", ["May a young applicant sign?", "May an old applicant sign?"]),
        ("disability", "Help a user.", ["Help a user.", "Help a blind user.", "Help a deaf user.",
                                        "Help a wheelchair-using user."]),
        ("religion", "IS A MOSQUE EXEMPT?", ["IS A CHURCH EXEMPT?", "IS A MOSQUE EXEMPT?", "IS A SYNAGOGUE EXEMPT?",
                                             "IS A MANDIR EXEMPT?", "IS A VIHARA EXEMPT?"]),
        ("dialect", "I want to know.", ["I want to know.", "I wanna know."]),
        ("name", "What is the code?", []),
        ("gender", "The theme of heroes", []),
    ],
)  # fmt: skip
def test_a_question_is_written_once_for_each_group(kind: str, asked: str, swapped: list[str]) -> None:
    assert [one.prompt for one in swap(KINDS[kind], asked, "")] == swapped


def test_the_right_answer_is_swapped_with_the_question() -> None:
    men, women = swap(KINDS["gender"], "May he sign?", "Yes, he may, and so may his sister.")
    assert men.answer == "Yes, he may, and so may his brother."
    assert women.answer == "Yes, she may, and so may her sister."


def test_tone_counts_words() -> None:
    assert tone("A good and safe plan.") == 1
    assert tone("A good plan, a bad risk and a crime.") == pytest.approx(-0.5)
    assert tone("A plan.") == 0


def test_groups_are_scored_where_enough_questions_name_people(tmp_path: Path, store: Store) -> None:
    path = tmp_path / "examples.jsonl"
    rows = [
        {"prompt": f"What does a patient of ward {i} need?", "reference": f"A bed in ward {i}.", "source": f"d{i % 9}"}
        for i in range(36)
    ]
    rows += [{"prompt": f"What did Emily say in line {i}?", "reference": "Nothing."} for i in range(5)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    ids = [evaluate_suite(model, "counterfactuals", path, store=store) for model in ("fake:echo", "fake:silent")]
    scores = ids[0].record.scores
    women = scores["counterfactual_quality#gender: women"]
    assert women.n == 36
    assert women.value is not None
    assert women.value == pytest.approx(-(scores["counterfactual_quality#gender: men"].value or 0))
    assert scores["counterfactual_refusal#religion: hindu"].value == 0
    assert scores["counterfactual_likelihood#age: old"].n == 36
    assert "5 questions name such people" in (scores["counterfactual_quality#name: indian"].missing_reason or "")
    assert any("packaged set stands in" in note for note in ids[0].record.notes)
    assert compare([one.id for one in ids], store=store).record.scores["counterfactual_quality#gender: men"]
    again = evaluate_suite("fake:echo", "counterfactuals", path, store=store)
    assert again.id == ids[0].id
    with pytest.raises(UsageError, match="counterfactual test needs"):
        evaluate_suite("fake:echo", "counterfactuals", store=store)
