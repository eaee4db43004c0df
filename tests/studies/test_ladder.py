"""Study files for labeled examples: a ladder of classifiers, whatever the domain."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from sizewise.documents import ReadOptions
from sizewise.errors import UsageError
from sizewise.records import ClassifierRecipe
from sizewise.store import Store
from sizewise.studies import study
from sizewise.studies.config import read_config
from sizewise.studies.templates import init


def write_labels(path: Path, n: int = 160) -> Path:
    words = {"release": ["lunch", "invitation", "thanks"], "hold": ["patient", "salary", "password"]}
    rows = [
        {"text": f"{words[label][i % 3]} about item {i}", "label": label}
        for i in range(n)
        for label in ("release", "hold")[i % 2 : i % 2 + 1]
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


@pytest.mark.parametrize("domain", ["fraud", "compliance", "support"])
def test_labeled_examples_get_a_ladder_of_classifiers(domain: str, tmp_path: Path) -> None:
    examples = write_labels(tmp_path / "decisions.jsonl")
    config = read_config(init(domain, tmp_path / "study.toml", examples=(str(examples),)))
    methods = [one.train.method for one in config.candidates if isinstance(one.train, ClassifierRecipe)]
    assert methods == ["linear", "embedding", "contrastive"]
    assert config.needs.quality == "accuracy"
    assert "log_loss" in config.metrics


def test_other_examples_get_language_models(tmp_path: Path) -> None:
    path = tmp_path / "questions.jsonl"
    rows = ({"prompt": f"What is rule {i}?", "reference": f"Rule {i} says so.", "label": "law"} for i in range(40))
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    config = read_config(init("compliance", tmp_path / "study.toml", examples=(str(path),)))
    assert not [one for one in config.candidates if isinstance(one.train, ClassifierRecipe)]


def test_a_study_of_decisions_picks_the_classifier_that_reads(tmp_path: Path, store: Store) -> None:
    examples = write_labels(tmp_path / "decisions.jsonl", 300)
    path = tmp_path / "study.toml"
    path.write_text(
        f"""
[data]
examples = "{examples}"
[[candidates]]
name = "linear"
model = "tfidf"
train = {{ method = "linear" }}
[[candidates]]
name = "frequencies"
model = "none"
train = {{ method = "frequent" }}
[needs]
quality = "accuracy"
min_quality = 0.8
""",
        encoding="utf-8",
    )
    saved = study(path, store=store).record
    assert saved.pick == "linear"
    assert set(saved.classifiers) == {"linear", "frequencies"}
    assert not saved.checkpoints
    assert "What drove these decisions" in Path(saved.report).read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("headings", "columns"),
    [
        (["Ticket No.", "Received", "Complaint text", "Category"], "--prompt 'Complaint text' --label Category"),
        (["Text", "Kategorie"], "--prompt text --label kategorie"),
        (["苦情", "分類"], "--prompt '苦情' --label '分類'"),
    ],
)
def test_unknown_headings_are_refused_with_the_command_that_names_them(
    headings: list[str], columns: str, tmp_path: Path
) -> None:
    table = tmp_path / "complaints.csv"
    row = ["T-1", "2026-03-01", "The card was swallowed", "Card"][-len(headings) :]
    table.write_text("\n".join(";".join(line) for line in (headings, row)) + "\n", encoding="utf-8")
    with pytest.raises(UsageError) as refused:
        init("compliance", tmp_path / "study.toml", examples=(str(table),))
    assert refused.value.next_step.endswith(f"complaints.csv {columns}")
    assert not (tmp_path / "study.toml").exists()


def test_named_columns_are_written_into_the_study_file(tmp_path: Path) -> None:
    table = tmp_path / "complaints.csv"
    rows = [f"{i};{('card swallowed', 'fee too high')[i % 2]} {i};{('card', 'fee')[i % 2]}" for i in range(20)]
    table.write_text("\n".join(["Nr;Complaint text;Category", *rows]) + "\n", encoding="utf-8")
    columns = ReadOptions(prompt="Complaint text", label="Category")
    config = read_config(init("compliance", tmp_path / "study.toml", examples=(str(table),), columns=columns))
    assert (config.prompt, config.label) == ("Complaint text", "Category")
    assert config.candidates[0].model == "tfidf"


def write_table(path: Path, headings: tuple[str, ...]) -> Path:
    texts = ("salary list of the department for day {}, as we discussed", "lunch with the whole team on day {}")
    rows = [headings, *((texts[i % 2].format(i), "release" if i % 2 else "hold") for i in range(60))]
    path.write_text("".join(f'"{text}",{label}\n' for text, label in rows), encoding="utf-8")
    return path


def test_a_column_of_repeated_answers_holds_labels_whatever_its_heading(tmp_path: Path) -> None:
    examples = str(write_table(tmp_path / "mail.csv", ("Message", "Verdict")))
    with pytest.raises(UsageError) as refused:
        init("compliance", tmp_path / "study.toml", examples=(examples,))
    assert "--prompt Message --label Verdict" in refused.value.next_step
    path = init(
        "compliance",
        tmp_path / "study.toml",
        examples=(examples,),
        columns=ReadOptions(prompt="Message", reference="Verdict"),
    )
    config = read_config(path)
    assert (config.label, config.reference) == ("Verdict", "")
    assert isinstance(config.candidates[0].train, ClassifierRecipe)


def test_a_table_without_headings_is_refused_with_what_to_add(tmp_path: Path) -> None:
    path = tmp_path / "mail.csv"
    path.write_text("".join(f'"{"a long message about the plan " * 4}{i}",hold\n' for i in range(30)), encoding="utf-8")
    with pytest.raises(UsageError, match="looks like data") as refused:
        init("compliance", tmp_path / "study.toml", examples=(str(path),))
    assert "add a first row" in refused.value.next_step
