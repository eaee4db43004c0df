"""Questions about studied documents: how many answers stand there word for word, and which question a score answers."""

from __future__ import annotations

import pytest

from sizewise.datasets.studied import count_verbatim, question_of
from sizewise.documents.reading import make_document
from sizewise.records import Document, Example, Message
from tests.datasets.test_splits import build_by


def example(number: int, *answers: str) -> Example:
    asked = (Message(role="user", content=f"What is known about the house {number}?"),)
    return Example(id=f"e{number}", messages=asked, references=answers, source=f"d{number}")


def document(number: int, text: str) -> Document:
    return make_document(f"d{number}", "", text, "x")


@pytest.mark.parametrize(
    ("answer", "stands"),
    [
        ("The roof is red.", True),
        ("the ROOF\nis red", True),
        ("red", True),
        ("is red. It has two chimneys", True),  # over the end of a paragraph
        ("The roof is blue.", False),
        ("The roof is red and old.", False),
        ("roof red", False),
        ("", False),
        ("...", False),
    ],
)
def test_an_answer_counts_if_its_words_stand_there_in_order(answer: str, stands: bool) -> None:
    texts = [document(1, "A house.\n\nThe roof is red.\n\nIt has two chimneys."), document(2, "Another house.")]
    assert count_verbatim(texts, [example(1, answer)]) == int(stands)


def test_any_reference_counts_and_an_example_counts_once() -> None:
    texts = [document(1, "The roof is red. The roof is red."), document(2, "屋根は赤いです。煙突は二本あります。")]
    rows = [example(1, "blue", "the roof is red"), example(2, "煙突は二本あります"), example(3, "green")]
    assert count_verbatim(texts, rows) == 2
    assert count_verbatim([], rows) == 0
    assert count_verbatim(texts, []) == 0


def test_a_dataset_says_which_question_it_answers() -> None:
    texts = [document(i, f"The number of the house {i} is {i * 31}, said the owner of it.") for i in range(20)]
    rows = [example(i, f"the house {i} is {i * 31}" if i % 2 else f"It is {i}th.") for i in range(20)]
    studied = build_by("questions", rows, texts).record
    test = [row.id for row in build_by("questions", rows, texts).examples["test"]]
    verbatim = sum(int(name[1:]) % 2 for name in test)
    assert studied.contamination.verbatim_answers == verbatim
    assert 0 < verbatim < len(test)
    assert f"{verbatim} of {len(test)} reference answers" in question_of(studied)
    assert "unseen questions about documents that trained candidates have studied" in question_of(studied)
    assert any("stand word for word in the documents that models study" in note for note in studied.notes)
    held_out = build_by("documents", rows, texts).record
    assert held_out.contamination.verbatim_answers is None
    assert "held out from training" in question_of(held_out)
    assert question_of(build_by("documents", [], texts).record) == ""  # a proxy says what it is already
