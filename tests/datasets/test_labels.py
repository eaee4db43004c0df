"""Labels of a dataset: spellings joined, the question found, and doubtful labels reported."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest

from sizewise.datasets import DatasetContents, load, read
from sizewise.datasets.label_report import label_lines
from sizewise.documents import ReadOptions
from sizewise.documents.decisions import declared_question
from sizewise.errors import SizewiseError
from sizewise.records import LabelReport
from sizewise.store import Store
from sizewise.text import positive_first

TOPICS = {
    "card": "card lost stolen replace block pin plastic arrive",
    "transfer": "transfer send money abroad recipient iban pending wire",
    "fee": "fee charge cost price monthly expensive refund plan",
}


def contents(folder: Path, rows: list[dict[str, Any]], type: str = "", **options: Any) -> DatasetContents:
    folder.mkdir(exist_ok=True)
    path = folder / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    store = Store(folder / "home")
    question = declared_question(type) if type else None
    return load(store, read([path], store=store, options=ReadOptions(question=question), **options).id)


def report(found: DatasetContents) -> LabelReport:
    assert found.record.labels is not None
    return found.record.labels


def topical(count: int, seed: int = 0) -> list[dict[str, Any]]:
    rng = random.Random(seed)
    rows = []
    for i in range(count):
        label = sorted(TOPICS)[i % 3]
        words = rng.sample(TOPICS[label].split(), 4)
        rows.append({"id": f"q{i}", "text": f"{' '.join(words)} {i} {rng.randrange(10**6)}", "label": label})
    return rows


def plain(count: int, labels: list[str]) -> list[dict[str, Any]]:
    rng = random.Random(1)
    return [
        {"text": f"note {rng.randrange(10**9)} about {rng.randrange(10**9)}", "label": labels[i % len(labels)]}
        for i in range(count)
    ]


def test_planted_label_errors_are_listed_first(tmp_path: Path) -> None:
    rows = topical(150)
    for i in (3, 40, 77, 110):
        rows[i]["label"] = "fee" if rows[i]["label"] != "fee" else "card"
    found = contents(tmp_path, rows)
    planted = {"q3", "q40", "q77", "q110"}
    first = found.label_errors[:3]
    assert {error.item for error in first} <= planted
    for error in first:
        assert error.suggested == sorted(TOPICS)[int(error.item[1:]) % 3]
        assert error.label == rows[int(error.item[1:])]["label"]
    assert report(found).likely_errors is not None
    assert report(found).searched == 150
    assert any(line.startswith("likely label errors: ") for line in label_lines(report(found)))


def test_a_small_dataset_is_not_searched_and_says_why(tmp_path: Path) -> None:
    found = report(contents(tmp_path, plain(40, ["a1", "b1"])))
    assert found.likely_errors is None
    assert "at least 100 examples" in found.missing_reason


def test_spellings_of_a_label_are_joined_with_a_note(tmp_path: Path) -> None:
    found = contents(tmp_path, plain(60, ["Lost card", "lost  card", "Lost card", "fee"]))
    assert report(found).joined == {"lost  card": "Lost card"}
    assert report(found).counts == {"Lost card": 45, "fee": 15}
    assert any("were joined: 'lost  card' (15) with 'Lost card'" in note for note in found.record.notes)
    assert {example.references[0] for example in found.examples["train"]} == {"Lost card", "fee"}
    assert found.record.question is not None
    assert found.record.question.values == ("Lost card", "fee")


def test_labels_that_are_ambiguous_are_reported_but_stay_apart(tmp_path: Path) -> None:
    found = report(contents(tmp_path, plain(60, ["a", "A", "lost_card", "lost card"])))
    assert found.joined == {}
    assert found.alike == (("A", "a"), ("lost card", "lost_card"))


def test_blanks_around_a_label_are_taken_off_with_a_note(tmp_path: Path) -> None:
    found = contents(tmp_path, plain(60, [" spam", "ham"]))
    assert report(found).counts == {"ham": 30, "spam": 30}
    assert any("30 rows whose label had blanks around it" in note for note in found.record.notes)


@pytest.mark.parametrize(
    ("labels", "kind", "values"),
    [
        (["ham", "spam"], "predicate", ("spam", "ham")),
        (["false", "true"], "predicate", ("true", "false")),
        (["no", "yes"], "predicate", ("yes", "no")),
        (["0", "1"], "predicate", ("1", "0")),
        (["not fraud", "fraud"], "predicate", ("fraud", "not fraud")),
        (["cat", "dog"], "choice", ("cat", "dog")),
        (["10", "9", "1"], "choice", ("1", "9", "10")),
        (["退款", "卡丢失"], "choice", ("卡丢失", "退款")),
    ],
)
def test_the_question_is_found_in_the_labels(
    tmp_path: Path, labels: list[str], kind: str, values: tuple[str, ...]
) -> None:
    question = contents(tmp_path, plain(60, labels)).record.question
    assert question is not None
    assert (question.type, question.values) == (kind, values)


def test_booleans_and_whole_numbers_of_different_files_are_one_label(tmp_path: Path) -> None:
    rows = plain(60, ["1", "0"])
    for row in rows[:10]:
        row["label"] = float(row["label"])
    assert report(contents(tmp_path, rows)).joined == {"0.0": "0", "1.0": "1"}


def test_one_class_is_no_question(tmp_path: Path) -> None:
    found = contents(tmp_path, plain(60, ["spam"]))
    assert found.record.question is None
    assert any("nothing to classify" in note for note in found.record.notes)


def test_rare_and_unseen_labels_and_imbalance_are_reported(tmp_path: Path) -> None:
    rows = [row | {"split": "train"} for row in plain(60, ["spam"])]
    rows += [{"text": f"ordinary message {i * 7919}", "label": "ham", "split": "train"} for i in range(5)]
    rows += [{"text": "a unique text of a rare class", "label": "scam", "split": "test"}]
    rows += [{"text": f"held out text {i * 104729}", "label": "spam", "split": "test"} for i in range(5)]
    found = contents(tmp_path, rows, split="given")
    assert report(found).singletons == ("scam",)
    assert report(found).unseen == {"scam": 1}
    assert report(found).imbalance == 65
    assert any("no model that is trained here can predict it" in note for note in found.record.notes)
    assert any(line.startswith("imbalanced: 'spam' is 65 times") for line in label_lines(report(found)))


def test_the_same_text_with_different_labels_is_a_conflict(tmp_path: Path) -> None:
    rows = [
        *plain(60, ["card", "fee"]),
        *({"id": f"c{i}", "text": "Where is it?", "label": label} for i, label in enumerate(("card", "fee"))),
    ]
    rows.append({"id": "c2", "text": "where is it", "label": "fee"})
    found = contents(tmp_path, rows)
    assert (report(found).conflicts, report(found).conflicting_examples) == (1, 3)
    doubtful = {
        error.item: (error.label, error.suggested) for error in found.label_errors if error.reason == "same text"
    }
    assert doubtful["c0"] == ("card", "fee")


def test_shared_questions_move_to_the_dataset_and_different_ones_into_the_prompts(tmp_path: Path) -> None:
    typed = {"type": "choice", "question": "Which team?", "options": [{"value": "a1", "description": "first"}, "b1"]}
    shared = contents(tmp_path / "one", [row | typed for row in plain(40, ["a1", "b1"])])
    assert shared.record.question is not None
    assert shared.record.question.instructions == "Which team?"
    assert shared.record.question.options[0].description == "first"
    assert all(example.question is None and not example.choices for example in shared.examples["train"])
    other = typed | {"question": "Which floor?"}
    mixed = contents(
        tmp_path / "two", [row | (typed if i % 2 else other) for i, row in enumerate(plain(40, ["a1", "b1"]))]
    )
    assert mixed.record.question is None
    assert all(example.prompt.endswith(("Which team?", "Which floor?")) for example in mixed.examples["train"])
    assert mixed.examples["train"][0].choices == ("a1", "b1")


def test_a_distribution_is_kept_through_the_splits(tmp_path: Path) -> None:
    rows = [
        {"text": row["text"], "label_distribution": {"Spam": 2, "ham": 1} if i % 2 else {"ham": 1, "spam": 1}}
        for i, row in enumerate(plain(60, ["x"]))
    ]
    found = contents(tmp_path, rows)
    assert (report(found).distributions, report(found).ties) == (60, 30)
    assert {round(sum(one.distribution.values()), 9) for one in found.examples["train"]} == {1.0}


def test_several_labels_may_apply_if_declared(tmp_path: Path) -> None:
    rows = [
        {"text": row["text"], "labels": ["a1", "b1"] if i % 2 else ["b1"]} for i, row in enumerate(plain(60, ["x"]))
    ]
    found = contents(tmp_path, rows, type="multi")
    assert report(found).counts == {"b1": 60, "a1": 30}
    assert found.record.question is not None
    assert found.record.question.type == "multi"


def test_a_predicate_needs_two_labels(tmp_path: Path) -> None:
    with pytest.raises(SizewiseError, match="declared a predicate, but the data have 3 labels"):
        contents(tmp_path, plain(60, ["a1", "b1", "c1"]), type="predicate")


def test_opposites_are_recognized() -> None:
    assert positive_first(["non-compliant", "compliant"]) == ["compliant", "non-compliant"]
    assert positive_first(["urgent", "normal"]) is None


def test_what_programs_write_for_no_label_is_noted_and_sorts_as_a_word(tmp_path: Path) -> None:
    rows = [{"text": f"number {i}", "label": ("2", "nan", "10", "b")[i % 4]} for i in range(40)]
    found = contents(tmp_path / "a", rows)
    assert found.record.question is not None
    assert found.record.question.values == ("2", "10", "b", "nan")
    assert any("may stand for a missing label" in note and "'nan' (10)" in note for note in found.record.notes)
    declared = [row | {"options": ["2", "nan", "10", "b"]} for row in rows]
    assert not any("missing label" in note for note in contents(tmp_path / "b", declared).record.notes)


def test_minus_one_beside_numbered_classes_may_be_no_label(tmp_path: Path) -> None:
    for name, labels, noted in (
        ("a", ("0", "1", "2", "-1"), True),
        ("b", ("0", "1", "3", "-1"), False),
        ("c", ("1", "-1"), False),
    ):
        rows = [{"text": f"number {i}", "label": labels[i % len(labels)]} for i in range(40)]
        notes = contents(tmp_path / name, rows).record.notes
        assert any("may stand for a missing label" in note and "'-1' (10)" in note for note in notes) == noted


def test_labels_in_letters_of_another_width_are_reported(tmp_path: Path) -> None:
    rows = [{"text": f"number {i}", "label": ("CO2", "\uff23\uff2f2")[i % 2]} for i in range(40)]
    assert report(contents(tmp_path, rows)).alike == (("CO2", "\uff23\uff2f2"),)


def test_invisible_characters_make_no_label_and_are_shown(tmp_path: Path) -> None:
    found = contents(tmp_path, plain(60, ["spam\u200b", "spam\u200b", "spam", "ham"]))
    assert report(found).counts == {"spam": 45, "ham": 15}
    assert any(r"'spam\u200b' (30) with 'spam'" in note for note in found.record.notes)


def test_accents_and_leading_zeros_are_reported_as_spellings(tmp_path: Path) -> None:
    found = report(contents(tmp_path, plain(60, ["R\u00e9clamation", "Reclamation", "01", "1", "1.5", "15"])))
    assert found.alike == (("01", "1"), ("Reclamation", "R\u00e9clamation"))


def test_labels_that_look_like_lists_are_noted(tmp_path: Path) -> None:
    found = contents(tmp_path, plain(60, ["late;urgent", "late", "damaged ; urgent", "damaged"]))
    assert any("2 of 4 labels look like lists" in note and "--type multi" in note for note in found.record.notes)
    apart = contents(tmp_path / "apart", plain(60, ["Delivery, late", "Refund", "Card, lost"]))
    assert not any("look like lists" in note for note in apart.record.notes)


def test_texts_that_contain_their_label_are_noted(tmp_path: Path) -> None:
    labels = ["Spam", "ham", "phishing"]
    rows = [row | {"text": f"{row['text']} Category: {row['label'].lower()}."} for row in plain(60, labels)]
    assert any("60 of 60 texts contain their own label" in note for note in contents(tmp_path, rows).record.notes)
    for end in (" One of spam, ham, phishing.", ""):  # the options are no leak
        rows = [row | {"text": row["text"] + end} for row in plain(60, labels)]
        notes = contents(tmp_path / f"x{len(end)}", rows).record.notes
        assert not any("own label" in note for note in notes)


def test_long_and_broken_labels_take_one_short_line(tmp_path: Path) -> None:
    found = report(contents(tmp_path, plain(60, ["word\n" * 300, "ham"])))
    assert all(len(line) < 300 and "\n" not in line for line in label_lines(found))


@pytest.mark.parametrize(
    ("labels", "ordered"),
    [
        (["high", "low", "medium"], ("low", "medium", "high")),
        (["10 - best", "1 - poor", "2 - fair"], ("1 - poor", "2 - fair", "10 - best")),
        (["P10", "P2", "P1"], ("P1", "P2", "P10")),
        (["sehr gut", "gut", "ungenügend"], ("ungenügend", "gut", "sehr gut")),
        (["Strongly_agree", "disagree", "neutral"], ("disagree", "neutral", "Strongly_agree")),
        (["1e3", "20", "3"], ("3", "20", "1e3")),
    ],
)
def test_levels_of_a_score_are_in_their_order(tmp_path: Path, labels: list[str], ordered: tuple[str, ...]) -> None:
    found = contents(tmp_path, plain(60, labels), type="score")
    assert found.record.question is not None
    assert found.record.question.values == ordered
    assert not any("alphabetical" in note for note in found.record.notes)


@pytest.mark.parametrize("labels", [["calm", "angry", "furious"], ["1,000 EUR", "500 EUR", "20 EUR"], ["<10", "10-20"]])
def test_levels_whose_order_is_unknown_are_noted(tmp_path: Path, labels: list[str]) -> None:
    notes = contents(tmp_path, plain(60, labels), type="score").record.notes
    assert any("order of these levels" in note for note in notes)


def test_labels_that_join_other_labels_are_noted_unless_several_apply(tmp_path: Path) -> None:
    labels = ["billing", "tech", "billing; tech", "Tech,billing", "parts; labor"]
    notes = contents(tmp_path / "a", plain(100, labels)).record.notes
    (note,) = [one for one in notes if "consist of other labels" in one]
    assert "'Tech,billing' (20), 'billing; tech' (20)." in note
    assert not any(
        "consist of" in one for one in contents(tmp_path / "b", plain(100, labels), type="multi").record.notes
    )


def test_another_word_is_no_opposite() -> None:
    assert positive_first(["voice", "invoice"]) is None
    assert positive_first(["passport", "sport"]) is None
    assert positive_first(["invalid", "valid"]) == ["valid", "invalid"]


def test_words_of_other_letters_stay_apart(tmp_path: Path) -> None:
    found = contents(tmp_path, plain(90, ["Masse", "Maße", "MASSE"]))
    assert report(found).counts == {"MASSE": 60, "Maße": 30}
    assert report(found).alike == (("MASSE", "Maße"),)


def test_a_label_that_is_several_others_is_refused_where_several_apply(tmp_path: Path) -> None:
    rows = [{"text": f"note {i}", "label": (["a; b", "c"], ["a", "b"])[i % 2]} for i in range(40)]
    with pytest.raises(SizewiseError, match="'a; b' can't be told from the labels 'a' and 'b'"):
        contents(tmp_path / "a", rows, type="multi")
    apart = [{"text": f"note {i}", "label": (["a; b", "c"], ["a"])[i % 2]} for i in range(40)]
    assert report(contents(tmp_path / "b", apart, type="multi")).counts == {"a": 20, "a; b": 20, "c": 20}


def test_a_comma_separates_labels_only_where_nothing_else_does(tmp_path: Path) -> None:
    found = contents(tmp_path, plain(60, ["Food, Beverage; Retail", "Retail, Food", "Beverage"]), type="multi")
    assert report(found).counts == {"Retail": 40, "Beverage": 20, "Food": 20, "Food, Beverage": 20}
    (note,) = [one for one in found.record.notes if "consist of other labels" in one]
    assert "'Food, Beverage' (20)" in note
    assert "Separate the labels of a text with ';'" in note


def test_lists_as_programs_write_them_into_a_cell_are_several_labels(tmp_path: Path) -> None:
    labels = ["['a', \"b; c\"]", '["a"]', "['d']"]
    found = contents(tmp_path / "a", plain(60, labels), type="multi")
    assert report(found).counts == {"a": 40, "b; c": 20, "d": 20}
    with pytest.raises(SizewiseError, match="looks like a list but isn't one"):
        contents(tmp_path / "b", plain(60, ["['a' 'b']", "['a']"]), type="multi")
    with pytest.raises(SizewiseError, match="'label' is empty"):
        contents(tmp_path / "c", plain(60, ["[]", "['a']"]), type="multi")
    placed = [row | {"options": ["x", "y"], "type": "multi"} for row in plain(60, ["[1, 0]", "[1, 1]"])]
    assert report(contents(tmp_path / "e", placed, type="multi")).counts == {"x": 60, "y": 30}
    notes = contents(tmp_path / "d", plain(60, ["['a', 'd']", "['a']", "['d']"])).record.notes
    assert any("consist of other labels" in note for note in notes)


def test_yes_in_several_words_is_noted(tmp_path: Path) -> None:
    found = contents(tmp_path, plain(40, ["Ja", "yes", "1", "Nein"]))
    (note,) = [note for note in found.record.notes if "mean the same" in note]
    assert "'1' (10), 'Ja' (10), 'yes' (10)" in note
    assert not [note for note in contents(tmp_path, plain(40, ["Ja", "Nein"])).record.notes if "mean the same" in note]


def test_letters_that_look_alike_are_shown_by_their_codes(tmp_path: Path) -> None:
    found = contents(tmp_path, plain(40, ["ok", "\u043e\u043a", "fraud"]))
    (line,) = [line for line in label_lines(report(found)) if "two spellings" in line]
    assert line.endswith(r"'ok' and '\u043e\u043a'")


@pytest.mark.parametrize(("rare", "is_noted"), [(4, True), (5, False)])
def test_labels_that_are_hardly_tested_are_named(tmp_path: Path, rare: int, is_noted: bool) -> None:
    rows = [row | {"split": ("train", "test")[i % 2]} for i, row in enumerate(plain(60, ["ham"]))]
    rows += [{"text": f"case of its own {i * 7919}", "label": "scam", "split": "test"} for i in range(rare)]
    rows += [{"text": f"other case of its own {i * 104729}", "label": "scam", "split": "train"} for i in range(5)]
    notes = [note for note in contents(tmp_path, rows, split="given").record.notes if "too few to tell" in note]
    assert [note.endswith(f"recognized: 'scam' ({rare}).") for note in notes] == [True] * is_noted
