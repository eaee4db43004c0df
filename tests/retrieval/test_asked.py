"""Tests of an index that learns from the questions that people asked when to answer."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

pytest.importorskip("bm25s")

from typer.testing import CliRunner

from sizewise.cli.main import app
from sizewise.datasets.indexing import _Names
from sizewise.retrieval import Library, cut, open_encoder, open_index, update_index
from sizewise.retrieval.answerability import MIN_QUESTIONS, Asked, QuestionCheck, Taught, teach
from sizewise.retrieval.stored import DamagedIndexError
from tests.retrieval.test_retrieval import document

PLACES = [f"{first} {second}" for first in ("North", "South", "East", "West", "Upper") for second in
          ("Harbor", "Bridge", "Mill", "Market", "Garden", "Station")]  # fmt: skip
TEXT = (
    "The {place} office opens at {hour} and is led by {name}. Parcels are kept for {days} days. Dogs stay outside. "
    "Complaints are answered by letter. The hall of {place} was built in {year}."
)
DOCUMENTS = [
    document(
        f"{place}.md",
        TEXT.format(place=place, hour=6 + n % 5, name=f"Mr. Aber{n}", days=3 + n, year=1900 + n),
    )
    for n, place in enumerate(PLACES)
]
ASKED = [
    Asked(question.format(place=place), f"{place}.md")
    for place in PLACES
    for question in ("How long do you keep a parcel at {place}?", "When was the {place} hall built, please?")
]


def checked(library: Library, asked: list[Asked]) -> QuestionCheck:
    taught = teach(library._index, asked)
    assert isinstance(taught, Taught)
    return taught.check


def test_questions_teach_when_to_answer_and_are_measured_on_documents_that_did_not_teach() -> None:
    by_sentences = Library(cut(DOCUMENTS))
    taught = Library(cut(DOCUMENTS), asked=ASKED)
    check = checked(taught, ASKED)
    assert check.questions == len(ASKED)
    assert check.first.value > 0.9
    assert check.first.ci_low < check.first.value
    assert check.among_three.value >= check.first.value
    assert check.refused.value < 0.2
    assert check.declined.value > 0.5
    assert check.refused_there.value <= 0.05
    assert 0 <= check.threshold == round(check.threshold, 2)
    known, unknown = "How long do you keep a parcel at East Mill?", "How long do you keep a parcel at Lower Quay?"
    assert (taught.find(known).probability or 0) > 0.5 > (taught.find(unknown).probability or 0)
    assert taught.find(known).probability != by_sentences.find(known).probability


def test_too_few_questions_or_of_too_few_documents_teach_nothing() -> None:
    few = ASKED[: MIN_QUESTIONS - 1]
    question = ASKED[0].question
    assert Library(cut(DOCUMENTS), asked=few).find(question) == Library(cut(DOCUMENTS)).find(question)
    others = [Asked(one.question, "gone.md") for one in ASKED]
    assert Library(cut(DOCUMENTS), asked=others).find(question) == Library(cut(DOCUMENTS)).find(question)
    alone = [Asked(f"{question} {n}", ASKED[0].document) for n in range(MIN_QUESTIONS)]
    assert "of 5 documents are needed" in str(teach(Library(cut(DOCUMENTS))._index, alone))


def test_questions_that_search_cannot_tell_apart_teach_nothing() -> None:
    for question in ("\u0643\u0645 \u064a\u0648\u0645\u0627\u061f", "???"):
        asked = [Asked(f"{question} {n}", f"{place}.md") for n, place in enumerate(PLACES)]
        taught = Library(cut(DOCUMENTS), asked=asked)
        assert "as much for the questions" in str(teach(taught._index, asked))
        assert taught.find(ASKED[0].question) == Library(cut(DOCUMENTS)).find(ASKED[0].question)
    swapped = [one._replace(document=other.document) for one, other in zip(ASKED, ASKED[20:] + ASKED[:20], strict=True)]
    assert isinstance(teach(Library(cut(DOCUMENTS))._index, swapped), str)


def test_a_version_of_the_document_answers_too() -> None:
    versions = [
        document(f"{place}-{n}.md", f"{one.text} This is version {n}.")
        for place, one in zip(PLACES, DOCUMENTS, strict=True)
        for n in range(4)
    ]
    asked = [one._replace(document=one.document.replace(".md", "-3.md")) for one in ASKED]
    library = Library(cut(versions), asked=asked)
    check = checked(library, asked)
    assert check.first.value > 0.9
    assert (library.find("How long do you keep a parcel at East Mill?").probability or 0) > 0.5


def test_an_index_keeps_its_questions_and_other_questions_teach_it_again(tmp_path: Path) -> None:
    def probability() -> float | None:
        return open_index(tmp_path, open_encoder).find(ASKED[0].question).probability

    plain = update_index(tmp_path, DOCUMENTS, None)
    before = probability()
    assert plain.check is None
    taught = update_index(tmp_path, DOCUMENTS, None, asked=ASKED)
    assert taught.unchanged == len(DOCUMENTS)
    assert taught.check is not None
    after = probability()
    assert after != before
    assert update_index(tmp_path, DOCUMENTS, None, asked=ASKED).check == taught.check
    later = [*DOCUMENTS, document("new.md", "The ferry sails at noon.")]
    again = update_index(tmp_path, later, None)
    assert again.check is not None
    assert again.check.questions == len(ASKED)
    more = update_index(tmp_path, later, None, asked=[Asked("When does the ferry sail?", "new.md")])
    assert more.check is not None
    assert more.check.questions == len(ASKED) + 1
    anew = update_index(tmp_path, later, None, rebuild=True)
    assert anew.check == more.check
    (questions,) = tmp_path.glob("files-*/questions.json")
    questions.write_text("[[1]]", encoding="utf-8")
    with pytest.raises(DamagedIndexError, match="is damaged"):
        update_index(tmp_path, DOCUMENTS, None)


def test_examples_beside_the_documents_teach_but_for_a_test_split(tmp_path: Path) -> None:
    def run(*arguments: str) -> str:
        done = CliRunner().invoke(app, ["index", *paths, "--words-only", *arguments], catch_exceptions=False)
        assert done.exit_code == 0, done.output
        return done.stdout

    folder = tmp_path / "docs"
    folder.mkdir()
    for one in DOCUMENTS:
        (folder / one.id).write_text(f"# {one.id[:-3]}\n\n{one.text}\n", encoding="utf-8")
    rows = [
        {
            "prompt": one.question,
            "references": ["yes"],
            "document": one.document,
            "split": "test" if n < 10 else "train",
        }
        for n, one in enumerate(ASKED)
    ]
    rows.append({"prompt": "Who is it?", "references": ["nobody"]})
    rows += [
        {"id": place, "prompt": f"Who is {place}?", "references": ["nobody"]} for place in PLACES
    ]  # name no document
    (tmp_path / "questions.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    paths = [str(folder), str(tmp_path / "questions.jsonl")]
    out = run("--out", str(tmp_path / "index"))
    assert "50 questions that name their document, cross-validated" in out
    assert "right document first" in out
    assert "1 of them name" not in out
    found = json.loads(run("--out", str(tmp_path / "other"), "--json"))
    assert found["record"]["check"]["questions"] == 50
    assert set(found["record"]["check"]["first"]) == {"value", "ci_low", "ci_high"}


@pytest.mark.parametrize(
    "source",
    [
        "help/kettle.md",
        "./help/kettle.md",
        "kettle.md",
        "Kettle.MD",
        "kettle",
        "/home/a/kettle.md",
        "kettle.md#returns",
    ],
)
def test_documents_are_found_by_any_name_that_only_one_has(source: str) -> None:
    assert _Names(["help/kettle.md", "help/lamp.md"]).of(source) == "help/kettle.md"


def test_a_name_that_two_documents_have_finds_none() -> None:
    names = _Names(["a/kettle.md", "b/kettle.md"])
    assert (names.of("kettle.md"), names.of("stove.md"), names.of("b/kettle.md")) == ("", "", "b/kettle.md")
