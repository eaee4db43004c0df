"""Labeling with a committee: votes are kept, people's labels are taken back, and nothing is asked twice."""

from __future__ import annotations

import csv
import json
import random
from pathlib import Path

import pytest

from sizewise import datasets
from sizewise.cli.label import _print
from sizewise.errors import SizewiseError, UsageError
from sizewise.records import Labeling, ModelDescription, Option, Question
from sizewise.store import Store
from sizewise.synthesis.label_files import LabelOptions, ask_path, journal_path
from sizewise.synthesis.labeling import _check_options, label_texts

LABELS = ("card", "fee", "transfer")
QUESTION = Question(options=tuple(Option(value=label) for label in LABELS))


@pytest.fixture
def truth(tmp_path: Path) -> dict[str, str]:
    """Write texts without labels, and recorded answers of models that are right in 95, 80 and 60 of 100 cases."""
    rng = random.Random(5)
    true = {f"t{i}": rng.choice(LABELS) for i in range(120)}
    rows = "".join(json.dumps({"id": name, "prompt": f"text {name} {rng.random()}"}) + "\n" for name in true)
    (tmp_path / "texts.jsonl").write_text(rows, encoding="utf-8")
    for model, share in (("good", 0.95), ("fair", 0.8), ("poor", 0.6)):
        answers = ((name, label if rng.random() < share else rng.choice(LABELS)) for name, label in true.items())
        lines = (json.dumps({"id": name, "completion": answer.upper()}) + "\n" for name, answer in answers)
        (tmp_path / f"{model}.jsonl").write_text("".join(lines), encoding="utf-8")
    return true


def label(folder: Path, *models: str, ask: int = 10, question: Question | None = QUESTION) -> Labeling:
    return label_texts(
        [folder / "texts.jsonl"],
        [f"recorded:{folder / model}.jsonl" for model in models],
        folder / "labels.jsonl",
        question=question,
        options=LabelOptions(ask=ask),
        store=Store(folder / "home"),
    )


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8-sig", newline="") as file:
        return list(csv.DictReader(file))


def fill(path: Path, labels: dict[str, str]) -> None:
    rows = rows_of(path)
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(row | {"label": labels.get(row["id"], "")} for row in rows)


def test_a_committee_is_as_good_as_its_best_model_and_its_labels_are_read(
    tmp_path: Path, truth: dict[str, str]
) -> None:
    made = label(tmp_path, "good", "fair", "poor")
    good, fair, poor = made.accuracies.values()
    assert good > fair > poor
    rows = [json.loads(line) for line in (tmp_path / "labels.jsonl").read_text(encoding="utf-8").splitlines()]
    assert sum(row["label"] == truth[row["id"]] for row in rows) >= 0.93 * len(rows)
    store = Store(tmp_path / "home")
    read = datasets.read([tmp_path / "labels.jsonl"], store=store).record
    assert read.question is not None
    assert read.question.values == LABELS
    assert read.labels is not None
    assert read.labels.examples == made.written


def test_a_model_that_answered_nothing_has_no_accuracy(
    tmp_path: Path, truth: dict[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    lines = (json.dumps({"id": name, "completion": "no idea"}) + "\n" for name in truth)
    (tmp_path / "silent.jsonl").write_text("".join(lines), encoding="utf-8")
    made = label(tmp_path, "good", "silent")
    assert list(made.accuracies.values())[1] is None
    assert list(made.unanswered.values()) == [0, 120]
    _print(made, csv=True)
    assert capsys.readouterr().out.splitlines()[2].endswith(",-,120")


def test_people_settle_the_least_certain_texts_and_are_not_asked_again(tmp_path: Path, truth: dict[str, str]) -> None:
    label(tmp_path, "good", "fair", "poor")
    asked = rows_of(ask_path(tmp_path / "labels.jsonl"))
    assert [row["reason"] for row in asked].count("check") == 2
    fill(ask_path(tmp_path / "labels.jsonl"), {row["id"]: truth[row["id"]].title() for row in asked[:8] + asked[8:]})
    made = label(tmp_path, "good", "fair", "poor")
    assert made.settled == 10
    assert made.checked.n == 2
    again = {row["id"] for row in rows_of(ask_path(tmp_path / "labels.jsonl"))}
    assert again.isdisjoint(row["id"] for row in asked)
    labeled = {row["id"]: row for row in map(json.loads, (tmp_path / "labels.jsonl").read_text().splitlines())}
    assert all(labeled[row["id"]]["label"] == truth[row["id"]] for row in asked)
    assert all(labeled[row["id"]]["tags"] == ["people"] for row in asked)


def test_a_model_is_asked_once_even_if_the_journal_broke_off(tmp_path: Path, truth: dict[str, str]) -> None:
    first = label(tmp_path, "good", "fair")
    journal = journal_path(tmp_path / "labels.jsonl")
    whole = journal.read_text(encoding="utf-8")
    journal.write_text(whole[: len(whole) - 30], encoding="utf-8")  # killed while it wrote
    (tmp_path / "good.jsonl").write_text('{"id": "t0", "completion": "fee"}\n', encoding="utf-8")
    second = label(tmp_path, "good", "fair")
    assert second.accuracies == first.accuracies
    assert second.unanswered == first.unanswered


def test_a_label_outside_the_options_loses_nothing(tmp_path: Path, truth: dict[str, str]) -> None:
    label(tmp_path, "good", "fair")
    ask = ask_path(tmp_path / "labels.jsonl")
    names = [row["id"] for row in rows_of(ask)]
    fill(ask, {names[0]: truth[names[0]], names[1]: "nonsense"})
    before = ask.read_bytes()
    with pytest.raises(SizewiseError, match="'nonsense' is none of the options"):
        label(tmp_path, "good", "fair")
    assert ask.read_bytes() == before


def test_a_partly_filled_file_is_read_as_it_is(tmp_path: Path, truth: dict[str, str]) -> None:
    label(tmp_path, "good", "fair", ask=30)
    ask = ask_path(tmp_path / "labels.jsonl")
    names = [row["id"] for row in rows_of(ask)]
    fill(ask, {name: truth[name] for name in names[:20]})
    read = datasets.read([ask], store=Store(tmp_path / "home")).record
    assert read.labels is not None
    assert read.labels.examples == 20
    assert any("still to be labeled" in note for note in read.notes)


def test_the_labels_that_some_texts_have_are_the_options(tmp_path: Path, truth: dict[str, str]) -> None:
    rows = [json.loads(line) for line in (tmp_path / "texts.jsonl").read_text().splitlines()]
    rows = [row | ({"label": truth[row["id"]]} if i < 30 else {}) for i, row in enumerate(rows)]
    (tmp_path / "texts.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    made = label(tmp_path, "good", question=None)
    assert made.options == LABELS
    assert made.settled == 30
    assert made.unanimous.value is None
    assert made.unanimous.missing_reason == "only one model voted"


def test_without_models_or_options_there_is_nothing_to_do(tmp_path: Path, truth: dict[str, str]) -> None:
    with pytest.raises(UsageError, match="No model was given"):
        label(tmp_path)
    with pytest.raises(UsageError, match="no labels to choose from"):
        label(tmp_path, "good", question=None)


def test_options_that_differ_in_case_are_told_apart_in_what_people_filled_in(
    tmp_path: Path, truth: dict[str, str]
) -> None:
    question = Question(options=tuple(Option(value=value) for value in ("Fee", "fee", "card")))
    label(tmp_path, "good", question=question)
    path = ask_path(tmp_path / "labels.jsonl")
    first, second, *_ = (row["id"] for row in rows_of(path))
    fill(path, {first: "Fee", second: " CARD"})
    label(tmp_path, "good", question=question)
    rows = map(json.loads, (tmp_path / "labels.jsonl").read_text(encoding="utf-8").splitlines())
    labels = {row["id"]: row["label"] for row in rows}
    assert (labels[first], labels[second]) == ("Fee", "card")
    fill(path, {row["id"]: "FEE" for row in rows_of(path)[:1]})
    with pytest.raises(SizewiseError, match="'FEE' is none of the options"):
        label(tmp_path, "good", question=question)


def test_the_columns_of_a_file_can_be_named(tmp_path: Path, truth: dict[str, str]) -> None:
    rows = [json.loads(line) for line in (tmp_path / "texts.jsonl").read_text(encoding="utf-8").splitlines()]
    with (tmp_path / "export.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(("id", "Nachricht", "Thema"))
        writer.writerows((row["id"], row["prompt"], truth[row["id"]] if i < 9 else "") for i, row in enumerate(rows))
    made = label_texts(
        [tmp_path / "export.csv"],
        [f"recorded:{tmp_path}/good.jsonl"],
        tmp_path / "out.jsonl",
        question=QUESTION,
        options=LabelOptions(prompt="Nachricht", label="Thema"),
        store=Store(tmp_path / "home"),
    )
    assert (made.texts, made.settled) == (len(rows), 9)


def test_an_empty_cell_of_the_label_is_no_unusable_row(tmp_path: Path, truth: dict[str, str]) -> None:
    rows = [json.loads(line) for line in (tmp_path / "texts.jsonl").read_text(encoding="utf-8").splitlines()]
    with (tmp_path / "texts.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(("id", "text", "label"))
        writer.writerows((row["id"], row["prompt"], truth[row["id"]] if i < 30 else " ") for i, row in enumerate(rows))
    by = [f"recorded:{tmp_path}/good.jsonl"]
    made = label_texts([tmp_path / "texts.csv"], by, tmp_path / "out.jsonl", store=Store(tmp_path / "home"))
    assert (made.options, made.texts, made.settled) == (LABELS, len(rows), 30)


def test_a_classifier_of_other_labels_is_refused_by_name() -> None:
    known = Question(options=tuple(Option(value=value) for value in (*LABELS, "loan")))
    described = ModelDescription(
        uri="run:classifier-1", origin="x", license="x", engine="x", precision="fp32", offers=("decisions",),
        question=known,
    )  # fmt: skip
    _check_options("run:classifier-1", described, QUESTION)
    with pytest.raises(UsageError, match="classifier-1 doesn't know the label 'Card'"):
        _check_options("run:classifier-1", described, Question(options=(Option(value="Card"), Option(value="fee"))))


def test_labels_are_kept_though_a_spreadsheet_changed_a_text_and_no_cell_is_a_formula(tmp_path: Path) -> None:
    texts = {"a": "00123", "b": "=1+1", "c": "plain"}
    path = tmp_path / "texts.jsonl"
    path.write_text("".join(json.dumps({"id": k, "prompt": v}) + "\n" for k, v in texts.items()), encoding="utf-8")
    (tmp_path / "good.jsonl").write_text(
        "".join(json.dumps({"id": k, "completion": "fee"}) + "\n" for k in texts), encoding="utf-8"
    )
    label(tmp_path, "good")
    asked = ask_path(tmp_path / "labels.jsonl")
    rows = rows_of(asked)
    assert {row["text"] for row in rows} == {"00123", "'=1+1", "plain"}
    changed = asked.read_text(encoding="utf-8").replace("00123", "123")
    asked.write_text(changed, encoding="utf-8")
    fill(asked, dict.fromkeys(texts, "card"))
    assert label(tmp_path, "good").settled == 3
    rows = [json.loads(line) for line in (tmp_path / "labels.jsonl").read_text(encoding="utf-8").splitlines()]
    assert {row["label"] for row in rows} == {"card"}
    path.write_text("".join(json.dumps({"prompt": v}) + "\n" for v in texts.values()), encoding="utf-8")
    asked.write_text("id,text,label\ntexts.jsonl:1,123,fee\n", encoding="utf-8")
    with pytest.raises(SizewiseError, match="line 2: the text '123'"):
        label(tmp_path, "good")


def test_texts_with_an_empty_label_are_labeled_and_no_text_runs_in_a_spreadsheet(tmp_path: Path) -> None:
    texts = ["=cmd|' /C calc'!A1", "Überweisung\nan Müller", "card " * 8_000, "fee"]
    with (tmp_path / "texts.csv").open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([["id", "text", "label"], *((f"t{i}", text, "") for i, text in enumerate(texts))])
    (tmp_path / "one.jsonl").write_text(json.dumps({"id": "t3", "completion": "fee"}) + "\n", encoding="utf-8")

    def made() -> Labeling:
        source, by = tmp_path / "texts.csv", f"recorded:{tmp_path / 'one.jsonl'}"
        how = {"question": QUESTION, "store": Store(tmp_path / "home")}
        return label_texts([source], [by], tmp_path / "labels.jsonl", **how)  # type: ignore[arg-type]

    first = made()
    assert (first.texts, first.written) == (4, 1)
    assert list(first.accuracies.values()) == [None]  # no other model and no person confirms it
    ask = ask_path(tmp_path / "labels.jsonl")
    assert ask.read_bytes().startswith(b"\xef\xbb\xbf")  # Excel reads it as UTF-8
    asked = {row["id"]: row for row in rows_of(ask)}
    assert asked["t0"]["text"] == "'" + texts[0]
    rows = [row | {"label": "card", "text": row["text"][:32_767]} for row in asked.values()]  # as Excel saves them
    with ask.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    assert made().settled == len(rows) == 4
