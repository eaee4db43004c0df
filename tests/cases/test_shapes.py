"""Cells, columns and values that aren't text, or don't match the headings."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from sizewise.errors import SizewiseError
from sizewise.evaluation import evaluate
from sizewise.models.recorded import RecordedModel, read_log
from sizewise.records import Message, Request
from sizewise.store import Store
from tests.cases.conftest import ReadIn, write_rows
from tests.cases.test_reading import names_line

COUNT = 15
PYTHON = re.compile(r"\bNone\b|\bTrue\b|\{'|\['")


def _pairs() -> list[tuple[str, str]]:
    return [(f"Which tram stops at bridge {i}?", f"Tram {i + 3} stops there from six on.") for i in range(COUNT)]


def _answer_of(path: Path, name: str, asked: str) -> str | None:
    """Return the recorded answer, or None if the file or the row was refused."""
    try:
        model = RecordedModel(path)
    except SizewiseError:
        return None
    (answer,) = model.complete([Request(id=name, messages=(Message(role="user", content=asked),), max_tokens=50)])
    return None if answer.finish == "error" else answer.text


# the kind of pandas#5686
def test_a_row_with_an_extra_tab_is_refused_or_kept_complete(tmp_path: Path, read_in: ReadIn) -> None:
    lines = [
        "question\tanswer",
        *(f"{q}\t{a}" for q, a in _pairs()),
        "Which tram is red?\tTram 9,\tand only in winter.",
    ]
    path = tmp_path / "trams.tsv"
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    read = read_in(path)
    assert ("Tram 9,",) not in read.references
    assert any("only in winter" in reference[0] for reference in read.references) or names_line(read.said, COUNT + 2)


def test_a_recorded_answer_with_an_unquoted_comma_is_refused_or_kept_complete(tmp_path: Path) -> None:
    path = tmp_path / "said.csv"
    lines = ["id,completion", *(f"q{i},{a}" for i, (_, a) in enumerate(_pairs())), "q99,Yes, but not on Sundays."]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    assert _answer_of(path, "q99", "Does it run?") in (None, "Yes, but not on Sundays.")


def test_a_row_with_a_cell_too_few_is_refused_with_its_line(tmp_path: Path, read_in: ReadIn) -> None:
    lines = ["question,answer", *(f'"{q}","{a}"' for q, a in _pairs()), "Which tram is red?"]
    path = tmp_path / "trams.csv"
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    read = read_in(path)
    assert names_line(read.said, COUNT + 2)
    assert "Which tram is red?" not in {example.prompt for example in read.examples}


# the kind of autotrain-advanced#444, lmnr#2412
@pytest.mark.parametrize(
    ("column", "labels"),
    [("label", [0, 1]), ("label", ["late", "on time"]), ("category", ["late", "on time"])],
    ids=["numbers", "words", "category"],
)
def test_every_label_of_a_text_is_kept_or_noted_as_unused(
    tmp_path: Path, read_in: ReadIn, column: str, labels: list[Any]
) -> None:
    rows = [{"text": f"Tram {i} came at {i % 12} and left again.", column: labels[i % 2]} for i in range(30)]
    read = read_in(write_rows(tmp_path / "reports.jsonl", rows))
    found = [reference[0] for reference in read.references]
    kept = [found.count(str(label)) for label in labels]
    assert kept == [15, 15] or re.search(rf"\b{column}\b", read.said)


# the kind of LlamaFactory#2686
def test_instruction_and_input_of_a_table_reach_the_prompt_together(tmp_path: Path, read_in: ReadIn) -> None:
    rows = [f'Name the stop.,"Line {i}, after the bridge",Stop {i} is next.' for i in range(8)]
    rows += [f"Name the last stop of line {i}.,,It ends at stop {i}." for i in range(8, COUNT)]
    path = tmp_path / "stops.csv"
    path.write_text("\n".join(["instruction,input,output", *rows]) + "\n", encoding="utf-8")
    read = read_in(path)
    assert read.refused or len(read.examples) == COUNT
    assert [example.prompt for example in read.examples if "Name the" not in example.prompt] == []


# the kind of LlamaFactory#4249, datasets#7059
def test_a_number_as_right_answer_is_read_as_it_is_written_or_refused(tmp_path: Path, read_in: ReadIn) -> None:
    rows: list[dict[str, Any]] = [{"prompt": f"How many trams on day {i}?", "references": [i]} for i in range(COUNT)]
    read = read_in(write_rows(tmp_path / "counts.jsonl", rows))
    assert read.refused or sorted(read.references) == sorted((str(i),) for i in range(COUNT))


@pytest.mark.parametrize("empty", [None, {"parts": ["a"]}, ["a", "b"]], ids=["null", "object", "list"])
def test_a_text_that_is_no_text_is_no_document(tmp_path: Path, read_in: ReadIn, empty: Any) -> None:
    rows: list[dict[str, Any]] = [{"text": f"{question} {answer}"} for question, answer in _pairs()]
    rows.insert(4, {"text": empty})
    read = read_in(write_rows(tmp_path / "texts.jsonl", rows))
    assert read.refused or len(read.documents) >= COUNT
    assert not PYTHON.search(read.text)


def test_choices_in_an_object_are_read_as_choices_or_refused(tmp_path: Path, read_in: ReadIn) -> None:
    rows = [
        {
            "question": question,
            "choices": {"text": [answer, "None of them.", "All of them."], "label": ["A", "B", "C"]},
            "answer": answer,
        }
        for question, answer in _pairs()
    ]
    read = read_in(write_rows(tmp_path / "choices.jsonl", rows))
    assert [example.choices for example in read.examples if "text" in example.choices] == []


@pytest.mark.parametrize(
    "form",
    [
        lambda answer: {"content": answer},
        lambda answer: [{"type": "text", "text": answer}],
        lambda answer: [answer],
    ],
    ids=["object", "parts", "list"],
)
def test_a_recorded_answer_that_is_no_text_is_refused_or_read_as_one(tmp_path: Path, form: Any) -> None:
    rows = [{"id": f"q{i}", "completion": form(answer)} for i, (_, answer) in enumerate(_pairs())]
    path = write_rows(tmp_path / "said.jsonl", rows)
    found = _answer_of(path, "q3", "?")
    expected = {None, _pairs()[3][1], json.dumps(form(_pairs()[3][1]))}
    assert found in expected


def test_a_log_whose_prompt_is_a_conversation_is_read_or_refused(tmp_path: Path) -> None:
    rows = [
        {"id": f"q{i}", "prompt": [{"role": "user", "content": question}], "completion": answer}
        for i, (question, answer) in enumerate(_pairs())
    ]
    path = write_rows(tmp_path / "log.jsonl", rows)
    try:
        found = read_log(path)
    except SizewiseError:
        return
    assert [request.messages[-1].content for request in found] == [question for question, _ in _pairs()]


# the kind of Kiln#560, in other encodings
@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "cp1252", "iso-8859-15", "utf-16-be"])
def test_a_table_in_another_encoding_is_read_rightly_or_named_as_not_read(
    tmp_path: Path, read_in: ReadIn, encoding: str
) -> None:
    answers = [f"Fähre {i} fährt für fünf Euro über die Förde." for i in range(COUNT)]
    lines = ["question,answer", *(f"Was kostet Fähre {i}?,{answer}" for i, answer in enumerate(answers))]
    path = tmp_path / "ferries.csv"
    path.write_bytes(("\r\n".join(lines) + "\r\n").encode(encoding))
    read = read_in(path)
    if read.refused:
        assert "ferries.csv" in read.said
    else:
        assert sorted(read.references) == sorted((answer,) for answer in answers)


def test_a_row_of_answers_with_line_separators_stays_one_row(tmp_path: Path, store: Store) -> None:
    rows = [{"id": f"q{i}", "prompt": q, "answer": f"{a}\u2028See the board."} for i, (q, a) in enumerate(_pairs())]
    data = write_rows(tmp_path / "test.jsonl", rows)
    said = write_rows(tmp_path / "said.jsonl", [{"id": row["id"], "completion": row["answer"]} for row in rows])
    record = evaluate(f"recorded:{said}", data, ["exact_match"], store=store).record
    assert (record.scores["exact_match@all"].value, record.scores["exact_match@all"].n) == (1.0, COUNT)
