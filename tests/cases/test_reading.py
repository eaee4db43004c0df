"""Rows of examples in the forms that people have them."""

from __future__ import annotations

import csv
import json
import re
from pathlib import Path
from typing import Any

import pytest

from sizewise.models.recorded import read_log
from tests.cases.conftest import Command, Measure, Read, ReadIn, values, write_rows

COUNT = 12
ALLOTMENTS = [
    (f"Who waters plot {i} in August?", f"The tenant of plot {i + 1} waters it twice a week.") for i in range(COUNT)
]


def names_line(said: str, number: int) -> bool:
    return re.search(rf"(?:line\D{{0,3}}|:){number}\b", said) is not None


def asked(read: Read) -> set[str]:
    return {example.messages[-1].content for example in read.examples}


# CleverCSV#21, datasette-lite#84
def test_a_very_long_cell_is_read_completely_or_refused(tmp_path: Path, read_in: ReadIn) -> None:
    path = tmp_path / "minutes.csv"
    long = " ".join(f"Motion {i} was carried by {i + 9} votes." for i in range(6_000))
    with path.open("w", newline="", encoding="utf-8") as file:
        rows = csv.writer(file)
        rows.writerow(["title", "text"])
        rows.writerow(["Session 0", long])
        rows.writerows([f"Session {i}", f"Session {i} dealt with the roof of house {i * 7}."] for i in range(1, 6))
    read = read_in(path)
    assert read.refused or long in {document.text for document in read.documents} or names_line(read.said, 2)


# pandas#5686, ludwig#201
def test_a_row_with_an_unquoted_comma_is_refused_or_kept_complete(tmp_path: Path, read_in: ReadIn) -> None:
    whole = "Only in the yard, and not after eight, unless the warden is there."
    lines = [f'{question},"{answer}"' for question, answer in ALLOTMENTS]
    path = tmp_path / "rules.csv"
    path.write_text("\n".join(["prompt,answer", *lines, f"May we light a fire?,{whole}"]) + "\n", encoding="utf-8")
    read = read_in(path)
    assert ("Only in the yard",) not in read.references
    assert (whole,) in read.references or names_line(read.said, COUNT + 2)


# autotrain-advanced#444
def test_texts_with_labels_are_examples_or_the_label_is_noted_as_unused(tmp_path: Path, read_in: ReadIn) -> None:
    kinds = ["contamination", "heating", "noise"]
    rows = [
        {
            "text": f"In flat {i} there is {kinds[i % 3]} again since day {i + 2}, says its tenant.",
            "label": kinds[i % 3],
        }
        for i in range(30)
    ]
    read = read_in(write_rows(tmp_path / "calls.jsonl", rows))
    assert read.references.count(("heating",)) == 10 or re.search(r"\blabel\b", read.said)


# LlamaFactory#2686, alpaca-lora PR#6, litgpt#204
def test_instruction_and_input_reach_the_prompt_together(tmp_path: Path, read_in: ReadIn) -> None:
    rows = [
        {
            "instruction": f"Say which bed of row {i} is free.",
            "input": f"Row {i} has {i + 3} beds, the second is taken." if i % 3 else "",
            "output": f"In row {i} the first bed is free.",
        }
        for i in range(COUNT)
    ]
    read = read_in(write_rows(tmp_path / "beds.jsonl", rows))
    assert read.refused or len(read.examples) == COUNT
    for example in read.examples:
        number = re.findall(r"\d+", example.references[0])[0]
        assert f"which bed of row {number} is free" in example.prompt
        assert (f"Row {number} has" in example.prompt) == (int(number) % 3 != 0)


# trl#4147, axolotl#879, oumi PR#2517
def test_a_prompt_of_messages_is_a_conversation_or_refused(tmp_path: Path, read_in: ReadIn) -> None:
    rows = [
        {
            "prompt": [
                {"role": "system", "content": "You keep the list of the allotments."},
                {"role": "user", "content": question},
            ],
            "answer": answer,
        }
        for question, answer in ALLOTMENTS
    ]
    read = read_in(write_rows(tmp_path / "talks.jsonl", rows))
    assert read.refused or len(read.examples) == COUNT
    assert asked(read) <= {question for question, _ in ALLOTMENTS}
    assert all(example.messages[0].role == "system" for example in read.examples)


# LlamaFactory#4249, datasets#7059
@pytest.mark.parametrize(
    "given",
    [
        lambda text: [None, text],
        lambda text: [{"span": text, "begin": 3}],
        lambda text: [[text]],
        lambda text: {"span": text},
    ],
    ids=["null", "object in a list", "list in a list", "object"],
)
def test_references_that_are_no_text_are_refused_or_read_as_what_they_are(
    tmp_path: Path, read_in: ReadIn, given: Any
) -> None:
    rows = [{"question": question, "references": given(answer)} for question, answer in ALLOTMENTS]
    rows += [{"question": f"{q} Answer in one line.", "references": [f"{a} That is all."]} for q, a in ALLOTMENTS]
    read = read_in(write_rows(tmp_path / "answers.jsonl", rows))
    plain = {answer for _, answer in ALLOTMENTS} | {f"{answer} That is all." for _, answer in ALLOTMENTS}
    for references in read.references:
        for reference in references:
            assert reference in plain or json.loads(reference)
    if not read.refused and len(read.examples) < len(rows):
        assert names_line(read.said, 1)


# lmnr#2412
def test_an_answer_recorded_for_id_0_is_found(measure: Measure) -> None:
    rows = [{"id": i, "prompt": question, "answer": answer} for i, (question, answer) in enumerate(ALLOTMENTS)]
    record = measure(rows, [answer for _, answer in ALLOTMENTS], ["exact_match"])
    assert record.failed == 0
    assert values(record)["exact_match"] == 1.0


# oumi PR#2517, PR#2664
def _logged(number: int, messages: list[dict[str, Any]]) -> dict[str, Any]:
    message = {"role": "assistant", "content": f"The key of shed {number} hangs on hook {number % 5}."}
    body = {
        "model": "large",
        "choices": [{"index": 0, "finish_reason": "stop", "message": message}],
        "usage": {"prompt_tokens": 11, "completion_tokens": 9},
    }
    request = {"body": {"model": "large", "messages": messages}}
    return {"custom_id": f"log-{number}", "request": request, "response": {"body": body}}


def _question(number: int) -> dict[str, Any]:
    return {"role": "user", "content": f"Where is the key of shed {number}?"}


CALL = {
    "role": "assistant",
    "content": None,
    "tool_calls": [{"id": "k1", "type": "function", "function": {"name": "hooks", "arguments": "{}"}}],
}


def _in_parts(number: int) -> list[dict[str, Any]]:
    return [{"role": "user", "content": [{"type": "text", "text": _question(number)["content"]}]}]


def _after_a_call(number: int) -> list[dict[str, Any]]:
    return [_question(number), CALL, {"role": "user", "content": "And?"}]


@pytest.mark.parametrize("form", [_in_parts, _after_a_call])
def test_a_log_with_parts_and_calls_is_read_as_text(tmp_path: Path, form: Any) -> None:
    path = write_rows(tmp_path / "log.jsonl", [_logged(i, form(i)) for i in range(COUNT)])
    found = read_log(path)
    assert len(found) == COUNT
    for number, request in enumerate(found):
        assert request.messages[0].content == _question(number)["content"]
        assert not [m.content for m in request.messages if m.content == "None" or m.content.startswith("[{")]


def test_a_log_with_one_tool_message_keeps_its_other_rows(tmp_path: Path) -> None:
    tool = [_question(0), CALL, {"role": "tool", "tool_call_id": "k1", "content": "hook 0"}]
    path = write_rows(tmp_path / "log.jsonl", [_logged(i, [_question(i)] if i else tool) for i in range(COUNT)])
    found = read_log(path)
    assert {request.id for request in found} >= {f"log-{i}" for i in range(1, COUNT)}
    assert not [m.content for request in found for m in request.messages if m.content == "None"]


# Kiln#560
@pytest.mark.parametrize(
    ("heading", "separator", "begin"),
    [
        ("Question,Answer", ",", ""),
        ("question;answer", ";", "\ufeff"),
        ("question, answer", ",", ""),
    ],
    ids=["capitals", "semicolons", "blank"],
)
def test_headings_as_spreadsheets_write_them_are_read_or_named(
    tmp_path: Path, read_in: ReadIn, heading: str, separator: str, begin: str
) -> None:
    lines = [heading, *(f"{question}{separator}{answer}" for question, answer in ALLOTMENTS)]
    path = tmp_path / "table.csv"
    path.write_text(begin + "\r\n".join(lines) + "\r\n", encoding="utf-8", newline="")
    read = read_in(path)
    whole = {(question, answer) for question, answer in ALLOTMENTS}
    if len(read.examples) == COUNT:
        assert {(example.prompt, example.references[0]) for example in read.examples} == whole
    else:
        last = heading.split(separator)[-1].strip()
        assert re.search(rf"\b{last}\b", read.said), "the refusal does not name the headings it saw"


# inspect_ai PR#2316, PR#3802, strands-env PR#211, claude-code-log#16
def test_half_an_emoji_in_an_answer_costs_at_most_that_answer(tmp_path: Path, command: Command) -> None:
    rows = [{"id": f"q{i}", "prompt": question, "answer": answer} for i, (question, answer) in enumerate(ALLOTMENTS)]
    data = write_rows(tmp_path / "test.jsonl", rows)
    said = tmp_path / "said.jsonl"
    ends = {5: " \\ud83c"}  # what JavaScript leaves of a cut emoji
    said.write_text(
        "".join(f'{{"id": "q{i}", "completion": "{a}{ends.get(i, "")}"}}\n' for i, (_, a) in enumerate(ALLOTMENTS)),
        encoding="utf-8",
    )
    run = command("evaluate", f"recorded:{said}", "--data", data, "--metrics", "exact_match", "--json")
    assert run.code == 0, run.whole
    score = run.told["record"]["scores"]["exact_match@all"]
    assert score["value"] * score["n"] >= COUNT - 1 - 1e-9


def test_half_an_emoji_in_a_row_of_data_is_read_or_refused_with_its_line(tmp_path: Path, read_in: ReadIn) -> None:
    path = tmp_path / "data.jsonl"
    ends = {6: " \\ude80"}
    path.write_text(
        "".join(f'{{"prompt": "{q}{ends.get(i, "")}", "answer": "{a}"}}\n' for i, (q, a) in enumerate(ALLOTMENTS)),
        encoding="utf-8",
    )
    read = read_in(path)
    assert len(read.examples) == COUNT or names_line(read.said, 7)
    assert len(read.examples) >= COUNT - 1 or read.refused


# aikit#822, litgpt#308, llm-foundry#132, h2o-llmstudio#792, axolotl PR#1361
def _messages(question: str, answer: str) -> dict[str, Any]:
    turns = [("system", "Answer in one line."), ("user", question), ("assistant", answer)]
    return {"messages": [{"role": role, "content": content} for role, content in turns]}


def _turns(question: str, answer: str) -> dict[str, Any]:
    return {"conversations": [{"from": "human", "value": question}, {"from": "gpt", "value": answer}]}


def _completion(question: str, answer: str) -> dict[str, Any]:
    return {"prompt": question, "completion": answer}


@pytest.mark.parametrize(
    ("form", "told"),
    [
        (_messages, "assistant"),
        (_turns, "conversations"),
        (_completion, "completion"),
    ],
    ids=["messages", "turns", "completion"],
)
def test_forms_of_other_tools_are_read_or_the_refusal_names_what_it_saw(
    tmp_path: Path, read_in: ReadIn, form: Any, told: str
) -> None:
    read = read_in(write_rows(tmp_path / "rows.jsonl", [form(*one) for one in ALLOTMENTS]))
    if read.refused:
        assert f"'{told}'" in read.said, "the refusal doesn't say how to convert it"
        return
    assert asked(read) == {question for question, _ in ALLOTMENTS}
    assert sorted(read.references) == sorted((answer,) for _, answer in ALLOTMENTS)


def test_a_json_list_is_read_or_the_refusal_says_how_to_convert_it(tmp_path: Path, read_in: ReadIn) -> None:
    path = tmp_path / "rows.json"
    rows = [{"instruction": question, "input": "", "output": answer} for question, answer in ALLOTMENTS]
    path.write_text(json.dumps(rows, indent=2), encoding="utf-8")
    read = read_in(path)
    assert len(read.examples) == COUNT or (read.refused and re.search("(?i)json ?lines|one row a line", read.said))
