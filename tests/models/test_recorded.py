from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from sizewise.errors import SizewiseError
from sizewise.models import open_model
from sizewise.models.recorded import read_log
from sizewise.records import Completion, Message, Request


def asked(name: str, question: str) -> Request:
    return Request(id=name, messages=(Message(role="user", content=question),))


def test_recorded_answers_are_found_by_id(tmp_path: Path) -> None:
    path = tmp_path / "answers.jsonl"
    path.write_text('{"id": "a", "completion": "yes, it is"}\n\n{"id": 2, "completion": "no"}\n', encoding="utf-8")
    model = open_model(f"recorded:{path}")
    answers = list(model.complete([Request(id="a", text="?"), Request(id="2", text="?"), Request(id="c", text="?")]))
    assert [answer.text for answer in answers] == ["yes, it is", "no", ""]
    assert answers[2].finish == "error"
    assert not model.describe().can_score
    with pytest.raises(SizewiseError, match="log-likelihoods"):
        model.score(["x"])


CHAT = {"model": "gpt-4o-2024-08-06", "messages": [{"role": "user", "content": "What is a claim?"}]}
ANSWER = {
    "model": "gpt-4o-2024-08-06",
    "choices": [{"finish_reason": "length", "message": {"role": "assistant", "content": "A claim, is"}}],
    "usage": {"prompt_tokens": 12, "completion_tokens": 4},
}
CONVERSATION = [*CHAT["messages"], {"role": "assistant", "content": "A claim, is"}]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.jsonl", json.dumps({"prompt": "What is a claim?", "completion": "A claim, is"})),
        ("a.csv", 'question,answer\nWhat is a claim?,"A claim, is"\n'),
        ("bom.csv", '\ufeffprompt,response\nWhat is a claim?,"A claim, is"\n'),
        ("chat.jsonl", json.dumps({"messages": CONVERSATION})),
        ("log.jsonl", json.dumps({"request": CHAT, "response": ANSWER})),
        ("stored.jsonl", json.dumps({"messages": CHAT["messages"], "response": ANSWER})),
    ],
)
def test_answers_are_found_by_what_was_asked(tmp_path: Path, name: str, text: str) -> None:
    (tmp_path / name).write_text(text, encoding="utf-8")
    model = open_model(f"recorded:{tmp_path / name}")
    known, unknown = model.complete([asked("x", " What is a claim?\n"), asked("y", "What is a plan?")])
    assert known.text == "A claim, is"
    assert unknown.finish == "error"


def test_the_output_of_a_batch_keeps_its_ids_counts_and_model(tmp_path: Path) -> None:
    path = tmp_path / "batch.jsonl"
    path.write_text(json.dumps({"custom_id": "q1", "response": {"status_code": 200, "body": ANSWER}}), encoding="utf-8")
    model = open_model(f"recorded:{path}")
    (answer,) = model.complete([asked("q1", "anything")])
    assert (answer.text, answer.prompt_tokens, answer.completion_tokens) == ("A claim, is", 12, 4)
    assert answer.finish == "length"
    assert "gpt-4o-2024-08-06" in model.describe().origin


def test_another_state_of_the_file_is_another_model(tmp_path: Path) -> None:
    path = tmp_path / "answers.jsonl"
    path.write_text('{"id": "a", "completion": "yes"}', encoding="utf-8")
    before = open_model(f"recorded:{path}").describe()
    path.write_text('{"id": "a", "completion": "no!"}', encoding="utf-8")
    assert open_model(f"recorded:{path}").describe().revision != before.revision


@pytest.mark.parametrize(
    "text",
    [
        "",
        "not json",
        '{"id": 1}',
        "[1]",
        '{"completion": "to what?"}',
        '{"messages": [{"role": "user", "content": "no answer"}]}',
        '{"messages": []}',
        '{"custom_id": "a", "response": {"body": {"choices": []}}}',
    ],
)
def test_a_file_that_is_none_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "answers.jsonl"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(SizewiseError, match="answers"):
        open_model(f"recorded:{path}")


CALL = {"role": "assistant", "content": None, "tool_calls": [{"function": {"name": "find", "arguments": "{}"}}]}
PARTS = [{"role": "user", "content": [{"type": "text", "text": "What is a claim?"}]}]


def logged(number: int, messages: list[Any], answer: Any = "It is so.") -> dict[str, Any]:
    body = {"choices": [{"message": {"role": "assistant", "content": answer}}], "usage": None}
    return {"custom_id": f"r{number}", "request": {"body": {"messages": messages}}, "response": {"body": body}}


def write(path: Path, rows: list[Any]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def test_a_log_with_parts_calls_and_tools_keeps_them(tmp_path: Path) -> None:
    tool = {"role": "tool", "tool_call_id": "c", "content": "shelf 3"}
    rows = [logged(0, PARTS), logged(1, [*PARTS, CALL, {"role": "user", "content": "And?"}])]
    rows += [logged(2, [*PARTS, CALL, tool])]
    found = read_log(write(tmp_path / "log.jsonl", rows))
    assert [[(m.role, m.content) for m in one.messages] for one in found] == [
        [("user", "What is a claim?")],
        [("user", "What is a claim?"), ("assistant", ""), ("user", "And?")],
        [("user", "What is a claim?"), ("assistant", ""), ("tool", "shelf 3")],
    ]
    assert [call.name for call in found[2].messages[1].tool_calls] == ["find"]
    assert found[2].messages[2].tool_call_id == "c"


def test_rows_of_a_log_that_cannot_be_used_are_set_aside_and_told(tmp_path: Path) -> None:
    rows = [logged(i, PARTS) for i in range(40)]
    rows[7]["response"] = {"status_code": 500, "body": {"error": {"message": "overloaded"}}}
    rows[8]["response"]["body"]["choices"][0]["message"] = CALL
    rows[9]["custom_id"] = "r3"
    said: list[str] = []
    found = read_log(write(tmp_path / "log.jsonl", rows), said.append)
    assert len(found) == 39
    assert len({one.id for one in found}) == 39
    assert found[7].answer == '{"name": "find", "arguments": {}}'
    (line,) = said
    assert "line 8" in line
    assert "overloaded" in line
    assert "line 9" not in line
    with pytest.raises(SizewiseError, match="20 of 40 rows can't be used"):
        read_log(write(tmp_path / "bad.jsonl", [row if i % 2 else {"x": 1} for i, row in enumerate(rows)][:40]))


def test_an_answer_to_another_prompt_is_no_answer_though_the_id_is_the_same(tmp_path: Path) -> None:
    rows = [{"id": "a", "prompt": "What is a claim?", "completion": "yes"}]
    model = open_model(f"recorded:{write(tmp_path / 'a.jsonl', rows)}")
    system = Message(role="system", content="Be short.")
    same, other, kept = model.complete(
        [
            asked("a", " What  is a claim?"),
            asked("a", "What is a plan?"),
            Request(id="a", messages=(system, Message(role="user", content="What is a claim?"))),
        ]
    )
    assert (same.text, kept.text) == ("yes", "yes")
    assert other.finish == "error"
    assert "belongs to another prompt ('What is a claim?')" in str(other.error)


def test_the_same_id_for_two_prompts_is_told_apart_by_the_prompt(tmp_path: Path) -> None:
    rows = [{"id": 0, "prompt": f"Question {i}?", "completion": f"answer {i}"} for i in range(2)]
    model = open_model(f"recorded:{write(tmp_path / 'a.jsonl', rows)}")
    assert [answer.text for answer in model.complete([asked("0", "Question 0?"), asked("0", "Question 1?")])] == [
        "answer 0",
        "answer 1",
    ]
    assert "1 id appears more than once with different prompts ('0')" in model.describe().origin


IS_IT = {"prompt": "Is it?"}


@pytest.mark.parametrize("prompts", [({}, {}), (IS_IT, {}), ({}, IS_IT), (IS_IT, {"prompt": "Is  it?"})])
def test_two_answers_for_one_id_are_refused(tmp_path: Path, prompts: tuple[dict[str, str], dict[str, str]]) -> None:
    rows = [{"id": f"q{i}", "completion": "yes"} | prompts[0] for i in range(2)]
    rows += [{"id": f"q{i}", "completion": "no"} | prompts[1] for i in range(2)]
    with pytest.raises(SizewiseError, match=r"answers for the id 'q0' \('yes' and 'no'\), and for 1 more"):
        open_model(f"recorded:{write(tmp_path / 'a.jsonl', rows)}")
    same = [*rows[:2], *rows[:2]]
    assert "more than once" not in open_model(f"recorded:{write(tmp_path / 'b.jsonl', same)}").describe().origin


def test_two_answers_are_refused_between_other_questions_under_the_id(tmp_path: Path) -> None:
    rows = [{"id": 0, "prompt": f"Is it {i % 2}?", "completion": f"answer {i % 2}"} for i in range(5)]
    open_model(f"recorded:{write(tmp_path / 'a.jsonl', rows)}")
    rows[4]["completion"] = "another"
    with pytest.raises(SizewiseError, match=r"answers for the id '0' \('answer 0' and 'another'\)"):
        open_model(f"recorded:{write(tmp_path / 'b.jsonl', rows)}")


@pytest.mark.parametrize("turn", [1, -1])
def test_an_answer_counts_more_than_a_failed_try(tmp_path: Path, turn: int) -> None:
    rows = [{"id": "q", "completion": "", "error": "429"}, {"id": "q", "completion": "yes"}][::turn]
    (answer,) = open_model(f"recorded:{write(tmp_path / 'a.jsonl', rows)}").complete([asked("q", "Is it?")])
    assert (answer.text, answer.finish) == ("yes", "stop")
    rows = [{"prompt": "Is it?", "completion": row["completion"], "error": row.get("error", "")} for row in rows]
    (answer,) = open_model(f"recorded:{write(tmp_path / 'b.jsonl', rows)}").complete([asked("q", "Is it?")])
    assert answer.text == "yes"


def test_half_a_character_in_an_answer_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text('{"id": "a", "completion": "nine \\ud83d"}\n{"id": "b", "completion": "\\ud83d\\ude42"}\n')
    answers = list(open_model(f"recorded:{path}").complete([asked("a", "?"), asked("b", "?")]))
    assert [answer.text for answer in answers] == ["nine \ufffd", "\U0001f642"]


@pytest.mark.parametrize(
    "row",
    [
        {"id": "a", "completion": {"text": "yes"}},
        {"id": "a", "completion": ["yes"]},
        {"id": ["a"], "completion": "yes"},
        {"prompt": {"text": "?"}, "completion": "yes"},
    ],
)
def test_what_is_no_text_is_refused_with_its_line(tmp_path: Path, row: Any) -> None:
    with pytest.raises(SizewiseError, match=r"line 1 can't be read as recorded answers: .* not text"):
        open_model(f"recorded:{write(tmp_path / 'a.jsonl', [row])}")


def test_answers_without_text_of_few_rows_are_set_aside_and_told(tmp_path: Path) -> None:
    rows: list[Any] = [{"id": i, "completion": "yes"} for i in range(30)]
    rows[3]["completion"] = None
    model = open_model(f"recorded:{write(tmp_path / 'a.jsonl', rows)}")
    assert "29 recorded answers; 1 row was rejected (line 4" in model.describe().origin
    (answer,) = model.complete([Request(id="3", text="?")])
    assert answer.finish == "error"


def test_rows_with_an_unquoted_comma_are_no_answers(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    rows = "".join(f"{i};yes\r\n" for i in range(30))
    path.write_text("ID;Completion\r\n" + rows + "30;yes;but\r\n", encoding="utf-8")
    model = open_model(f"recorded:{path}")
    assert "line 32" in model.describe().origin
    assert [a.text for a in model.complete([Request(id="7", text="?")])] == ["yes"]


def test_the_fields_of_alpaca_are_one_question_here_too(tmp_path: Path) -> None:
    rows = [{"instruction": "Sort.", "input": "b a", "output": "a b"}]
    model = open_model(f"recorded:{write(tmp_path / 'a.jsonl', rows)}")
    assert [a.text for a in model.complete([asked("x", "Sort.\n\nb a")])] == ["a b"]


def test_zero_and_false_are_right_answers_of_a_log(tmp_path: Path) -> None:
    rows = [{"prompt": f"Late {i}?", "completion": "no", "reference": i % 2 == 0, "tags": 0} for i in range(4)]
    rows += [{"prompt": f"Sum {i}?", "completion": "no", "references": i % 2} for i in range(4)]
    found = read_log(write(tmp_path / "log.jsonl", rows))
    assert [one.references for one in found] == [("true",), ("false",)] * 2 + [("0",), ("1",)] * 2
    assert found[0].tags == ("0",)


def test_a_prompt_with_two_answers_is_told(tmp_path: Path) -> None:
    rows = [{"prompt": "Is it?", "completion": said} for said in ("yes", "yes", "no")]
    origin = open_model(f"recorded:{write(tmp_path / 'said.jsonl', rows)}").describe().origin
    assert "1 prompt appears more than once with different answers ('Is it?'); the last one counts" in origin
    rows = [{"id": str(i), "prompt": "Is it?", "completion": said} for i, said in enumerate(("yes", "no"))]
    assert "more than once" not in open_model(f"recorded:{write(tmp_path / 'ids.jsonl', rows)}").describe().origin


def test_what_failed_or_was_held_back_when_it_was_recorded_is_no_answer(tmp_path: Path) -> None:
    held = {"choices": [{"finish_reason": "content_filter", "message": {"role": "assistant", "content": ""}}]}
    rows: list[Any] = [
        {"id": "a", "completion": "", "error": "timeout after 60 s"},
        {"id": "b", "completion": "part of", "finish_reason": "content_filter"},
        {"custom_id": "c", "response": {"status_code": 200, "body": held}},
        {"id": "d", "completion": "It holds.", "error": "contains 'It'"},
        {"id": "e", "completion": "", "error": ""},
        {"id": "f", "completion": "It hol", "finish_reason": "length"},
        {"id": "g", "completion": "It hol", "stop_reason": "max_tokens"},
    ]
    model = open_model(f"recorded:{write(tmp_path / 'said.jsonl', rows)}")
    answers = {one.id: one for one in model.complete([asked(name, "Is it?") for name in "abcdefg"])}
    assert [answers[name].finish for name in "abcdefg"] == [*["error"] * 3, "stop", "stop", "length", "length"]
    assert "timeout after 60 s" in str(answers["a"].error)
    assert "content filter" in str(answers["b"].error)


def test_a_row_that_is_nested_too_deep_costs_only_itself(tmp_path: Path) -> None:
    path = write(tmp_path / "said.jsonl", [{"id": str(i), "completion": "yes"} for i in range(30)])
    deep = "[" * 600 + "]" * 600
    with path.open("a", encoding="utf-8") as file:
        file.write(f'{{"id": "x", "completion": "\\ud83c", "more": {deep}}}\n')
    assert "1 row was rejected (line 31" in open_model(f"recorded:{path}").describe().origin


def test_several_grades_of_one_answer_count_with_their_mean(tmp_path: Path) -> None:
    rows = [{"id": "a", "prompt": "q", "completion": "x", "grade": grade} for grade in (1, 0, 1)]
    rows.append({"id": "b", "prompt": "r", "completion": "y", "grade": 0})
    path = tmp_path / "graded.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    model = open_model(f"recorded:{path}")
    asked = [
        Request(id=name, messages=(Message(role="user", content=text),)) for name, text in (("a", "q"), ("b", "r"))
    ]
    first, second = model.complete(asked)
    assert first.grade == pytest.approx(2 / 3)
    assert second.grade == 0
    assert "1 of them with several grades" in model.describe().origin


def test_half_a_surrogate_pair_in_an_answer_is_replaced_and_can_be_stored() -> None:
    answer = Completion(
        id="a", text="yes \ud800 \U0001f600 é", prompt_tokens=1, completion_tokens=1, seconds=0.1, finish="stop"
    )
    assert answer.text == "yes \ufffd \U0001f600 é"
    assert Completion.model_validate_json(answer.model_dump_json()) == answer


UNUSUAL = "ticket,customer_text,agent_reply\n1,Where is it?,On its way.\n2,May I return it?,Within 30 days.\n"


def test_a_file_with_other_columns_says_what_was_looked_for(tmp_path: Path) -> None:
    path = tmp_path / "export.csv"
    path.write_text(UNUSUAL, encoding="utf-8")
    with pytest.raises(SizewiseError, match="'ticket', 'customer_text', 'agent_reply'") as raised:
        open_model(f"recorded:{path}")
    told = f"{raised.value.expected} {raised.value.next_step}"
    assert all(name in told for name in ("'completion'", "'response'", "'custom_id'", "'question'"))
    assert "#answer_column=agent_reply" in told
    assert "prompt_column and id_column" in told


def test_columns_can_be_named(tmp_path: Path) -> None:
    path = tmp_path / "export.csv"
    path.write_text(UNUSUAL, encoding="utf-8")
    model = open_model(f"recorded:{path}#answer_column=agent_reply&prompt_column=Customer Text")
    (by_prompt,) = model.complete([asked("x", "Where is it?")])
    assert by_prompt.text == "On its way."
    assert "answer_column=agent_reply" in model.describe().uri
    model = open_model(f"recorded:{path}#answer_column=agent_reply&id_column=ticket")
    (by_id,) = model.complete([Request(id="2", text="?")])
    assert by_id.text == "Within 30 days."
    with pytest.raises(SizewiseError, match="no column 'reply'; its columns"):
        open_model(f"recorded:{path}#answer_column=reply")


@pytest.mark.parametrize(
    "given",
    [
        '["The tower is tall.", "Built in 1889."]',
        '[{"text": "The tower is tall."}, {"page_content": "Built in 1889."}]',
    ],
)
def test_passages_of_an_answer_are_read(tmp_path: Path, given: str) -> None:
    lines, table = tmp_path / "a.jsonl", tmp_path / "a.csv"
    lines.write_text(f'{{"id": "a", "completion": "It is tall.", "contexts": {given}}}\n', encoding="utf-8")
    quoted = given.replace('"', '""')
    table.write_text(f'id,completion,passages\na,It is tall.,"{quoted}"\n', encoding="utf-8")
    for path in (lines, table):
        (answer,) = open_model(f"recorded:{path}").complete([Request(id="a", text="?")])
        assert answer.passages == ("The tower is tall.", "Built in 1889.")
    lines.write_text('{"id": "a", "completion": "x", "contexts": [{"score": 1}]}\n', encoding="utf-8")
    with pytest.raises(SizewiseError, match="a passage without 'text'"):
        open_model(f"recorded:{lines}")


@pytest.mark.parametrize(
    ("reason", "finish"),
    [
        ("MAX_TOKENS", "length"),
        ("FinishReason.MAX_TOKENS", "length"),
        ("max_output_tokens", "length"),
        ("SAFETY", "error"),
        ("refusal", "error"),
        ("end_turn", "stop"),
        ("STOP", "stop"),
    ],
)
def test_every_providers_word_for_a_cut_or_withheld_answer_is_known(tmp_path: Path, reason: str, finish: str) -> None:
    rows = [{"id": "a", "completion": "It hol", "finishReason": reason}]
    (answer,) = open_model(f"recorded:{write(tmp_path / 'a.jsonl', rows)}").complete([asked("a", "Is it?")])
    assert answer.finish == finish
    if finish != "error":
        (known,) = read_log(write(tmp_path / "b.jsonl", [rows[0] | {"prompt": "Is it?"}]))
        assert known.cut_off == (finish == "length")
