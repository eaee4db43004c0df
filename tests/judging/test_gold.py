"""Gold tasks have exactly one acceptable answer."""

from __future__ import annotations

from sizewise.judging.gold import is_distinct, make_gold
from sizewise.records import ItemRow


def row(number: int, reference: str | None, prompt: str = "") -> ItemRow:
    return ItemRow(
        item=f"q{number}", kind="example", cluster=f"d{number}", prompt=prompt or f"Question {number}?",
        references=(reference,) if reference is not None else (), completion="x", uncontaminated=True,
    )  # fmt: skip


def known(rows: list[ItemRow]) -> list[tuple[ItemRow, None]]:
    return [(one, None) for one in rows]


def test_texts_that_may_both_be_right_are_not_distinct() -> None:
    for one, other in (("Yes.", "yes"), ("Paris", "Paris, France"), ("30 days from today", "30 days"), ("a b", "ab")):
        assert not is_distinct(one, other)
    for one, other in (("yes", "no"), ("Paris", "Berlin"), ("\u662f", "\u4e0d")):
        assert is_distinct(one, other)


def test_no_gold_task_shows_two_acceptable_answers() -> None:
    answers = ["yes", "no", "Yes.", "maybe", "no!"]
    rows = [row(i, answers[i % 5]) for i in range(30)]
    for kind, choices in (("pair", 2), ("best", 3)):
        gold = make_gold(known(rows), [], True, kind, choices, 10)  # type: ignore[arg-type]
        assert len(gold.tasks) == 10
        assert not gold.notes
        for task in gold.tasks:
            words = {text.strip(".!").lower() for _, text in task.answers}
            assert len(words) == choices
            right = task.winner(task.right_choice)
            assert right == "reference"


def test_a_reference_of_the_same_prompt_is_never_the_wrong_answer() -> None:
    rows = [row(0, "red", "Name a color."), row(1, "blue", "name a color")]
    gold = make_gold(known(rows), [], True, "pair", 2, 1)
    assert gold.tasks == []
    assert "0 of 1 gold tasks" in gold.notes[0]


def test_too_few_decidable_cases_are_fewer_tasks_and_a_note() -> None:
    gold = make_gold(known([row(i, "yes" if i else "no") for i in range(3)]), [], True, "pair", 2, 5)
    assert 0 < len(gold.tasks) < 5
    assert f"{len(gold.tasks)} of 5 gold tasks" in gold.notes[0]
    none = make_gold(known([*(row(i, "yes") for i in range(9)), row(9, None)]), [row(10, "Yes")], True, "pair", 2, 2)
    assert none.tasks == []
    assert "attention of raters isn't checked" in none.notes[0]
