"""Calls of tools as models write them, and streams as servers send them."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

pytest.importorskip("uvicorn")

from sizewise.errors import SizewiseError
from sizewise.loadtest import LoadOptions, load_test
from sizewise.service.schemas import FunctionSpec
from sizewise.service.tools import Tools
from sizewise.store import Store
from tests.cases.speaker import Speaker

# vllm#11392, PR#21360, #21544, model_server#3838
FUNCTIONS = [
    FunctionSpec(name="open_gates"),
    FunctionSpec(
        name="note",
        parameters={
            "type": "object",
            "properties": {"text": {"type": "string"}, "marks": {"type": "array", "items": {"type": "object"}}},
        },
    ),
]
MARKS = {"text": "a {b} [c]", "marks": [{"x": [{"y": {}}]}, {}, {"z": []}]}
SHOWN = {"text": "he wrote </tool_call> into the book", "marks": []}


def _call(name: str, arguments: Any) -> str:
    told = {"name": name} | ({} if arguments is None else {"arguments": arguments})
    return f"<tool_call>\n{json.dumps(told)}\n</tool_call>"


@pytest.mark.parametrize("size", [1, 4, 1_000])
@pytest.mark.parametrize(
    ("name", "written", "arguments"),
    [
        ("open_gates", {}, {}),
        ("open_gates", None, {}),
        ("note", MARKS, MARKS),
        ("note", SHOWN, SHOWN),
    ],
    ids=["empty", "left out", "nested", "end mark inside"],
)  # fmt: skip
def test_a_call_is_the_same_whole_and_streamed(size: int, name: str, written: Any, arguments: Any) -> None:
    tools = Tools(FUNCTIONS)
    text = _call(name, written)
    watch = tools.stream_parser()
    words = "".join(watch.feed(text[start : start + size]) for start in range(0, len(text), size))
    rest, streamed = watch.end()
    left, whole = tools.parse(text)
    for calls in (streamed, whole):
        assert [(call.name, json.loads(call.arguments)) for call in calls] == [(name, arguments)]
    assert (words + rest).strip() == left.strip() == ""


# genai-bench#159, openai-python#498, freellmapi#1087
@pytest.mark.parametrize(
    "lead",
    [
        "data: ",
        "data:",
        "id: 7\ndata: ",
        ": ping\n\ndata: ",
    ],
    ids=["blank", "no blank", "with an id", "with a comment"],
)
def test_any_stream_of_the_published_form_is_measured(speaker: Speaker, store: Store, lead: str) -> None:
    speaker.lead = lead
    record = load_test(speaker.url, [1, 2], options=LoadOptions(requests=6), store=store).record
    assert all(level.errors == {} for level in record.levels)
    first = record.levels[0].scores["p50_ttft_s"].value
    assert first is not None
    assert first > 0


# sglang#23949, vllm#3759, production-stack PR#873
def test_answers_that_are_all_thought_are_measured_or_told_as_such(speaker: Speaker, store: Store) -> None:
    speaker.key, speaker.finish = "reasoning_content", "length"
    speaker.say = lambda asked: "The guest asks for the mill so I first look where the river turns"
    told = ""
    try:
        record = load_test(speaker.url, [1, 2], options=LoadOptions(requests=6, max_tokens=14), store=store).record
    except SizewiseError as error:
        told = f"{error.what} {error.expected} {error.next_step}".lower()
    if told:
        assert re.search("reason|thought|think", told)
        return
    assert all(level.errors == {} for level in record.levels)
    assert all(level.scores["tokens_per_s"].value for level in record.levels)
