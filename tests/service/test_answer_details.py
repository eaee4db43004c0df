"""Details of answers that clients compute with: calls of cut answers, counts of reasoning, echoes, refused bodies."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("openai")

from starlette.testclient import TestClient

from sizewise.models import open_model
from sizewise.models.base import Piece
from sizewise.records import Completion, Request
from sizewise.service import create_app
from sizewise.service.state import Settings
from sizewise.store import Store
from tests.service.test_health import until
from tests.service.test_responses import WEATHER, Scripted, events

BEGUN = '\n<tool_call>\n{"name": "weather", "arguments": {"ci'
CALL = '<tool_call>\n{"name": "weather", "arguments": {"city": "Bonn"}}\n</tool_call>'
TOOLS = [{"type": "function", "function": {name: WEATHER[name] for name in ("name", "description", "parameters")}}]


@contextmanager
def served(model: Any, **settings: Any) -> Iterator[TestClient]:
    with TestClient(create_app({"m": model}, Settings(**settings)), raise_server_exceptions=False) as client:
        assert until(lambda: client.get("/health").is_success)
        yield client


def chat(client: TestClient, **body: Any) -> Any:
    said = [{"role": "user", "content": "hello"}]
    return client.post("/v1/chat/completions", json={"model": "m", "messages": said} | body)


@pytest.mark.parametrize(
    ("said", "content", "calls"),
    [(CALL + BEGUN, None, 1), (f"Let me look.\n{CALL}{BEGUN}", "Let me look.", 1), (BEGUN, BEGUN, 0), (CALL, None, 1)],
)
def test_a_cut_answer_with_calls_is_cut(said: str, content: str | None, calls: int) -> None:
    with served(Scripted(*said, finish="length")) as client:
        (choice,) = chat(client, tools=TOOLS).json()["choices"]
        assert choice["finish_reason"] == "length"
        assert (choice["message"]["content"], len(choice["message"].get("tool_calls", ()))) == (content, calls)
        lines = chat(client, tools=TOOLS, stream=True).text.splitlines()
        chunks = [json.loads(line[6:])["choices"][0] for line in lines if line.startswith("data: {")]
        assert chunks[-1]["finish_reason"] == "length"
        assert "".join(chunk["delta"].get("content") or "" for chunk in chunks).strip() == (content or "").strip()
        assert sum(len(chunk["delta"].get("tool_calls", ())) for chunk in chunks) == calls
        body = {"model": "m", "input": "hello", "tools": [WEATHER]}
        whole = client.post("/v1/responses", json=body).json()
        last = events(client.post("/v1/responses", json=body | {"stream": True}).text)[-1]
        assert last["type"] == "response.incomplete"
        for response in (whole, last["response"]):
            assert response["incomplete_details"] == {"reason": "max_output_tokens"}
            assert [item["status"] for item in response["output"] if item["type"] == "function_call"] == (
                ["completed"] * calls
            )


def test_reasoning_is_counted_beside_its_item() -> None:
    with served(Scripted("<think>", "Two ", "and ", "two.", "</think>", "\n\n", "Four.")) as client:
        whole = client.post("/v1/responses", json={"model": "m", "input": "2 + 2?"}).json()
        last = events(client.post("/v1/responses", json={"model": "m", "input": "2 + 2?", "stream": True}).text)[-1]
        for response in (whole, last["response"]):
            used = response["usage"]
            assert response["output"][0]["type"] == "reasoning"
            assert 0 < used["output_tokens_details"]["reasoning_tokens"] < used["output_tokens"] == 7


@pytest.mark.parametrize("engine", ["transformers", "openvino"])
def test_a_token_without_a_row_is_refused_alone(tiny_folder: Path, store: Store, engine: Any) -> None:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(tiny_folder)
    tokenizer.add_tokens(["<image>"], special_tokens=True)
    tokenizer.save_pretrained(tiny_folder)
    unknown = len(tokenizer) - 1
    model = open_model(str(tiny_folder), store=store, precision="fp32", engine=engine)
    with served(model) as client:
        for more in ({}, {"stream": True}, {"echo": True, "logprobs": 1, "max_tokens": 0}):
            body = {"model": "m", "prompt": [5, unknown], "max_tokens": 2} | more
            answer = client.post("/v1/completions", json=body)
            assert answer.status_code == 400
            assert f"the unknown token {unknown}" in answer.json()["error"]["message"]
        assert client.post("/v1/completions", json={"model": "m", "prompt": [5, 6]}).status_code == 200
    model.close()


def test_an_echo_has_as_many_choices_as_asked_for(tiny_folder: Path, store: Store) -> None:
    model = open_model(str(tiny_folder), store=store, precision="fp32")
    body = {"model": "m", "prompt": ["The patient", "An item"], "echo": True, "n": 3, "temperature": 2.0, "seed": 5}
    with served(model) as client:
        for tokens in (0, 8, None):
            made = client.post("/v1/completions", json=body | {"max_tokens": tokens}).json()
            texts = [choice["text"] for choice in made["choices"]]
            assert [choice["index"] for choice in made["choices"]] == list(range(6))
            assert all(text.startswith(body["prompt"][place // 3]) for place, text in enumerate(texts))
            assert len(set(texts)) == (2 if tokens == 0 else 6)
            scored = client.post("/v1/completions", json=body | {"max_tokens": 0, "n": 1}).json()
            assert made["usage"]["prompt_tokens"] == scored["usage"]["prompt_tokens"]
    model.close()


def test_without_a_limit_a_completion_fits_into_the_context(tiny_folder: Path, store: Store) -> None:
    model = open_model(str(tiny_folder), store=store, precision="fp32")
    context = model.describe().context or 0
    with served(model) as client:
        for limit in ({}, {"max_tokens": None}):
            body = {"model": "m", "prompt": [5] * (context - 3)} | limit
            used = client.post("/v1/completions", json=body).json()["usage"]
            assert used["completion_tokens"] <= 3
            used = client.post("/v1/completions", json=body | {"prompt": [5]}).json()["usage"]
            assert used["completion_tokens"] <= 16
    model.close()


@pytest.mark.parametrize("value", ["Infinity", "NaN", "1e999"])
def test_numbers_that_json_lacks_are_refused_before_an_answer(value: str) -> None:
    seen: list[Request] = []

    class Counted(Scripted):
        def start(self, request: Request, deliver: Any) -> Any:
            seen.append(request)
            deliver(
                Piece(end=Completion(id="", text="", prompt_tokens=1, completion_tokens=0, seconds=0, finish="stop"))
            )
            return lambda: None

    tool = json.dumps(WEATHER | {"parameters": {"type": "object", "maximum": "#"}}).replace('"#"', value)
    with served(Counted()) as client:
        seen.clear()
        for stream in ("false", "true"):
            for more in (f'"tools": [{tool}]', f'"text": {{"verbosity": {value}}}'):
                body = f'{{"model": "m", "input": "hello", "stream": {stream}, {more}}}'
                answer = client.post("/v1/responses", content=body, headers={"content-type": "application/json"})
                assert answer.status_code == 400
                assert "NaN or infinite" in answer.json()["error"]["message"]
        assert not seen


def test_a_call_needs_tools() -> None:
    named = {"type": "function", "function": {"name": "weather"}}
    with served(Scripted("Hello.")) as client:
        for choice in ("required", named):
            refused = chat(client, tool_choice=choice)
            assert (refused.status_code, refused.json()["error"]["param"]) == (400, "tool_choice")
            assert chat(client, tool_choice=choice, tools=[]).status_code == 400
        body = {"model": "m", "input": "hello", "tool_choice": "required"}
        assert client.post("/v1/responses", json=body).status_code == 400
        for choice in ("none", "auto"):
            assert chat(client, tool_choice=choice).status_code == 200
    with served(Scripted("Hello."), lenient=True) as client:
        assert chat(client, tool_choice="required").status_code == 200
