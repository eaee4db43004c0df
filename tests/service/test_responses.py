"""The Responses API of models of our own, through the official client."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any

import pytest

openai = pytest.importorskip("openai")
pytest.importorskip("uvicorn")

from starlette.testclient import TestClient  # noqa: E402

from sizewise.models.base import Deliver, Piece  # noqa: E402
from sizewise.models.fake import FakeModel  # noqa: E402
from sizewise.records import Completion, Request  # noqa: E402
from sizewise.service import create_app, responses  # noqa: E402
from sizewise.service.state import Settings  # noqa: E402
from tests.service.test_service import client as client_of  # noqa: E402
from tests.service.test_service import running  # noqa: E402

WEATHER = {
    "type": "function",
    "name": "weather",
    "description": "Tells the weather.",
    "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
}


class Scripted(FakeModel):
    """Answers with given pieces, and keeps the requests."""

    def __init__(self, *pieces: str, finish: str = "stop", error: str = "") -> None:
        super().__init__("echo")
        self.pieces, self.finish, self.error = pieces, finish, error
        self.seen: list[Request] = []

    def start(self, request: Request, deliver: Deliver) -> Any:
        self.seen.append(request)
        for text in self.pieces:
            deliver(Piece(text))
        deliver(Piece(end=self.completion(request)))
        return lambda: None

    def completion(self, request: Request) -> Completion:
        text = "".join(self.pieces)
        error = self.error if len(self.seen) > 1 else ""  # the first request warms the engine up
        counts = {"prompt_tokens": 7, "completion_tokens": len(self.pieces), "seconds": 0.0}
        return Completion(id=request.id, text=text, finish=self.finish, error=error, **counts)


@pytest.fixture
def echo() -> Iterator[Any]:
    with running({"echo": FakeModel("echo")}) as address:
        yield client_of(address)


def served(model: Any, **settings: Any) -> TestClient:
    return TestClient(create_app({"m": model}, Settings(**settings)))


def post(model: Any, body: dict[str, Any], lenient: bool = False) -> Any:
    with served(model, lenient=lenient) as client:
        for _ in range(100):
            if client.get("/health").status_code == 200:
                break
        return client.post("/v1/responses", json={"model": "m", "input": "hello"} | body)


def events(text: str) -> list[dict[str, Any]]:
    return [json.loads(line[6:]) for line in text.splitlines() if line.startswith("data: ")]


def test_the_official_client_reads_whole_and_streamed_responses(echo: Any) -> None:
    whole = echo.responses.create(model="echo", input="one two three", instructions="Be brief.", store=False)
    assert whole.output_text == "one two three"
    assert (whole.status, whole.store, whole.instructions) == ("completed", False, "Be brief.")
    assert whole.usage.total_tokens == whole.usage.input_tokens + whole.usage.output_tokens > 0
    with echo.responses.stream(model="echo", input=[{"role": "user", "content": "one two three"}]) as stream:
        kinds = [event.type for event in stream]
        final = stream.get_final_response()
    assert final.output_text == "one two three"
    assert kinds[:3] == ["response.created", "response.in_progress", "response.output_item.added"]
    assert kinds[-1] == "response.completed"
    assert final.usage.output_tokens == 3


def test_what_would_need_a_kept_response_is_refused(echo: Any) -> None:
    for asked in ({"store": True}, {"previous_response_id": "resp_1"}, {"background": True}, {"conversation": "c"}):
        with pytest.raises(openai.BadRequestError, match="keeps no responses"):
            echo.responses.create(model="echo", input="a", **asked)
    with pytest.raises(openai.NotFoundError, match="keeps no responses"):
        echo.responses.retrieve("resp_1")


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"input": []}, "input"),
        ({"input": [{"role": "user", "content": [{"type": "input_image", "image_url": "x"}]}]}, "input[0].content"),
        ({"input": [{"type": "item_reference", "id": "msg_1"}]}, "input[0]"),
        ({"input": [{"type": "function_call", "name": "f", "call_id": "1"}]}, "input[0].arguments"),
        ({"input": [{"role": "tool", "content": "x"}]}, "input[0].role"),
        ({"tools": [{"type": "web_search"}]}, "tools"),
        ({"tools": [WEATHER], "tool_choice": {"type": "function", "name": "other"}}, "tool_choice"),
        ({"tool_choice": "sometimes"}, "tool_choice"),
        ({"reasoning": {"effort": "high"}}, "reasoning"),
        ({"include": ["message.output_text.logprobs"]}, "include"),
        ({"truncation": "auto"}, "truncation"),
        ({"max_tokens": 5}, "max_tokens"),
        ({"top_k": 5}, "top_k"),
        ({"max_output_tokens": 0}, "max_output_tokens"),
        ({"text": {"format": {"type": "grammar"}}}, "text.format"),
        ({"tools": [{"type": "function", "name": "a b"}]}, "tools.0.function.name"),
        ({"tools": [{"type": "function"}]}, "tools.0.function.name"),
        ({"max_output_tokens": 10**6}, "max_output_tokens"),
    ],
)
def test_bad_requests_name_the_parameter(body: dict[str, Any], param: str) -> None:
    found = post(Scripted("a"), body)
    assert found.status_code == 400, found.text
    assert found.json()["error"]["param"] == param


def test_items_of_a_conversation_become_messages() -> None:
    model = Scripted("fine")
    items = [
        {"role": "developer", "content": "Be kind."},
        {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "Weather?"}]},
        {"type": "reasoning", "id": "rs_1", "summary": [], "content": [{"type": "reasoning_text", "text": "Hm."}]},
        {"type": "function_call", "call_id": "c1", "name": "weather", "arguments": '{"city": "Bonn"}'},
        {"type": "function_call", "call_id": "c2", "name": "weather", "arguments": '{"city": "Rome"}'},
        {"type": "function_call_output", "call_id": "c1", "output": "rain"},
        {"type": "function_call_output", "call_id": "c2", "output": [{"type": "input_text", "text": "sun"}]},
        {"role": "assistant", "content": [{"type": "output_text", "text": "Rain and sun."}]},
        {"role": "user", "content": "Thanks"},
    ]
    found = post(model, {"input": items, "instructions": "Be brief.", "max_output_tokens": 9, "temperature": 0.5})
    assert found.status_code == 200, found.text
    request = model.seen[-1]
    assert (request.max_tokens, request.temperature) == (9, 0.5)
    assert [message.role for message in request.messages][:3] == ["system", "system", "user"]
    texts = " ".join(message.content for message in request.messages)
    assert "Hm." not in texts
    assert all(part in texts for part in ("Be brief.", "Weather?", "Bonn", "Rome", "rain", "sun", "Thanks"))


def test_reasoning_and_calls_are_items_of_their_own() -> None:
    pieces = [
        "<think>",
        "Let me",
        " see.</think>",
        "I look.",
        '<tool_call>{"name": "weather", "arguments"',
        ': {"city": "Bonn"}}</tool_call>',
    ]
    whole = post(Scripted(*pieces), {"tools": [WEATHER]}).json()
    assert [item["type"] for item in whole["output"]] == ["reasoning", "message", "function_call"]
    call = whole["output"][2]
    assert (call["name"], json.loads(call["arguments"])) == ("weather", {"city": "Bonn"})
    found = events(post(Scripted(*pieces), {"tools": [WEATHER], "stream": True}).text)
    assert [event["sequence_number"] for event in found] == list(range(len(found)))
    final = found[-1]["response"]
    assert without_ids(final["output"]) == without_ids(whole["output"])
    done = [event["item"] for event in found if event["type"] == "response.output_item.done"]
    assert done == final["output"]
    deltas = "".join(event["delta"] for event in found if event["type"] == "response.output_text.delta")
    assert deltas == final["output"][1]["content"][0]["text"]


def without_ids(items: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{name: value for name, value in item.items() if name not in ("id", "call_id")} for item in items]


def test_a_cut_answer_is_incomplete() -> None:
    whole = post(Scripted("a", "b", finish="length"), {"max_output_tokens": 2}).json()
    assert (whole["status"], whole["incomplete_details"]) == ("incomplete", {"reason": "max_output_tokens"})
    last = events(post(Scripted("a", finish="length"), {"stream": True}).text)[-1]
    assert (last["type"], last["response"]["output"][0]["status"]) == ("response.incomplete", "incomplete")


def test_an_engine_that_fails_in_the_middle_sends_an_error_event() -> None:
    last = events(post(Scripted("a", error="broken"), {"stream": True}).text)[-1]
    assert last["type"] == "error"
    assert last["error"]["message"]
    assert post(Scripted(error="broken"), {}).status_code == 500


def test_a_response_without_text_has_an_empty_message() -> None:
    for body in ({}, {"stream": True}):
        found = post(Scripted(), body)
        output = events(found.text)[-1]["response"]["output"] if body else found.json()["output"]
        assert [(item["type"], item["content"][0]["text"]) for item in output] == [("message", "")]


def test_the_official_client_follows_reasoning_and_several_calls() -> None:
    calls = "".join(
        f'<tool_call>{{"name": "weather", "arguments": {{"city": "{city}"}}}}</tool_call>' for city in ("Bonn", "Rome")
    )
    model = Scripted("<think>Two", " cities.</think>", "I look.", calls)
    with (
        running({"m": model}) as address,
        client_of(address).responses.stream(model="m", input="Weather?", tools=[WEATHER]) as stream,
    ):
        kinds = [event.type for event in stream]
        final = stream.get_final_response()
    assert [item.type for item in final.output] == ["reasoning", "message", "function_call", "function_call"]
    assert [json.loads(item.arguments)["city"] for item in final.output[2:]] == ["Bonn", "Rome"]
    assert "response.reasoning_text.delta" in kinds
    assert final.output_text == "I look."


def test_a_log_probability_that_the_engine_does_not_state_is_valid_json() -> None:
    values = [float("nan"), -0.5]
    assert [one["logprob"] for one in responses.chat_logprobs(["a", "b"], values)["content"]] == [-9999.0, -0.5]
    likeliest = responses.greedy_top(["a", "b"], values)
    stated = responses.text_logprobs(["a", "b"], [*values], likeliest, responses.Offsets())
    assert (stated["token_logprobs"], stated["top_logprobs"]) == ([None, -0.5], [None, {"b": -0.5}])
