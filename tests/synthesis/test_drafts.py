# ruff: noqa: RUF001
"""Examples drafted from passages by a model, and their review."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from sizewise.cli.main import app
from sizewise.datasets import load, read
from sizewise.errors import SizewiseError, UsageError
from sizewise.models.fake import FakeModel
from sizewise.records import DRAFTED, Completion, Request
from sizewise.retrieval import Library, Passage
from sizewise.store import Store
from sizewise.studies import read_config, study
from sizewise.synthesis.drafts import Changed, _rows, _write, approve, draft
from sizewise.synthesis.making import Options, checked_draft, parse_draft
from sizewise.synthesis.wording import MENTIONS_PASSAGE, is_question
from tests.languages import PASSAGES


class Teacher(FakeModel):
    """Asks about the first sentence of a passage; every fourth draft is made up, and some are no drafts."""

    def complete(self, requests: Any) -> Any:
        for request in requests:
            number = int(request.id)
            passage = request.messages[0].content.split("\n\n")[1]
            answer = passage.split(".")[0]
            question = f"What is said of case {number} there, if anything?"
            text = json.dumps({"question": question, "answer": answer})
            if number % 4 == 1:
                text = json.dumps({"question": question, "answer": "Penguins juggle quantum bagels nightly"})
            elif number % 4 == 2:
                text = "I would rather not."
            elif number % 8 == 3:
                text = json.dumps({"question": f"What does this passage say of {number}?", "answer": answer})
            elif number % 8 == 7:
                text = f"Question: {question}\nAnswer: {answer}"
            yield Completion(id=request.id, text=text, prompt_tokens=1, completion_tokens=1, seconds=0.0, finish="stop")


@pytest.fixture
def teacher(monkeypatch: pytest.MonkeyPatch) -> list[Request]:
    monkeypatch.setattr("sizewise.synthesis.writer.open_model", lambda uri, **_: Teacher("echo"))
    return []


@pytest.fixture
def documents(tmp_path: Path) -> Path:
    folder = tmp_path / "documents"
    folder.mkdir()
    for i in range(20):
        words = " ".join(f"term{i}x{j}" for j in range(30))
        (folder / f"d{i}.md").write_text(f"Rule {i} holds for {words}. Nothing else counts.", encoding="utf-8")
    return folder


@pytest.mark.usefixtures("teacher")
def test_only_answers_supported_by_their_passage_are_kept(documents: Path, tmp_path: Path, store: Store) -> None:
    out = tmp_path / "examples.jsonl"
    made = draft([documents], "fake:teacher", out, Options(16), store=store)
    assert made.asked == 16
    assert made.kept == 6
    assert made.refused == {
        "the passage doesn't support the answer": 4,
        "no question with an answer": 4,
        "the question mentions the passage, which users don't see": 2,
    }
    rows = [json.loads(line) for line in out.read_text(encoding="utf-8").splitlines()]
    assert len({row["source"] for row in rows}) == 6  # spread over the documents
    data = read([documents, out], store=store)
    known = {document.id for split in load(store, data.id).documents.values() for document in split}
    assert {row["source"] for row in rows} <= known
    assert not any("unused columns" in note for note in data.record.notes)


@pytest.mark.usefixtures("teacher")
def test_a_decision_is_saved_immediately_and_not_asked_for_twice(documents: Path, tmp_path: Path, store: Store) -> None:
    out = tmp_path / "examples.jsonl"
    draft([documents], "fake:teacher", out, Options(16), store=store)
    said = iter([Changed("yes"), Changed("no"), Changed("yes", "A better answer"), Changed("stop")])
    found = approve(out, lambda row, number, count: next(said))
    assert (found.value, found.n) == (pytest.approx(1 / 3), 3)
    rows = [json.loads(line) for line in out.read_text(encoding="utf-8").splitlines()]
    assert len(rows) == 5
    assert sum("approved" in row["tags"] for row in rows) == 2
    assert any(row["references"] == ["A better answer"] for row in rows)
    assert len((tmp_path / "examples.jsonl.rejected").read_text(encoding="utf-8").splitlines()) == 1

    left: list[int] = []
    approve(out, lambda row, number, count: left.append(count) or Changed("stop"))  # type: ignore[func-returns-value]
    assert left == [3]
    again = draft([documents], "fake:teacher", out, Options(16), store=store)
    assert again.approved == 2
    rows = [json.loads(line) for line in out.read_text(encoding="utf-8").splitlines()]
    assert any(row["references"] == ["A better answer"] for row in rows)


@pytest.mark.usefixtures("teacher")
def test_a_study_on_drafts_carries_a_caution(documents: Path, tmp_path: Path, store: Store) -> None:
    out = tmp_path / "examples.jsonl"
    draft([documents], "fake:teacher", out, Options(20), store=store)
    file = tmp_path / "study.toml"
    file.write_text(
        'name = "x"\n'.replace('name = "x"\n', "")
        + '[study]\nname = "drafts"\n[data]\ndocuments = ["documents"]\nexamples = "examples.jsonl"\n'
        + '[[candidates]]\nname = "echo"\nmodel = "fake:echo"\n[[candidates]]\nname = "copy"\nmodel = "fake:copy"\n',
        encoding="utf-8",
    )
    why = study(read_config(file), store=store).record.reasons
    assert any("were drafted by a model, 0 of them approved" in line for line in why)


def test_the_terminal_asks_one_after_the_other(documents: Path, tmp_path: Path, store: Store, teacher: object) -> None:
    out = tmp_path / "examples.jsonl"
    run = CliRunner().invoke(
        app, ["synthesize", str(documents), "--by", "fake:teacher", "--count", "16", "--out", str(out)]
    )
    assert run.exit_code == 0, run.output
    assert "next: sizewise synthesize --approve" in run.output
    run = CliRunner().invoke(app, ["synthesize", "--approve", str(out)], input="y\nnope\nn\n= Well, better\n")
    assert run.exit_code == 0, run.output
    assert "Approved unchanged: 33%" in run.output
    assert "of 3 reviewed" in run.output


def test_a_file_of_something_else_is_not_overwritten(documents: Path, tmp_path: Path, store: Store) -> None:
    mine = tmp_path / "examples.jsonl"
    mine.write_text('{"prompt": "a", "references": ["b"]}\n', encoding="utf-8")
    with pytest.raises(UsageError, match="is not a file of drafts"):
        draft([documents], "fake:echo", mine, store=store)
    assert "references" in mine.read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            'Sure: {"question": "What does {id} mean?", "answer": "The id {id}."} Done.',
            ("What does {id} mean?", "The id {id}."),
        ),
        ('{"question": "What is it?", "answer": "cut sho', None),
        ("Question: What is it?\nAnswer: A thing.", ("What is it?", "A thing.")),
        ("[1, 2] {3}", None),
    ],
)
def test_drafts_are_parsed_completely_or_not_at_all(text: str, expected: tuple[str, str] | None) -> None:
    assert parse_draft(text) == expected


def test_rejected_drafts_are_not_drafted_again(documents: Path, tmp_path: Path, store: Store, teacher: object) -> None:
    out = tmp_path / "examples.jsonl"
    draft([documents], "fake:teacher", out, Options(16), store=store)
    approve(out, lambda row, number, count: Changed("no"))
    again = draft([documents], "fake:teacher", out, Options(16), store=store)
    assert again.kept == 0
    assert again.refused["duplicate question"] == 6


def test_concurrent_reviews_are_refused(documents: Path, tmp_path: Path, store: Store, teacher: object) -> None:
    out = tmp_path / "examples.jsonl"
    draft([documents], "fake:teacher", out, Options(16), store=store)

    def ask(row: dict[str, Any], number: int, count: int) -> Changed:
        with pytest.raises(SizewiseError, match="Another process"):
            approve(out, lambda *_: Changed("no"))
        with pytest.raises(SizewiseError, match="Another process"):
            draft([documents], "fake:teacher", out, Options(16), store=store)
        return Changed("yes")

    assert approve(out, ask, 1).n == 1
    assert len(out.read_text(encoding="utf-8").splitlines()) == 6


def test_a_draft_with_a_line_separator_is_read_again(tmp_path: Path) -> None:
    row = {"id": "a", "prompt": "Which?\u2028Say it.", "references": ["This\x85one."], "tags": [DRAFTED]}
    path = tmp_path / "drafts.jsonl"
    _write(path, [row, row | {"id": "b"}])
    assert "\u2028" in path.read_text(encoding="utf-8")
    assert _rows(path) == [row, row | {"id": "b"}]


@pytest.mark.parametrize("language", sorted(PASSAGES))
def test_a_draft_in_any_language_is_kept_and_another_language_is_not(language: str) -> None:
    source = PASSAGES[language][0]
    passage = Passage("doc", "", "", source.text)
    library = Library([Passage(f"d{i}", "", "", other.text) for i, other in enumerate(PASSAGES[language])], learn=False)

    def checked(question: str, answer: str) -> object:
        text = json.dumps({"question": question, "answer": answer}, ensure_ascii=False)
        return checked_draft(
            Completion(id="0", text=text, prompt_tokens=1, completion_tokens=1, seconds=0.0, finish="stop"),
            passage,
            library,
            set(),
        )

    assert checked(source.question, source.answer) == (source.question, source.answer)
    other = PASSAGES["de" if language != "de" else "fi"][0]
    assert checked(other.question, source.answer) == "the question is not in the language of the passage"
    unsupported = PASSAGES[language][8]
    assert checked(source.question, unsupported.text) == "the passage doesn't support the answer"


@pytest.mark.parametrize(
    "text",
    [
        "Frage: Wann öffnet das Bad?\nAntwort: Um neun Uhr.",
        "问题：游泳馆几点开门？\n答案：九点。",
        "質問：プールは何時に開きますか。\n答え：九時です。",
        "คำถาม: สระว่ายน้ำเปิดกี่โมง\nคำตอบ: เก้าโมงเช้า",
        "प्रश्न: तरणताल कब खुलता है?\nउत्तर: नौ बजे।",
        "السؤال: متى يفتح المسبح؟\nالجواب: في التاسعة.",
        "Question: When does the pool open? Answer: At nine.",
        "**Question:** When does the pool open?\n\n**Answer:** At nine.",
    ],
)
def test_labeled_lines_are_parsed_in_every_language(text: str) -> None:
    pair = parse_draft(text)
    assert pair is not None
    assert is_question(pair.question)
    assert pair.answer
    assert not is_question(pair.answer) or "เก้า" in pair.answer


@pytest.mark.parametrize(
    ("question", "mentioned"),
    [
        ("Was steht in diesem Abschnitt über die Fähre?", True),
        ("这段文字讲了什么？", True),
        ("この文章によると、船は何時に出ますか。", True),
        ("ข้อความนี้กล่าวถึงอะไร", True),
        ("इस अनुच्छेद में क्या लिखा है?", True),
        *((passage.question, False) for passages in PASSAGES.values() for passage in passages),
    ],
)
def test_a_question_that_mentions_the_passage_is_seen_in_every_language(question: str, mentioned: bool) -> None:
    assert bool(MENTIONS_PASSAGE.search(question)) is mentioned
