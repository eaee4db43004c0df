"""Columns that the user names, and splits that files name."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from sizewise.documents import ReadOptions, read_paths
from sizewise.errors import SizewiseError, UsageError
from sizewise.studies.config import config_text, read_config

TABLE = "Nr;Kundenfrage;Antwort;Kategorie\n" + "".join(
    f'{i};"Wo ist Paket {i}; bitte?";"Paket {i} ist unterwegs.";{"Versand" if i % 2 else "Zoll"}\n' for i in range(30)
)


@pytest.fixture
def table(tmp_path: Path) -> Path:
    path = tmp_path / "daten.csv"
    path.write_text(TABLE, encoding="cp1252")
    return path


@pytest.mark.parametrize("spelling", ["Kundenfrage", "kundenfrage", " KUNDENFRAGE "])
def test_columns_are_named_in_any_spelling(table: Path, spelling: str) -> None:
    reading = read_paths([table], ReadOptions(prompt=spelling, reference="Antwort", label="Kategorie"))
    first = next(iter(reading.examples))
    assert len(reading.examples) == 30
    assert (first.prompt, first.references) == ("Wo ist Paket 0; bitte?", ("Paket 0 ist unterwegs.",))
    assert first.label == "Zoll"
    assert dict(reading.forms) == {"kundenfrage + antwort": 30}
    assert "daten.csv: unused columns: nr" in reading.notes


def test_a_label_alone_is_the_reference(table: Path) -> None:
    reading = read_paths([table], ReadOptions(prompt="Kundenfrage", label="Kategorie"))
    assert {(e.label, e.references) for e in reading.examples} == {("Zoll", ("Zoll",)), ("Versand", ("Versand",))}


def test_columns_that_would_be_detected_give_way_and_are_noted(tmp_path: Path) -> None:
    path = tmp_path / "x.jsonl"
    row = {"prompt": "old", "question": "new?", "answer": "old answer", "gold": "yes", "input": "more"}
    path.write_text(json.dumps(row) + "\n", encoding="utf-8")
    reading = read_paths([path], ReadOptions(prompt="question", reference="gold"))
    (example,) = reading.examples
    assert (example.prompt, example.references) == ("new?", ("yes",))
    assert reading.notes == ["x.jsonl: unused columns: answer, input, prompt"]


@pytest.mark.parametrize(
    ("options", "name"), [(ReadOptions(prompt="Frage"), "frage"), (ReadOptions(prompt="Kundenfrage", label="x"), "'x'")]
)
def test_a_column_that_does_not_exist_is_answered_with_those_that_do(
    table: Path, options: ReadOptions, name: str
) -> None:
    with pytest.raises(SizewiseError) as error:
        read_paths([table], options)
    assert name in error.value.what
    for column in ("nr", "antwort", "kategorie"):
        assert column in error.value.what.lower()


def test_a_study_file_names_the_columns(tmp_path: Path, table: Path) -> None:
    path = tmp_path / "study.toml"
    path.write_text(
        '[data]\nexamples = "daten.csv"\nprompt = "Kundenfrage"\nreference = "Antwort"\n'
        '[[candidates]]\nname = "a"\nmodel = "fake:echo"\n',
        encoding="utf-8",
    )
    config = read_config(path)
    assert (config.columns.prompt, config.columns.reference, config.columns.label) == ("Kundenfrage", "Antwort", "")
    assert 'prompt = "Kundenfrage"' in config_text(config)
    assert "label" not in config.model_dump()


@pytest.mark.parametrize("column", ["category", "source"])
def test_a_class_in_another_column_can_be_named_and_is_hinted_at(tmp_path: Path, column: str) -> None:
    path = tmp_path / "x.csv"
    path.write_text(f"text,{column}\n" + "".join(f"Where is {i}?,{'ab'[i % 2]}\n" for i in range(6)), encoding="utf-8")
    plain = read_paths([path])
    assert (len(plain.documents), len(plain.examples)) == (6, 0)
    hint = "x.csv: the rows were read as documents; if 'category' is their class, add --label category"
    assert (hint in plain.notes) == (column == "category")
    assert {e.label for e in read_paths([path], ReadOptions(label=column)).examples} == {"a", "b"}


def rows(path: Path, count: int = 3, **more: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = (json.dumps({"prompt": f"{path.parent.name} {path.stem} {i}?", "answer": "A"} | more) for i in range(count))
    path.write_text("\n".join(lines), encoding="utf-8")


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["train.jsonl", "test.jsonl"], ["test", "train"]),
        (["data/train-00000-of-00001.jsonl", "data/dev-00000-of-00001.jsonl", "data/test-00000-of-00001.jsonl"],
         ["validation", "test", "train"]),
        (["train/a.jsonl", "test/a.jsonl"], ["test", "train"]),
        (["train.jsonl", "valid.jsonl"], [None, "validation"]),
        (["train.jsonl", "more.jsonl"], [None, None]),
        (["train_1.jsonl", "train_2.jsonl"], [None, None]),
        (["testing_rules.jsonl", "train.jsonl"], [None, None]),
        (["training_manual.jsonl", "medical_test_results.jsonl"], [None, None]),
        (["faq_test.jsonl", "faq_train.jsonl"], ["test", "train"]),
        (["test_de.jsonl", "train_de.jsonl"], ["test", "train"]),
        (["qa-test-de.jsonl", "qa-train-de.jsonl"], ["test", "train"]),
        (["test_sft-00000-of-00001-a09b74b3ef9c.jsonl", "train_sft-00000-of-00001-0aab74b3ef9d.jsonl"],
         ["test", "train"]),
        (["dev-v2.0.jsonl", "train-v2.0.jsonl"], ["validation", None]),
        (["eval.jsonl", "test.jsonl", "train.jsonl"], ["validation", "test", "train"]),
        (["holdout.jsonl", "training.jsonl"], ["test", "train"]),
        (["testing.jsonl", "training.jsonl"], ["test", "train"]),
        (["帮助_test.jsonl", "帮助_train.jsonl"], ["test", "train"]),
        (["snli_1.0_test.jsonl", "snli_1.0_train.jsonl"], ["test", "train"]),
        (["data.test.jsonl", "data.train.jsonl"], ["test", "train"]),
    ],
)  # fmt: skip
def test_splits_in_the_names_of_files_count_if_there_are_several(
    tmp_path: Path, names: list[str], expected: list[str | None]
) -> None:
    for name in names:
        rows(tmp_path / "in" / name)
    found = [example.split for example in read_paths([tmp_path / "in"]).examples]
    assert found == [split for split in expected for _ in range(3)]


def test_splits_of_rows_come_before_those_of_names_and_files_may_be_given_one_by_one(tmp_path: Path) -> None:
    rows(tmp_path / "train.jsonl", split="validation")
    rows(tmp_path / "test.jsonl")
    given = [tmp_path / "train.jsonl", tmp_path / "test.jsonl"]
    assert [e.split for e in read_paths(given).examples] == ["validation"] * 3 + ["test"] * 3
    assert [e.split for e in read_paths(given[1:], among=given[:1]).examples] == ["test"] * 3
    assert [e.split for e in read_paths(given[1:]).examples] == [None] * 3


def test_a_study_file_says_what_becomes_of_personal_data(tmp_path: Path, table: Path) -> None:
    path = tmp_path / "study.toml"
    text = '[data]\nexamples = "daten.csv"\npersonal_data = "mask"\n[[candidates]]\nname = "a"\nmodel = "fake:echo"\n'
    path.write_text(text, encoding="utf-8")
    config = read_config(path)
    assert config.columns.personal_data == "mask"
    assert 'personal_data = "mask"' in config_text(config)
    path.write_text(text.replace("mask", "hide"), encoding="utf-8")
    with pytest.raises(SizewiseError, match="personal_data"):
        read_config(path)


@pytest.mark.parametrize(
    ("named", "said"),
    [
        ({"prompt": "text", "label": " Text"}, "named twice: --prompt and --label"),
        ({"prompt": "text", "groups": ("age", "text")}, "named twice: --prompt and --groups"),
        ({"groups": ("Label",)}, "can't be a group as well"),
    ],
)
def test_a_column_has_one_use(named: dict[str, Any], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        ReadOptions(**named)
    assert ReadOptions(label="team", groups=("label",)).groups == ("label",)
