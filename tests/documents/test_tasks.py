"""Row formats of the field: what becomes of prompt, answers, labels, tools and worse answers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sizewise.documents import Reading, ReadOptions, read_paths
from sizewise.documents.cells import PAIR_KEYS, PROMPT_KEYS, REFERENCE_KEYS, TIME_KEYS, TURN_KEYS
from sizewise.documents.rows import RowSource, read_rows
from sizewise.documents.tables import Row
from sizewise.errors import SizewiseError
from sizewise.records import Example

USER = {"role": "user", "content": "Wo ist die Tür?"}
GOOD = {"role": "assistant", "content": "Links."}
WORSE = {"role": "assistant", "content": "Weiß nicht."}
CALL = {"id": "c1", "type": "function", "function": {"name": "find", "arguments": {"price": 4.50, "city": "東京"}}}


def read(tmp_path: Path, *rows: Any, options: ReadOptions | None = None) -> Reading:
    path = tmp_path / "x.jsonl"
    lines = (row if isinstance(row, str) else json.dumps(row, ensure_ascii=False) for row in rows)
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return read_paths([path], options or ReadOptions())


def only(reading: Reading) -> Example:
    (example,) = reading.examples
    return example


@pytest.mark.parametrize(
    ("row", "form"),
    [
        ({"prompt": "Wo ist die Tür?", "chosen": "Links.", "rejected": "Weiß nicht."},
         "prompt + chosen + rejected (preference pair)"),
        ({"prompt": [USER], "chosen": [GOOD], "rejected": [WORSE]},
         "prompt (messages) + chosen + rejected (preference pair)"),
        ({"chosen": [USER, GOOD], "rejected": [USER, WORSE]}, "chosen + rejected (preference pair)"),
        ({"prompt": "Wo ist die Tür?", "chosen": [USER, GOOD], "rejected": [USER, WORSE], "score_chosen": 7},
         "prompt + chosen + rejected (preference pair)"),
        ({"chosen": "\n\nHuman: Wo ist die Tür?\n\nAssistant: Links.",
          "rejected": "\n\nHuman: Wo ist die Tür?\n\nAssistant: Weiß nicht."}, "chosen + rejected (preference pair)"),
        ({"conversations": [{"from": "human", "value": "Wo ist die Tür?"}],
          "chosen": {"from": "gpt", "value": "Links."}, "rejected": {"from": "gpt", "value": "Weiß nicht."}},
         "conversations + chosen + rejected (preference pair)"),
    ],
)  # fmt: skip
def test_preference_pairs_keep_both_answers(tmp_path: Path, row: Any, form: str) -> None:
    reading = read(tmp_path, row)
    example = only(reading)
    assert [(turn.role, turn.content) for turn in example.messages] == [("user", "Wo ist die Tür?")]
    assert (example.references, example.rejected) == (("Links.",), ("Weiß nicht.",))
    assert dict(reading.forms) == {form: 1}


def test_earlier_turns_of_a_dialogue_as_text_are_kept(tmp_path: Path) -> None:
    begun = "\n\nHuman: 你好\n\nAssistant: 你好。\n\nHuman: 门在哪里\n\nAssistant:"
    example = only(read(tmp_path, {"chosen": f"{begun} 左边。", "rejected": f"{begun} 不知道。"}))
    assert [turn.content for turn in example.messages] == ["你好", "你好。", "门在哪里"]
    assert (example.references, example.rejected) == (("左边。",), ("不知道。",))


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ({"chosen": [USER, GOOD], "rejected": [GOOD, WORSE]}, "answer different prompts"),
        ({"prompt": "Other?", "chosen": [USER, GOOD], "rejected": [USER, WORSE]}, "another prompt than that of"),
        ({"chosen": "Links.", "rejected": "Rechts."}, "the preference pair has no prompt"),
        ({"prompt": "Q", "chosen": "A", "rejected": None}, "'rejected' is null"),
        ({"prompt": "Q", "chosen": "A", "rejected": ""}, "'rejected' is empty"),
        ({"chosen": [USER], "rejected": [USER]}, "'chosen' doesn't end with an answer"),
    ],
)
def test_preference_pairs_that_are_none_are_rejected(tmp_path: Path, row: Any, reason: str) -> None:
    with pytest.raises(SizewiseError, match=f"line 1: .*{reason}"):
        read(tmp_path, row)


def test_answers_rated_good_or_bad_are_references_or_rejected(tmp_path: Path) -> None:
    rows = [
        {"prompt": "Q1?", "completion": "A", "label": True},
        {"prompt": [USER], "completion": [WORSE], "label": False},
    ]
    good, bad = read(tmp_path, *rows).examples
    assert (good.references, good.rejected, good.label) == (("A",), (), "")
    assert (bad.references, bad.rejected, bad.label) == ((), ("Weiß nicht.",), "")


def test_rows_without_a_reference_are_counted_and_noted(tmp_path: Path) -> None:
    reading = read(tmp_path, {"prompt": "Q?"}, {"messages": [USER]}, {"question": "R?", "answer": "A"})
    assert [example.references for example in reading.examples] == [(), (), ("A",)]
    assert reading.forms["prompt, no reference answer"] == 1
    assert any(note.startswith("x.jsonl: 2 rows without a reference answer") for note in reading.notes)


def test_a_reference_that_is_empty_is_not_the_same_as_none(tmp_path: Path) -> None:
    for row in ({"prompt": "Q?", "answer": ""}, {"prompt": "Q?", "answer": None}, {"prompt": "Q?", "answers": []}):
        with pytest.raises(SizewiseError, match=r"the reference answer is missing: 'answers?' is (empty|null)"):
            read(tmp_path, row)


@pytest.mark.parametrize("label", ["billing", "退款", 0, 7])
def test_labels_are_kept_as_label_and_reference(tmp_path: Path, label: Any) -> None:
    example = only(read(tmp_path, {"text": "Wo?", "label": label}))
    assert (example.label, example.references) == (str(label), (str(label),))
    beside = only(read(tmp_path, {"prompt": "Wo?", "answer": "Links.", "label": label}))
    assert (beside.label, beside.references) == (str(label), ("Links.",))
    named = only(read(tmp_path, {"text": "Wo?", "label": 3, "label_text": "refund"}))
    assert (named.label, named.references) == ("refund", ("refund",))


def test_one_label_only_is_read_and_noted(tmp_path: Path) -> None:
    reading = read(tmp_path, *({"text": f"Fall {i}", "label": "frei"} for i in range(6)))
    assert len(reading.examples) == 6
    assert "x.jsonl: all 6 labels are 'frei'; there is nothing to classify" in reading.notes


TURNS = [
    USER,
    {"role": "assistant", "content": None, "tool_calls": [CALL]},
    {"role": "tool", "tool_call_id": "c1", "name": "find", "content": "hook 3"},
    {"role": "assistant", "content": "Haken 3."},
]


def test_calls_results_and_tools_keep_their_structure(tmp_path: Path) -> None:
    tools = [{"type": "function", "function": {"name": "find", "parameters": {}}}]
    row = json.dumps({"messages": TURNS, "tools": tools}, ensure_ascii=False).replace("4.5", "4.50")
    example = only(read(tmp_path, row))
    asked, call, result = example.messages
    assert (asked.role, call.role, result.role) == ("user", "assistant", "tool")
    (made,) = call.tool_calls
    assert (made.id, made.name, made.arguments) == ("c1", "find", '{"price": 4.50, "city": "東京"}')
    assert (result.tool_call_id, result.name, result.content) == ("c1", "find", "hook 3")
    assert json.loads(example.tools) == tools
    assert example.references == ("Haken 3.",)


@pytest.mark.parametrize(
    "turns",
    [
        [USER, {"role": "assistant", "content": [{"type": "text", "text": "I look."},
                                                 {"type": "tool_use", "id": "c1", "name": "find", "input": {"k": 3}}]},
         {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "c1", "content": "hook 3"}]}],
        [USER, {"role": "assistant", "content": "I look.",
                "function_call": {"name": "find", "arguments": '{"k": 3}'}},
         {"role": "function", "name": "find", "content": "hook 3"}],
        [{"from": "human", "value": "Wo ist die Tür?"},
         {"from": "function_call", "value": '{"name": "find", "arguments": {"k": 3}}'},
         {"from": "observation", "value": "hook 3"}],
    ],
)  # fmt: skip
def test_calls_of_other_formats_are_the_same_calls(tmp_path: Path, turns: Any) -> None:
    end = {"from": "gpt", "value": "Da."} if "from" in turns[0] else {"role": "assistant", "content": "Da."}
    example = only(read(tmp_path, {"conversations" if "from" in turns[0] else "messages": [*turns, end]}))
    assert [turn.role for turn in example.messages] == ["user", "assistant", "tool"]
    assert [(c.name, json.loads(c.arguments)) for c in example.messages[1].tool_calls] == [("find", {"k": 3})]
    assert example.messages[2].content == "hook 3"


@pytest.mark.parametrize(
    ("turn", "reason"),
    [
        ({"role": "assistant", "tool_calls": [{"function": {"arguments": "{}"}}]}, "a tool call has no name"),
        ({"role": "assistant", "tool_calls": "find"}, "tool_calls is a string, not a list"),
        ({"role": "user", "tool_calls": [CALL]}, "a tool call in a message of the user"),
        ({"from": "function_call", "value": "find it"}, "a tool call isn't JSON"),
        ({"role": "user", "content": [{"type": "input_audio"}]}, "a part of type 'input_audio'"),
        ({"role": "user", "content": [{"type": "image_url", "image_url": {"url": "https://x.org/a.png"}}]},
         "is an address; download it"),
        ({"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBO"}}]},
         "an image is embedded as data"),
        ({"role": ["user"], "content": "x"}, "the role is"),
    ],
)  # fmt: skip
def test_turns_that_cannot_be_kept_are_rejected(tmp_path: Path, turn: Any, reason: str) -> None:
    with pytest.raises(SizewiseError, match=f"message 2: .*{reason}"):
        read(tmp_path, {"messages": [USER, turn], "answer": "A"})


def test_images_of_parts_and_columns_are_kept(tmp_path: Path) -> None:
    (tmp_path / "scan 1.png").write_bytes(b"\x89PNG")
    part = {"type": "image_url", "image_url": {"url": "scan 1.png"}}
    for row in (
        {"messages": [{"role": "user", "content": [{"type": "text", "text": "Was?"}, part]}], "answer": "A"},
        {"prompt": "Was?", "images": ["scan 1.png"], "answer": "A"},
        {"prompt": "Was?", "image": "scan 1.png", "answer": "A"},
    ):
        assert only(read(tmp_path, row)).messages[-1].images == (str((tmp_path / "scan 1.png").resolve()),)


def test_squad_files_are_read_as_published(tmp_path: Path) -> None:
    answers = [{"text": "1889", "answer_start": 3}, {"text": "1889", "answer_start": 3}, {"text": "in 1889"}]
    questions = [
        {"id": "a", "question": "When?", "answers": answers[:2]},
        {"id": "b", "question": "Why?", "answers": [], "is_impossible": True},
    ]
    article = {"title": "Tower", "paragraphs": [{"context": "It was built in 1889.", "qas": questions}]}
    (tmp_path / "x.json").write_text(json.dumps({"version": "v2.0", "data": [article]}), encoding="utf-8")
    reading = read_paths([tmp_path / "x.json"])
    first, second = reading.examples
    assert (first.id, first.references, first.source) == ("a", ("1889",), "Tower")
    assert first.source_is_document  # a word as title is no collection
    assert first.prompt == "It was built in 1889.\n\nWhen?"
    assert (second.id, second.references) == ("b", ())
    assert any("1 row marked as without an answer" in note for note in reading.notes)


@pytest.mark.parametrize("column", ["document", "doc", "doc_id", "Document ID", "file", "Filename", "File name"])
def test_a_document_is_the_source_and_a_source_beside_it_a_collection(tmp_path: Path, column: str) -> None:
    reading = read(tmp_path, {"prompt": "Q?", "answer": "A", column: "lease", "source": "legal", "tags": ["x"]})
    example = only(reading)
    assert (example.source, example.source_is_document, example.tags) == ("lease", True, ("x", "legal"))
    assert not reading.notes


def test_the_source_counts_where_a_document_is_blank_or_a_text(tmp_path: Path) -> None:
    for document in ("", " ", None, "A first line.\nAnd a second one.", {"html": "<p>"}, "word " * 100):
        row = {"prompt": "Q?", "answer": "A", "document": document, "source": " legal ", "id": "q1"}
        example = only(read(tmp_path, row))
        assert (example.source, example.source_is_document, example.tags) == ("legal", False, ())
        assert only(read(tmp_path, row | {"source": " "})).source == "q1"
    assert only(read(tmp_path, {"prompt": "Q?", "answer": "A", "doc_id": 0})).source == "0"


def test_the_number_of_a_choice_is_the_choice(tmp_path: Path) -> None:
    choices = ["red", "green", "blue"]
    assert only(read(tmp_path, {"question": "Which?", "choices": choices, "answer": 2})).references == ("blue",)
    assert only(read(tmp_path, {"question": "2 or 3?", "choices": ["3", "2"], "answer": 2})).references == ("2",)


def test_several_lists_of_one_object_are_splits(tmp_path: Path) -> None:
    def rows(name: str) -> list[dict[str, str]]:
        return [{"prompt": f"{name} {i}?", "answer": "A"} for i in range(3)]

    whole = {"train": rows("train"), "test": rows("test")}
    (tmp_path / "x.json").write_text(json.dumps(whole), encoding="utf-8")
    assert [e.split for e in read_paths([tmp_path / "x.json"]).examples] == ["train"] * 3 + ["test"] * 3
    (tmp_path / "x.json").write_text(json.dumps({"train": rows("train")}, indent=1), encoding="utf-8")
    assert len(read_paths([tmp_path / "x.json"]).examples) == 3


def test_a_line_that_holds_a_list_of_rows_is_those_rows(tmp_path: Path) -> None:
    inner = [{"prompt": f"Frage {i}?", "answer": "ja"} for i in range(4)]
    assert len(read(tmp_path, {"data": inner}).examples) == 4
    reading = read(tmp_path, {"data": inner}, {"data": [{"prompt": "Noch?", "answer": "nein"}]})
    assert [example.id for example in reading.examples] == [
        "x.jsonl:1", "x.jsonl:1.2", "x.jsonl:1.3", "x.jsonl:1.4", "x.jsonl:2",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("stated", "expected"),
    [
        ({"time": "2026-03-01T12:00:00Z"}, "2026-03-01T12:00:00+00:00"),
        ({"timestamp": "2026-03-01 12:00:00+02:00"}, "2026-03-01T10:00:00+00:00"),
        ({"date": "2026-03-01"}, "2026-03-01"),
        ({"Created At": "2026-03"}, "2026-03"),
        ({"created_at": "1.3.2026"}, "2026-03-01"),
        ({"date": "03/01/2026"}, ""),
        ({"time": 5}, ""),
    ],
)
def test_time_group_and_language_are_kept(tmp_path: Path, stated: Any, expected: str) -> None:
    row, document = {"prompt": "Q?", "answer": "A"} | stated, {"text": "Ein Text.", "language": "de-CH"} | stated
    reading = read(tmp_path, row | {"group": "customer 4"}, document | {"group": "author"})
    example, text = only(reading), next(iter(reading.documents))
    assert (example.time, example.group) == (expected, "customer 4")
    assert (text.time, text.group, text.language) == (expected, "author", "de")
    assert any("in an unknown notation" in note for note in reading.notes) == (not expected)


@pytest.mark.parametrize("source", ["NHS", "handbook.pdf", "帮助台"])
def test_the_source_of_a_row_is_kept_as_it_is(tmp_path: Path, source: str) -> None:
    assert only(read(tmp_path, {"prompt": "Q?", "answer": "A", "source": source})).source == source


@pytest.mark.parametrize(
    "extra",
    [
        {"messages": [USER, GOOD], "prompt": "Wo ist die Tür?"},
        {"messages": [USER, GOOD], "prompt": "Wo ist die Tür?", "prompt_id": "7f"},
        {"messages": [USER, WORSE]},
        {"messages": [USER]},
    ],
)
@pytest.mark.parametrize("before", [[], [USER]])
def test_a_conversation_beside_a_pair_never_puts_the_answer_into_the_prompt(
    tmp_path: Path, extra: Any, before: Any
) -> None:
    example = only(read(tmp_path, {"chosen": [*before, GOOD], "rejected": [*before, WORSE]} | extra))
    assert [turn.content for turn in example.messages] == ["Wo ist die Tür?"]
    assert (example.references, example.rejected) == (("Links.",), ("Weiß nicht.",))


def test_a_prompt_that_repeats_a_message_is_no_second_prompt(tmp_path: Path) -> None:
    example = only(read(tmp_path, {"prompt": "Wo ist die Tür?", "messages": [USER, GOOD, USER, WORSE]}))
    assert [turn.content for turn in example.messages] == ["Wo ist die Tür?", "Links.", "Wo ist die Tür?"]
    with pytest.raises(SizewiseError, match="both 'prompt' and 'messages'"):
        read(tmp_path, {"prompt": "Etwas anderes?", "messages": [USER, GOOD]})


def test_equal_answers_are_no_pair(tmp_path: Path) -> None:
    with pytest.raises(SizewiseError, match="'chosen' and 'rejected' are the same answer"):
        read(tmp_path, {"prompt": "Q?", "chosen": "A", "rejected": "A\n"})


RATED = [
    ({"instruction": "Wo ist die Tür?", "output": "X"}, "kto_tag"),
    ({"prompt": "Wo ist die Tür?", "response": "X"}, "label"),
    ({"prompt": "Wo ist die Tür?", "answer": "X"}, "label"),
    ({"messages": [USER, {"role": "assistant", "content": "X"}]}, "label"),
    ({"conversations": [{"from": "human", "value": "Wo ist die Tür?"}, {"from": "gpt", "value": "X"}]}, "kto_tag"),
    ({"messages": [USER], "completion": "X"}, "label"),
]  # fmt: skip


@pytest.mark.parametrize(("row", "key"), RATED)
@pytest.mark.parametrize("good", [True, False, "True", "false"])
def test_an_answer_that_is_rated_bad_is_never_the_reference(tmp_path: Path, row: Any, key: str, good: Any) -> None:
    example = only(read(tmp_path, row | {key: good}))
    is_good = str(good).lower() == "true"
    assert [turn.content for turn in example.messages] == ["Wo ist die Tür?"]
    assert (example.references, example.rejected) == ((("X",), ()) if is_good else ((), ("X",)))
    assert example.label == ""


def test_ratings_can_be_numbers(tmp_path: Path) -> None:
    rows = [{"prompt": f"Q{i}?", "completion": "A", "label": i % 2} for i in range(20)]
    found = list(read(tmp_path, *rows).examples)
    assert [bool(example.references) for example in found] == [False, True] * 10
    table = "prompt,completion,label\n" + "".join(f"Q{i}?,A,{i % 2}\n" for i in range(20))
    (tmp_path / "x.csv").write_text(table, encoding="utf-8")
    found = list(read_paths([tmp_path / "x.csv"]).examples)
    assert [bool(example.references) for example in found] == [False, True] * 10
    more = [{"prompt": "Q?", "completion": "A", "label": 2}, *rows]
    assert all(example.references for example in read(tmp_path, *more).examples)
    with pytest.raises(SizewiseError, match="'label' is '2', but it is 0 or 1 in other rows"):
        read(tmp_path, *rows * 10, more[0], options=ReadOptions(0.0))


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        ({"choices": ["2", "3", "0", "1"], "answer": 0}, "2"),
        ({"choices": ["2", "3", "0", "1"], "answer": [3]}, "1"),
        ({"choices": ["2", "3", "0", "1"], "answer": "0"}, "0"),
        ({"choices": [2, 3, 0, 1], "answer": 0}, "0"),
        ({"choices": ["rot", "grün"], "answer": "B"}, "grün"),
        ({"choices": ["rot", "grün"], "answer": "(a)"}, "rot"),
        ({"choices": ["B", "A"], "answer": "A"}, "A"),
        ({"choices": {"text": ["rot", "grün"], "label": ["A", "B"]}, "answerKey": "B"}, "grün"),
        ({"choices": {"text": ["3", "1"], "label": ["1", "2"]}, "answerKey": "1"}, "3"),
        ({"choices": ["rot", "grün"], "label": 1}, "grün"),
    ],
)
def test_numbers_and_letters_of_choices_are_their_texts(tmp_path: Path, row: Any, expected: str) -> None:
    example = only(read(tmp_path, {"question": "Welche?"} | row))
    assert example.references == (expected,)
    assert expected in example.choices


@pytest.mark.parametrize("answer", ["D", 4, "7", -1])
def test_a_number_that_is_no_choice_is_rejected(tmp_path: Path, answer: Any) -> None:
    with pytest.raises(SizewiseError, match=r"but there are 2 choices|not among the choices"):
        read(tmp_path, {"question": "Welche?", "choices": ["rot", "grün"], "answer": answer})


def test_a_system_column_goes_before_a_list_of_messages(tmp_path: Path) -> None:
    example = only(read(tmp_path, {"system": "Sei kurz.", "prompt": [USER], "completion": [GOOD]}))
    assert [turn.role for turn in example.messages] == ["system", "user"]


@pytest.mark.parametrize(
    "row",
    [
        {"contents": [{"role": "user", "parts": [{"text": "Wo ist die Tür?"}]},
                      {"role": "model", "parts": [{"text": "Links."}]}],
         "systemInstruction": {"parts": [{"text": "Sei kurz."}]}},
        {"system": [{"type": "text", "text": "Sei kurz."}], "messages": [USER, GOOD]},
    ],
)  # fmt: skip
def test_rows_of_gemini_and_anthropic_are_read(tmp_path: Path, row: Any) -> None:
    example = only(read(tmp_path, row))
    assert [turn.content for turn in example.messages] == ["Sei kurz.", "Wo ist die Tür?"]
    assert example.references == ("Links.",)


def test_lines_that_end_with_a_comma_are_rows(tmp_path: Path) -> None:
    rows = [json.dumps({"prompt": f"Q{i}?", "answer": "A"}) + "," for i in range(3)]
    assert len(read(tmp_path, *rows).examples) == 3


@pytest.mark.parametrize(
    ("answer", "kept"),
    [
        ("    if x:\n        return 1\n", "    if x:\n        return 1"),
        ("\n\n    return x\n\n", "    return x"),
        ("\treturn x", "\treturn x"),
        (" yes", "yes"),
        ("ja ", "ja"),
    ],
)
def test_the_indentation_of_an_answer_is_kept(tmp_path: Path, answer: str, kept: str) -> None:
    assert only(read(tmp_path, {"prompt": "Q?", "completion": answer})).references == (kept,)
    assert only(read(tmp_path, {"prompt": "Q?", "chosen": answer, "rejected": "no"})).references == (kept,)


def test_the_reasoning_of_a_model_is_no_part_of_the_answer(tmp_path: Path) -> None:
    thought = "<think>\nErst links, dann 右边?\n</think>\n\nLinks."
    reading = read(tmp_path, {"prompt": "Q?", "answer": thought}, {"messages": [USER, GOOD | {"content": thought}]},
                   {"prompt": "Q?", "chosen": thought, "rejected": "<think>…</think>Rechts."})  # fmt: skip
    assert [example.references for example in reading.examples] == [("Links.",)] * 3
    assert list(reading.examples)[2].rejected == ("Rechts.",)
    assert any("model's reasoning, which was left out" in note for note in reading.notes)
    with pytest.raises(SizewiseError, match="only reasoning"):
        read(tmp_path, {"prompt": "Q?", "answer": "<think>Erst links"})


def test_earlier_answers_of_weight_zero_are_marked_and_reasoning_is_taken_off(tmp_path: Path) -> None:
    thought = GOOD | {"content": "<think>hm</think>Fine."}
    turns = [USER, WORSE | {"weight": 0}, USER, thought, USER, GOOD]
    example = only(read(tmp_path, {"messages": turns}))
    answers = [message for message in example.messages if message.role == "assistant"]
    assert [message.excluded for message in answers] == [True, False]
    assert answers[1].content == "Fine."
    assert "excluded" not in answers[1].model_dump()


def test_answers_of_weight_zero_are_no_references(tmp_path: Path) -> None:
    ignored = WORSE | {"weight": 0}
    example = only(read(tmp_path, {"messages": [USER, GOOD | {"weight": 1}, USER, ignored]}))
    assert (len(example.messages), example.references) == (1, ("Links.",))
    free = only(read(tmp_path, {"messages": [USER, ignored]}))
    assert (len(free.messages), free.references) == (1, ())
    last = only(read(tmp_path, {"messages": [USER, ignored, USER, GOOD]}))
    assert (len(last.messages), last.references) == (3, ("Links.",))


def test_whole_numbers_of_groups_are_equal_with_and_without_a_point(tmp_path: Path) -> None:
    rows = ({"prompt": f"Q{i}?", "answer": "A", "group": group} for i, group in enumerate((3, 3.0, "3.0", "3")))
    assert {example.group for example in read(tmp_path, *rows).examples} == {"3"}


@pytest.mark.parametrize(
    "column", ["tools", "functions", "source", "group", "id", "label", "tags", "choices", "schema"]
)
def test_half_a_character_anywhere_rejects_only_its_row(tmp_path: Path, column: str) -> None:
    broken: Any = [{"name": "f\ud83d"}] if column in ("tools", "functions") else {"a": "\ud83d"}
    if column not in ("tools", "functions", "schema"):
        broken = ["\ud83d", "A"] if column in ("tags", "choices") else "\ud83d"
    rows = [json.dumps({"prompt": f"Q{i}?", "answer": "A"}) for i in range(30)]
    reading = read(tmp_path, *rows, json.dumps({"prompt": "Q?", "answer": "A", column: broken}))
    assert len(reading.examples) + len(reading.rejected) == 31
    for example in reading.examples:
        example.model_dump_json().encode()


@pytest.mark.parametrize("word", ["NaN", "null", "None", "N/A", "NA"])
def test_words_for_missing_values_are_text_and_noted(tmp_path: Path, word: str) -> None:
    (tmp_path / "x.csv").write_text(f"question,answer\nQ?,{word}\n", encoding="utf-8")
    reading = read_paths([tmp_path / "x.csv"])
    assert only(reading).references == (word,)
    assert any("1 row with a word for a missing value" in note for note in reading.notes)
    assert only(read(tmp_path, {"text": "Q?", "label": word})).label == word


def test_an_unknown_time_is_named(tmp_path: Path) -> None:
    reading = read(tmp_path, {"prompt": "Q?", "answer": "A", "date": "03/04/2026"})
    assert any("such as '03/04/2026'; known are ISO 8601" in note for note in reading.notes)


KEYS = st.sampled_from(
    [*sorted(REFERENCE_KEYS), *PROMPT_KEYS, *TURN_KEYS, *PAIR_KEYS, *TIME_KEYS, "text", "context", "system", "history",
     "id", "tools", "functions", "choices", "schema", "split", "tags", "source", "group", "language", "images",
     "observations", "attributes", "events", "resourceSpans", "scopeSpans", "paragraphs", "data", "traceId"]
)  # fmt: skip
PARTS = st.sampled_from(["role", "content", "user", "assistant", "text", "tool_calls", "function", "name", "arguments",
                         "from", "value", "human", "gpt", "type", "tool_result", "image_url", "key", "stringValue",
                         "qas", "question", "answers", "answer_start", "gen_ai.prompt", "spans"])  # fmt: skip
SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | PARTS | st.text(max_size=6) | st.just("\ud800")
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(PARTS, inner, max_size=4), max_leaves=8
)


@settings(max_examples=400)
@given(st.dictionaries(KEYS, VALUES, min_size=1, max_size=5))
def test_any_row_is_read_rejected_or_skipped(cells: dict[str, Any]) -> None:
    found = read_rows([Row(7, cells)], RowSource(Path("x.jsonl"), "x.jsonl"))
    assert all(row.line == 7 and row.reason for row in found.rejected)
    for example in found.examples:
        assert example.messages
        assert "None" not in example.references
        example.model_dump_json().encode()


@pytest.mark.parametrize("column", ["response", "output", "answer", "completion"])
@pytest.mark.parametrize("rating", [(0, 1), ("0", "1"), (False, True)], ids=["numbers", "texts", "booleans"])
def test_a_kto_tag_rates_any_answer(tmp_path: Path, column: str, rating: tuple[Any, Any]) -> None:
    rows = [{"prompt": f"Frage {i}?", column: f"Antwort {i}", "kto_tag": rating[i % 2]} for i in range(6)]
    found = {example.prompt: (example.references, example.rejected) for example in read(tmp_path, *rows).examples}
    for i in range(6):
        answer = (f"Antwort {i}",)
        assert found[f"Frage {i}?"] == ((answer, ()) if i % 2 else ((), answer))


@pytest.mark.parametrize(
    ("written", "kept"),
    [
        ("Wrap reasoning in <think> and </think> tags, then answer.", None),
        ("Close with </think> at the end, please.", None),
        ("<think>Hm, links?</think>\n\nLinks.", "Links."),
        ("Hm, links?\n</think>\nLinks.", "Links."),
        ("<think>想一想</think>在左边\u3002", "在左边\u3002"),
    ],
)
def test_only_reasoning_before_an_answer_is_taken_off(tmp_path: Path, written: str, kept: str | None) -> None:
    example = only(read(tmp_path, {"prompt": "Wo ist die Tür?", "answer": written}))
    assert example.references == (kept or written,)


def test_a_link_to_an_image_outside_of_the_folder_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "secret.png").write_bytes(b"x")
    folder = tmp_path / "data"
    folder.mkdir()
    (folder / "own.png").write_bytes(b"x")
    (folder / "img.png").symlink_to(tmp_path / "secret.png")
    rows = [{"prompt": "p", "answer": "a", "images": [name]} for name in ("img.png", *["own.png"] * 40)]
    reading = read(folder, *rows)
    (rejected,) = reading.rejected
    assert "a link to a file outside of the folder" in rejected.reason
    assert len(reading.examples) == 40


def test_a_pair_about_another_question_than_its_messages_is_rejected(tmp_path: Path) -> None:
    other = {"role": "user", "content": "Was ist 2 + 2?"}
    good = {"messages": [USER], "chosen": [USER, GOOD], "rejected": [USER, WORSE]}
    rows = [{"messages": [other], "chosen": [USER, GOOD], "rejected": [USER, WORSE]}]
    rows += [good | {"id": i} for i in range(40)]
    reading = read(tmp_path, *rows)
    (rejected,) = reading.rejected
    assert "another conversation than that of 'chosen'" in rejected.reason
    assert {example.messages[-1].content for example in reading.examples} == {"Wo ist die Tür?"}
