from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from sizewise.documents import Reading, ReadOptions, read_paths
from sizewise.errors import SizewiseError, UsageError


def write(path: Path, rows: Sequence[Any]) -> Path:
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return path


def read_row(tmp_path: Path, row: Any) -> tuple[list[tuple[str, str]], tuple[str, ...], str]:
    """Read one row: its turns, its references, the detected row format."""
    reading = read_paths([write(tmp_path / "x.jsonl", [row])])
    (example,) = reading.examples
    (form,) = reading.forms
    return [(m.role, m.content) for m in example.messages], example.references, form


USER = {"role": "user", "content": "Q?"}
CALL = {"id": "c", "type": "function", "function": {"name": "find", "arguments": '{"key": 3}'}}


@pytest.mark.parametrize(
    ("row", "turns", "references", "form"),
    [
        ({"instruction": "Sort.", "input": "b a", "output": "a b"}, [("user", "Sort.\n\nb a")], ("a b",),
         "instruction + input + output (Alpaca)"),
        ({"instruction": "Sort.", "input": "", "output": "a b", "text": "### Sort"}, [("user", "Sort.")], ("a b",),
         "instruction + input + output (Alpaca)"),
        ({"instruction": "Sort.", "input": None, "output": "a", "system": "Be short.", "history": [["x", "y"]]},
         [("system", "Be short."), ("user", "x"), ("assistant", "y"), ("user", "Sort.")], ("a",),
         "instruction + input + output (Alpaca)"),
        ({"instruction": "Who?", "context": "Ada wrote it.", "response": "Ada"}, [("user", "Who?\n\nAda wrote it.")],
         ("Ada",), "instruction + context + response"),
        ({"question": "Who?", "context": "Ada wrote it.", "answers": {"text": ["Ada"], "answer_start": [0]}},
         [("user", "Ada wrote it.\n\nWho?")], ("Ada",), "question + context + answers (SQuAD)"),
        ({"text": "Where is it?", "label": "delivery"}, [("user", "Where is it?")], ("delivery",), "text + label"),
        ({"text": "Where is it?", "label": 0}, [("user", "Where is it?")], ("0",), "text + label"),
        ({"prompt": "Is it?", "label": True}, [("user", "Is it?")], ("true",), "prompt + label"),
        ({"prompt": "Q?", "completion": "A"}, [("user", "Q?")], ("A",), "prompt + completion"),
        ({"Question": "Q?", " Answers ": ["A", None, "B", " "]}, [("user", "Q?")], ("A", "B"), "question + answers"),
        ({"prompt": [{"role": "developer", "content": "Be short."}, USER], "answer": "A"},
         [("system", "Be short."), ("user", "Q?")], ("A",), "prompt (messages) + answer"),
        ({"prompt": [USER], "completion": [{"role": "assistant", "content": "A"}]}, [("user", "Q?")], ("A",),
         "prompt (messages) + completion"),
        ({"messages": [USER, {"role": "assistant", "content": "A"}]}, [("user", "Q?")], ("A",),
         "messages that end with the answer (OpenAI)"),
        ({"messages": [USER], "references": ["A"]}, [("user", "Q?")], ("A",), "messages + references (OpenAI)"),
        ({"system": "Be short.", "conversations": [{"from": "human", "value": "Q?"}, {"from": "gpt", "value": "A"}]},
         [("system", "Be short."), ("user", "Q?")], ("A",), "conversations that end with the answer (ShareGPT)"),
        ({"messages": [{"role": "user", "content": [{"type": "text", "text": "Q"}, {"type": "text", "text": "?"}]}],
          "answer": "A"}, [("user", "Q\n?")], ("A",), "messages + answer (OpenAI)"),
        ({"messages": [USER, {"role": "assistant", "content": None, "tool_calls": [CALL]},
                       {"role": "tool", "name": "find", "content": "hook 3"}, {"role": "tool", "content": "hook 4"},
                       {"role": "assistant", "content": "On hook 3."}]},
         [("user", "Q?"), ("assistant", ""), ("tool", "hook 3"), ("tool", "hook 4")], ("On hook 3.",),
         "messages that end with the answer (OpenAI)"),
        ({"prompt": "One\u2028two\u0085three", "answer": "A\u2029B"}, [("user", "One\u2028two\u0085three")],
         ("A\u2029B",), "prompt + answer"),
    ],
)  # fmt: skip
def test_the_forms_of_other_tools_are_read(
    tmp_path: Path, row: Any, turns: list[tuple[str, str]], references: tuple[str, ...], form: str
) -> None:
    assert read_row(tmp_path, row) == (turns, references, form)


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ({"instruction": "", "input": "", "output": "A"}, "'instruction' is empty"),
        ({"prompt": "  ", "answer": "A"}, "'prompt' is empty"),
        ({"prompt": {"text": "Q"}, "answer": "A"}, "prompt is an object, not text"),
        ({"prompt": ["Q"], "answer": "A"}, "message 1: a string, not an object"),
        ({"prompt": "Q", "answer": None}, "'answer' is null"),
        ({"prompt": "Q", "references": [None]}, "references is empty"),
        ({"prompt": "Q", "references": [{"text": "A"}]}, "references is an object, not text"),
        ({"prompt": "Q", "references": [["A"]]}, "references is a list, not text"),
        ({"prompt": "Q", "output": {"a": 1}}, "'output' is an object, not text"),
        ({"text": "T", "label": None}, "the label is empty"),
        ({"text": "T", "labels": ["a", "b"]}, "'labels' has 2 labels"),
        ({"messages": [{"role": "assistant", "content": "A"}]}, "'messages' has no user message before the answer"),
        ({"messages": "Q?", "answer": "A"}, "messages is a string, not a list"),
        ({"messages": [{"role": "user", "content": None}], "answer": "A"}, "content is null, not text"),
        ({"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]}], "answer": "A"},
         "the image .*x doesn't exist"),
        ({"conversations": [{"from": "alien", "value": "Q"}], "answer": "A"}, 'the role is "alien"'),
        ({"prompt": "Q \ud83d", "answer": "A"}, r"prompt has an unpaired surrogate \(.ud83d\)"),
        ({"prompt": "Q", "answer": "A", "id": ["x"]}, "id is a list"),
        ({"prompt": "Q", "answer": "A", "split": "exam"}, "the split is 'exam'"),
        ({"prompt": "Q", "answer": float("nan")}, "answer is NaN or infinite"),
    ],
)  # fmt: skip
def test_unusable_rows_are_rejected_with_line_and_reason(tmp_path: Path, row: Any, reason: str) -> None:
    path = tmp_path / "x.jsonl"
    path.write_text("\n" + json.dumps(row) + "\n", encoding="utf-8")
    with pytest.raises(SizewiseError, match=f"line 2: .*{reason}"):
        read_paths([path])


def some(count: int) -> list[dict[str, Any]]:
    return [{"id": i, "prompt": f"Question {i}?", "answer": f"It is number {i}."} for i in range(count)]


def test_a_rejected_row_is_counted_and_noted(tmp_path: Path) -> None:
    rows = some(60)
    rows[30]["answer"] = None
    reading = read_paths([write(tmp_path / "x.jsonl", rows)])
    assert len(reading.examples) == 59
    assert reading.examples[0].id == "0"
    assert [(row.file, row.line) for row in reading.rejected] == [("x.jsonl", 31)]
    assert "x.jsonl: 1 of 60 rows was rejected (see rejected.jsonl)" in reading.notes
    assert any(note.startswith("x.jsonl, line 31: ") and "'answer' is null" in note for note in reading.notes)


def test_too_many_bad_rows_stop_with_the_first_ten(tmp_path: Path) -> None:
    path = write(tmp_path / "x.jsonl", [row | ({"answer": None} if row["id"] % 3 == 0 else {}) for row in some(60)])
    with pytest.raises(SizewiseError) as error:
        read_paths([path])
    assert "20 of 60 rows cannot be used (33.3%)" in error.value.what
    assert error.value.what.count("\n  line") == 10
    assert "and 10 more" in error.value.what
    assert "--max-rejects 0.34" in error.value.next_step
    assert len(read_paths([path], ReadOptions(0.34)).examples) == 40
    with pytest.raises(UsageError):
        read_paths([path], ReadOptions(1.5))


def test_a_file_without_any_usable_row_is_refused_whatever_the_share(tmp_path: Path) -> None:
    with pytest.raises(SizewiseError, match="3 of 3 rows cannot be used"):
        read_paths([write(tmp_path / "x.jsonl", [1, 2, 3])], ReadOptions(1.0))


def test_rows_without_text_are_skipped_with_a_note(tmp_path: Path) -> None:
    reading = read_paths([write(tmp_path / "x.jsonl", [{"text": "Some text."}, {"text": " "}, {"text": "More."}])])
    assert [document.text for document in reading.documents] == ["Some text.", "More."]
    assert reading.notes == ["x.jsonl: skipped 1 row without text"]


def test_unused_columns_of_documents_are_noted_too(tmp_path: Path) -> None:
    reading = read_paths([write(tmp_path / "x.jsonl", [{"text": "Some text.", "topic": "a"}])])
    assert reading.notes == ["x.jsonl: unused columns: topic"]


def table(tmp_path: Path, text: str, name: str = "x.csv", encoding: str = "utf-8") -> Reading:
    path = tmp_path / name
    path.write_bytes(text.encode(encoding))
    return read_paths([path])


@pytest.mark.parametrize(
    ("text", "encoding"),
    [
        ("prompt,answer\n{}", "utf-8"),
        ("Question,Answer\r\n{}", "utf-8-sig"),
        ("question; ANSWER \n{}", "utf-8"),
        ("prompt\tanswer\n{}", "utf-16"),
        (" Prompt | Answer\n{}", "utf-8"),
        ("sep=;\r\nprompt;answer\r\n{}", "utf-8"),
        ("id,text,label\n{}", "utf-8"),
    ],
)
def test_tables_as_spreadsheets_save_them_are_read(tmp_path: Path, text: str, encoding: str) -> None:
    between = next(mark for mark in "\t;|," if mark in text.split("\n")[-2])
    rows = "".join(
        between.join([*(["7"] if "id," in text else []), f'"May I, {i}?"', f"Gate {i}"]) + "\r\n" for i in range(4)
    )
    found = table(tmp_path, text.format(rows), encoding=encoding).examples
    assert [(e.prompt, e.references) for e in found] == [(f"May I, {i}?", (f"Gate {i}",)) for i in range(4)]


def test_a_row_with_more_cells_than_headings_is_rejected_with_its_line(tmp_path: Path) -> None:
    rows = "".join(f'"What is\nrule {i}?",Rule {i}.\n' for i in range(30))
    reading = table(tmp_path, f"prompt,answer\n{rows}May I?,Yes, but only there.\n")
    assert len(reading.examples) == 30
    assert [(row.line, "3 cells under 2 headings" in row.reason) for row in reading.rejected] == [(62, True)]


def test_cells_are_not_cut_at_any_length(tmp_path: Path) -> None:
    long = "A rule. " * 20_000
    path = tmp_path / "x.csv"
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([["title", "text"], ["One", long]])
    assert read_paths([path]).documents[0].text == long.strip()


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("Frage,Antwort\nQ,A\n", "the headings are 'Frage', 'Antwort'"),
        ("prompt,answer,answer\nQ,A,B\n", "two columns are named 'answer'"),
        ('prompt,answer\nQ,A\n"Q,A\nQ,A\n', "the quote opened in line 3 is never closed"),
        ("prompt,answer\n", "no rows"),
    ],
)
def test_a_table_that_cannot_be_read_says_why(tmp_path: Path, text: str, reason: str) -> None:
    with pytest.raises(SizewiseError, match=reason):
        table(tmp_path, text)


def test_lists_in_one_json_file_are_read_with_their_lines(tmp_path: Path) -> None:
    rows = some(40)
    (tmp_path / "a.json").write_text(json.dumps(rows, indent=1), encoding="utf-8")
    (tmp_path / "b.json").write_text(json.dumps({"version": 2, "data": rows}, indent=1), encoding="utf-8")
    (tmp_path / "c.jsonl").write_text(json.dumps(rows), encoding="utf-8")
    (tmp_path / "d.json").write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    for name in ("a.json", "b.json", "c.jsonl", "d.json"):
        assert len(read_paths([tmp_path / name]).examples) == 40, name
    rows[1]["answer"] = None
    (tmp_path / "a.json").write_text(json.dumps(rows, indent=1), encoding="utf-8")
    assert read_paths([tmp_path / "a.json"]).rejected[0].line == 7


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ('[{"prompt": "Q", "answer": "A"},\n {"prompt": "Q"', "invalid at line 2"),
        ('{\n "name": "tool",\n "files": []\n}', "a single JSON object with the keys 'name', 'files'"),
        ("[1, 2]", "line 1: a number, not a JSON object"),
        ('[{"prompt": "Q", "answer": "A"}]\n[{"prompt": "R", "answer": "B"}]', "ends at line 1, followed by more text"),
        ("null", "line 1: null, not a JSON object"),
        ("12.5\n", "line 1: a number, not a JSON object"),
        ('"text"', "line 1: a string, not a JSON object"),
        ("true", "line 1: true or false, not a JSON object"),
    ],
)
def test_json_that_holds_no_rows_is_named_and_does_not_stop_a_folder(tmp_path: Path, text: str, reason: str) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    (folder / "x.json").write_text(text, encoding="utf-8")
    with pytest.raises(SizewiseError, match=reason):
        read_paths([folder])
    (folder / "a.txt").write_text("Some text.", encoding="utf-8")
    reading = read_paths([folder])
    assert len(reading.documents) == 1
    assert any("x.json" in note for note in reading.notes)


@pytest.mark.parametrize(
    "row",
    [
        '{"prompt": "Which?", "prompt": "What?", "answer": "A"}',
        '{"prompt": "Which?", "answer": "A", "answer": "B"}',
        '{"messages": [{"role": "user", "content": "Which?", "content": "What?"}], "answer": "A"}',
    ],
)
@pytest.mark.parametrize("listed", [False, True])
def test_a_row_with_a_duplicate_key_is_rejected(tmp_path: Path, row: str, listed: bool) -> None:
    rows = [row, '{"prompt": "Same?", "prompt": "Same?", "answer": "A"}', *map(json.dumps, some(30))]
    path = tmp_path / "x.json"
    path.write_text(f"[{','.join(rows)}]" if listed else "\n".join(rows), encoding="utf-8")
    reading = read_paths([path])
    assert len(reading.examples) == 31
    (rejected,) = reading.rejected
    assert "occurs twice with different values" in rejected.reason


@pytest.mark.parametrize("row", [{"Answer": "no", "answer": "yes"}, {"answer": "yes", "Answer": "no"}])
def test_of_keys_that_differ_in_case_the_lower_case_one_is_read_and_the_other_noted(tmp_path: Path, row: Any) -> None:
    reading = read_paths([write(tmp_path / "x.jsonl", [{"Prompt": "Is it?", **row}])])
    assert reading.examples[0].references == ("yes",)
    assert reading.notes == ["x.jsonl: unused columns: Answer"]


def test_numbers_keep_their_spelling(tmp_path: Path) -> None:
    path = tmp_path / "x.jsonl"
    path.write_text(
        "".join(f'{{"prompt": "Price {i}?", "answer": {n}}}\n' for i, n in enumerate(("4.50", "1.10", "1E5", "7"))),
        encoding="utf-8",
    )
    assert [one.references for one in read_paths([path]).examples] == [("4.50",), ("1.10",), ("1E5",), ("7",)]


def test_the_list_of_rows_is_that_of_the_outer_object(tmp_path: Path) -> None:
    inner = [{"prompt": f"Inner {i}?", "answer": "no"} for i in range(3)]
    path = tmp_path / "x.json"
    path.write_text(json.dumps({"about": {"data": inner}, "data": some(4)}), encoding="utf-8")
    assert [one.references for one in read_paths([path]).examples] == [(row["answer"],) for row in some(4)]


def test_files_that_were_joined_lose_no_rows_and_gain_none(tmp_path: Path) -> None:
    lines = "".join(f"Question {i}?,Answer {i}\n" for i in range(20))
    reading = table(tmp_path, f"Question,Answer\n{lines}\ufeffQuestion,Answer\n{lines.replace('?', '!')}")
    assert len(reading.examples) == 40
    assert [(row.line, row.reason.split(",")[0]) for row in reading.rejected] == [(22, "the headings again")]
    path = tmp_path / "x.jsonl"
    rows = "".join(json.dumps(row) + "\n" for row in some(5))
    path.write_text(rows + "\ufeff" + rows, encoding="utf-8")
    assert len(read_paths([path]).examples) == 10


def test_blank_lines_before_the_headings_do_not_hide_them(tmp_path: Path) -> None:
    reading = table(tmp_path, "\r\n\nprompt,answer\n" + "Q,A\n" * 30 + 'Q,"A"B\n')
    assert len(reading.examples) == 30
    assert reading.rejected[0].line == 34


@pytest.mark.parametrize(
    ("heading", "cell"),
    [
        ("answers", "['yes', 'no']"),
        ("references", "['yes' 'no']"),
        ("choices", '["yes" "no"]'),
        ("messages", "[{'role': 'user'}]"),
    ],
)
def test_python_lists_are_rejected(tmp_path: Path, heading: str, cell: str) -> None:
    other = {"messages": "id", "choices": "prompt,answer"}.get(heading, "prompt")
    quoted = '"' + cell.replace('"', '""') + '"'
    with pytest.raises(SizewiseError, match=f"line 2: {heading} is a Python list, not a JSON list"):
        table(tmp_path, f"{other},{heading}\n{other.replace('answer', 'yes')},{quoted}\n")


def test_lists_in_cells_are_read_where_they_are_json(tmp_path: Path) -> None:
    row = 'Is it?,yes,"[""yes"", ""no""]",[see] it'
    (example,) = table(tmp_path, f"prompt,answer,choices,tags\n{row}\n").examples
    assert (example.choices, example.tags) == (("yes", "no"), ("[see] it",))


@pytest.mark.parametrize("said", ["On hook 3.", " On  hook 3. "])
def test_an_answer_that_ends_the_conversation_is_not_part_of_the_prompt(tmp_path: Path, said: str) -> None:
    turns = [USER, {"role": "assistant", "content": said}]
    for row in ({"messages": turns, "answer": "On hook 3."}, {"prompt": turns, "completion": "On hook 3."}):
        assert read_row(tmp_path, row)[:2] == ([("user", "Q?")], ("On hook 3.",))


def test_a_conversation_that_ends_with_the_answer_in_a_sentence_is_refused(tmp_path: Path) -> None:
    turns = [USER, {"role": "assistant", "content": "We add them, so it is 42."}]
    with pytest.raises(
        SizewiseError, match="ends with an assistant message that contains the reference answer in 'answer'"
    ):
        read_paths([write(tmp_path / "x.jsonl", [{"messages": turns, "answer": "42"}])])
    begun = [USER, {"role": "assistant", "content": "The number is"}]
    assert read_row(tmp_path, {"messages": begun, "answer": "42"})[0][-1] == ("assistant", "The number is")
    assert read_row(tmp_path, {"messages": turns, "label": "so"})[1] == ("so",)


def test_a_short_input_is_kept_and_one_already_in_the_prompt_is_not_repeated(tmp_path: Path) -> None:
    short = {"instruction": "Is 15 more than this?", "input": "5", "output": "yes"}
    assert read_row(tmp_path, short)[0] == [("user", "Is 15 more than this?\n\n5")]
    whole = {"instruction": "Sort these.\nb a", "input": "b a", "output": "a b"}
    assert read_row(tmp_path, whole)[0] == [("user", "Sort these.\nb a")]


def test_history_next_to_a_conversation_is_noted_as_unused(tmp_path: Path) -> None:
    row = {"messages": [USER, {"role": "assistant", "content": "A"}], "system": "Short.", "history": [["x", "y"]]}
    reading = read_paths([write(tmp_path / "x.jsonl", [row])])
    assert reading.notes == ["x.jsonl: unused columns: history"]
    assert [turn.content for turn in reading.examples[0].messages] == ["Short.", "Q?"]
