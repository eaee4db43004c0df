from __future__ import annotations

import json
from pathlib import Path

import pytest

from sizewise.errors import SizewiseError
from sizewise.models import open_model
from sizewise.records import Message, Request


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
        '{"custom_id": "a", "response": {"body": {"error": "overloaded"}}}',
    ],
)
def test_a_file_that_is_none_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "answers.jsonl"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(SizewiseError, match="answers"):
        open_model(f"recorded:{path}")
