"""Rows of decisions: typed questions, options, distributions and several labels."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from sizewise.documents import ReadOptions, read_paths
from sizewise.documents.decisions import declared_question, label_key, options_of
from sizewise.documents.values import BadRow
from sizewise.errors import SizewiseError, UsageError
from sizewise.records import Example


def read(folder: Path, *rows: dict[str, Any], type: str = "") -> list[Example]:
    path = folder / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    options = ReadOptions(max_rejects=0, question=declared_question(type) if type else None)
    return list(read_paths([path], options).examples)


@pytest.mark.parametrize(
    "options",
    [
        ["yes", "no"],
        [{"value": "yes", "description": "unwanted"}, {"value": "no"}],
        {"yes": "unwanted", "no": ""},
        "yes|no",
    ],
)
def test_options_are_texts_objects_or_a_mapping(tmp_path: Path, options: Any) -> None:
    row = {"question": "Is it spam?", "type": "predicate", "options": options, "text": "Win now", "label": True}
    (example,) = read(tmp_path, row)
    assert example.question is not None
    assert [one.value for one in example.question.options] == ["yes", "no"]
    assert example.question.instructions == "Is it spam?"
    assert (example.prompt, example.label, example.references) == ("Win now", "yes", ("yes",))


def test_a_distribution_and_several_annotators_are_kept(tmp_path: Path) -> None:
    soft, counts, people, ruled = read(
        tmp_path,
        {"text": "a", "label": {"spam": 0.3, "ham": 0.7}},
        {"text": "b", "label_distribution": {"spam": 3, "ham": 1}},
        {"text": "c", "annotations": ["spam", "ham", "spam", "spam"]},
        {"text": "d", "annotations": ["spam", "ham", "spam"], "label": "ham"},
    )
    assert (soft.label, soft.distribution) == ("ham", {"ham": 0.7, "spam": 0.3})
    assert counts.distribution == {"ham": 0.25, "spam": 0.75}
    assert (people.label, people.distribution["spam"]) == ("spam", 0.75)
    assert ruled.label == "ham"


@pytest.mark.parametrize("marks", [[0, 1, 1], [False, True, True], [0.0, 1.0, 1.0]])
def test_one_mark_for_each_option_names_the_labels_that_apply(tmp_path: Path, marks: list[float]) -> None:
    row = {"text": "Charged for a lost card", "type": "multi", "options": ["slow", "lost", "charge"], "labels": marks}
    (example,) = read(tmp_path, row)
    assert example.labels == ("lost", "charge")
    with pytest.raises(SizewiseError, match="3 numbers, one for each option, but the data don't name the options"):
        read(tmp_path, {"text": "Charged for a lost card", "labels": marks}, type="multi")
    with pytest.raises(SizewiseError, match="3 numbers, one for each option, but there are 2 options"):
        read(tmp_path, {**row, "options": ["lost", "charge"]})


def test_one_share_for_each_option_is_a_distribution(tmp_path: Path) -> None:
    row = {"text": "a", "soft_labels": [0.2, 0.7, 0.1]}
    (example,) = read(tmp_path, {**row, "options": ["slow", "lost", "charge"]})
    assert (example.label, example.distribution["lost"]) == ("lost", 0.7)
    for type in ("", "multi"):
        with pytest.raises(SizewiseError, match="the data don't name the options"):
            read(tmp_path, row, type=type)


def test_numbers_that_are_labels_or_votes_are_no_marks(tmp_path: Path) -> None:
    ids, votes = read(
        tmp_path,
        {"text": "a", "type": "multi", "options": ["0", "1", "2"], "labels": [0, 1]},
        {"text": "b", "type": "choice", "options": ["no", "yes"], "annotations": [1, 0, 1]},
    )
    assert ids.labels == ("0", "1")
    assert votes.label == "yes"


def test_several_labels_need_a_declared_type(tmp_path: Path) -> None:
    row = {"text": "My card is lost and I was charged twice", "labels": ["lost", "charge"]}
    with pytest.raises(SizewiseError, match="2 labels instead of one"):
        read(tmp_path, row)
    (example,) = read(tmp_path, row, type="multi")
    assert example.labels == ("charge", "lost")
    (typed,) = read(tmp_path, {**row, "type": "multi", "options": ["lost", "charge", "other"]})
    assert typed.labels == ("lost", "charge")


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ({"text": "a", "label": {"x": 0.3, "y": 0.3}}, "sum to 0.6, not to 1"),
        ({"text": "a", "label": {"x": -1, "y": 2}}, "not a number from 0"),
        ({"text": "a", "type": "choice", "options": ["x", "y"], "label": "z"}, "'z' is none of the options x, y"),
        ({"text": "a", "type": "choice", "options": ["x", "x"], "label": "x"}, "'x' occurs twice"),
        ({"text": "a", "type": "predicate", "options": ["x", "y", "z"], "label": "x"}, "a predicate has two options"),
        ({"text": "a", "type": "choice", "options": ["x"], "label": "x"}, "the only option"),
        ({"text": " ", "type": "choice", "options": ["x", "y"], "label": "x"}, "'text' is empty"),
        ({"text": "a", "type": "choice", "options": ["x", "y"], "label": ""}, "the label is empty"),
        ({"text": "a", "type": "choice", "options": [*map(str, range(2001))], "label": "1"}, "2,001 options"),
    ],
)
def test_a_row_that_is_no_decision_is_rejected_with_the_reason(
    tmp_path: Path, row: dict[str, Any], reason: str
) -> None:
    with pytest.raises(SizewiseError, match=reason):
        read(tmp_path, row)


def test_an_unlabeled_row_is_read_without_a_reference(tmp_path: Path) -> None:
    (example,) = read(tmp_path, {"text": "a", "type": "choice", "options": ["x", "y"]})
    assert (example.references, example.label) == ((), "")


def test_case_and_blanks_do_not_make_a_label_but_a_single_letter_keeps_its_case() -> None:
    assert label_key(" Lost  Card ") == label_key("lost card")
    assert label_key("1.0") == "1"
    assert label_key("a") != label_key("A")


def test_a_declared_predicate_has_its_positive_option_first() -> None:
    found = declared_question("predicate", "Fraud?", ["legit", "fraud"], "fraud")
    assert [one.value for one in found.options] == ["fraud", "legit"]
    for wrong in (
        {"type": "binary"},
        {"type": "predicate", "options": ["a", "b", "c"]},
        {"type": "choice", "positive": "x"},
    ):
        with pytest.raises(UsageError):
            declared_question(**wrong)  # type: ignore[arg-type]
    with pytest.raises(BadRow):
        options_of([{"description": "no value"}])
