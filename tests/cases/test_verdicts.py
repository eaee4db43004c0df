"""What an answer states: labels, letters, numbers and verdicts among other words."""

from __future__ import annotations

import unicodedata
from collections.abc import Callable
from pathlib import Path

import pytest

from sizewise.judging import agreement
from sizewise.judging.llm_judge import read_verdict
from tests.cases.conftest import Measure, values

COUNT = 12


def _accuracy(measure: Measure, labels: list[str], said: Callable[[str], str]) -> float | None:
    rows = [{"prompt": f"Card {i}", "answer": labels[i % len(labels)]} for i in range(COUNT)]
    return values(measure(rows, [said(str(row["answer"])) for row in rows], ["accuracy"]))["accuracy"]


# the kind of inspect_ai#5145
@pytest.mark.parametrize(
    "said",
    [
        "The question is a hard one.\nAnswer: {}",
        "It is not clear at first, but the answer is {}.",
        "**Answer:** ({})",
        "{} ✅",
        "\uff08{}\uff09",
    ],
)
def test_a_letter_is_found_behind_an_opening(measure: Measure, said: str) -> None:
    assert _accuracy(measure, ["B", "C", "D"], said.format) == 1.0


FULL = {letter: chr(ord(letter) + 0xFEE0) for letter in "ABCD"}


def test_a_letter_of_full_width_is_the_same_letter(measure: Measure) -> None:
    assert _accuracy(measure, ["A", "B", "C"], FULL.__getitem__) == 1.0


@pytest.mark.parametrize(
    "said", ["I first thought of {other}. Final answer: {right}", "{other}? No, look again.\n\nAnswer: {right}"]
)
def test_a_label_that_is_ruled_out_is_not_the_answer(measure: Measure, said: str) -> None:
    labels = ["glass", "paper", "metal"]
    other = {"glass": "paper", "paper": "metal", "metal": "glass"}
    assert _accuracy(measure, labels, lambda right: said.format(right=right, other=other[right])) == 1.0


def test_a_label_inside_another_one_is_not_taken_for_it(measure: Measure) -> None:
    labels = ["spam", "not spam", "no"]
    assert _accuracy(measure, labels, lambda right: f"It is {right}, I think.") == 1.0


# the kind of deepeval PR#3096
def test_raters_agree_whatever_the_spelling_of_a_letter(tmp_path: Path) -> None:
    path = tmp_path / "labels.csv"
    labels = ("größer", "kürzer")
    lines = [f"Ida,{item},{labels[item % 2]}" for item in range(16)]
    lines += [f"Jon,{item},{unicodedata.normalize('NFD', labels[item % 2])}" for item in range(16)]
    path.write_text("\n".join(["rater,item,label", *lines]) + "\n", encoding="utf-8")
    found = agreement(path)
    assert len(found.labels) == 2
    assert found.scores["krippendorff_alpha"].value == 1.0


@pytest.mark.parametrize(
    "written",
    [
        lambda text: text.replace("fi", "\ufb01"),
        lambda text: text.replace("o", "o\u00ad"),
        lambda text: text.upper(),
    ],
    ids=["ligature", "soft hyphen", "capitals"],
)
def test_one_text_in_another_typography_is_one_answer(measure: Measure, written: Callable[[str], str]) -> None:
    rows = [{"prompt": f"Box {i}", "answer": f"the fitter's office on floor {i}"} for i in range(COUNT)]
    record = measure(rows, [written(row["answer"]) for row in rows], ["exact_match", "token_f1"])
    assert (values(record)["exact_match"], values(record)["token_f1"]) == (1.0, 1.0)


# the kind of lm-evaluation-harness#3329
@pytest.mark.parametrize(
    "said",
    [
        "Paper or metal? No, the lid.\n</think>\n\n{}",
        "<think></think>{}",
        "<thinking>\nPaper? No.\n</thinking>\n{}",
        "\n<think>Paper? <think>again</think> No.</think>\n\n{}\n",
    ],
    ids=["begun in the prompt", "empty", "thinking", "nested"],
)
def test_thoughts_in_any_dress_are_no_part_of_an_answer(measure: Measure, said: str) -> None:
    labels = ["glass", "paper", "metal"]
    rows = [{"prompt": f"Lid {i}", "answer": labels[i % 3]} for i in range(COUNT)]
    record = measure(rows, [said.format(row["answer"]) for row in rows], ["accuracy", "exact_match"])
    told = [note for note in record.notes if "think" in note.lower() or "thought" in note.lower()]
    assert told or (values(record)["accuracy"], values(record)["exact_match"]) == (1.0, 1.0)


def test_thoughts_that_never_ended_are_no_answer(measure: Measure) -> None:
    labels = ["glass", "paper", "metal"]
    rows = [{"prompt": f"Lid {i}", "answer": labels[i % 3]} for i in range(COUNT)]
    said = [f"<think>It may be {row['answer']}, so let me look at the" for row in rows]
    record = measure(rows, said, ["accuracy"])
    told = [note for note in record.notes if "think" in note.lower() or "thought" in note.lower()]
    assert told or values(record)["accuracy"] == 0.0


# the kind of helm#4337
def _f1(measure: Measure, reference: str, said: str) -> float | None:
    rows = [{"prompt": f"Bill {i}", "answer": reference} for i in range(COUNT)]
    return values(measure(rows, [said] * COUNT, ["json_f1"]))["json_f1"]


@pytest.mark.parametrize(
    ("reference", "said"),
    [
        ('{"sums": [12, 30.5]}', '{"sums": [12.0, 30.50]}'),
        ('{"a": -0.0, "b": 100000000000000000000}', '{"a": 0, "b": 1e20}'),
        ('{"share": 0.1}', '{"share": 1e-1}'),
    ],
    ids=["in a list", "large and zero", "small"],
)
def test_equal_numbers_are_equal_anywhere_in_json(measure: Measure, reference: str, said: str) -> None:
    assert _f1(measure, reference, said) == 1.0


@pytest.mark.parametrize(
    ("reference", "said"),
    [('{"paid": true}', '{"paid": 1}'), ('{"number": "007"}', '{"number": 7}'), ('{"sum": 12}', '{"sum": 12.5}')],
    ids=["true and 1", "text and number", "12 and 12.5"],
)
def test_what_is_not_equal_in_json_stays_different(measure: Measure, reference: str, said: str) -> None:
    found = _f1(measure, reference, said)
    assert found is not None
    assert found < 1.0


# the kind of FastChat PR#3921
@pytest.mark.parametrize(
    ("line", "allowed"),
    [
        ("Answer 2 is no better than answer 1.", {"left", "tie", None}),
        ("Answer 1 is not better than answer 2.", {"tie", "right", None}),
        ("1 > 2", {"left", None}),
        ("2 >> 1", {"right", None}),
        ("I cannot choose between 1 and 2.", {"tie", None}),
        ("Both miss the date, but 1 less so than 2.", {"left", None}),
        ("Winner: 1 (2 is too long)", {"left", None}),
        ("This is not a tie.", {None}),
        ("VERDICT: **1**.", {"left"}),
        ("Final verdict: answer 2", {"right"}),
    ],
)
def test_a_verdict_in_other_words_is_read_as_it_is_meant_or_not_at_all(line: str, allowed: set[str | None]) -> None:
    assert read_verdict(f"The first is short. The second is long.\n\n{line}") in allowed
