"""Requests for servers with an OpenAI-compatible API are passed on whole, guarded, charged and with true statuses."""

from __future__ import annotations

import json
import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

openai = pytest.importorskip("openai")
pytest.importorskip("uvicorn")
pytest.importorskip("pydantic_ai")

import httpx  # noqa: E402

from sizewise.models import Model, open_model  # noqa: E402
from sizewise.models.fake import FakeModel  # noqa: E402
from sizewise.routing import calibrate, make_policy  # noqa: E402
from sizewise.service import GuardRules, Settings, sse  # noqa: E402
from sizewise.service.backends import Backend, BackendSettings, Price, check_shared_key  # noqa: E402
from sizewise.service.forwarded_answers import Answer  # noqa: E402
from sizewise.service.payloads import Restorer  # noqa: E402
from sizewise.store import Store  # noqa: E402
from tests.routing.test_policy import HARD, write_csv  # noqa: E402
from tests.service.backend_stand_in import (  # noqa: E402
    USAGE,
    StandIn,
    answer,
    chunk,
    data,
    echo,
    refusing,
    saying,
    send,
    standing_in,
    streaming,
)
from tests.service.test_budgets import keyed  # noqa: E402
from tests.service.test_service import client, running  # noqa: E402

INSIDE, OUTSIDE = BackendSettings(zone="inside"), BackendSettings()
OPEN = GuardRules.without(("mask",))
DONE = b"data: [DONE]\n\n"
ASKED = {"model": "big", "messages": [{"role": "user", "content": "hello there"}]}
SECRET = "org-secret"


@pytest.fixture
def stand_in() -> Iterator[StandIn]:
    with standing_in() as found:
        yield found


@contextmanager
def gateway(stand_in: StandIn, store: Store, backend: BackendSettings = INSIDE, **settings: Any) -> Iterator[str]:
    models = {"big": open_model(f"{stand_in.address}#their-name", store=store), "own": FakeModel("echo")}
    try:
        with running(models, Settings(backends={"big": backend}, **settings), store) as address:
            yield address
    finally:
        models["big"].close()


def ask(address: str, **more: Any) -> httpx.Response:
    return httpx.post(f"{address}/v1/chat/completions", json=ASKED | more, timeout=30)


def test_the_whole_api_is_passed_on(stand_in: StandIn, store: Store) -> None:
    tool = {"type": "function", "function": {"name": "look_up", "parameters": {"type": "object", "properties": {}}}}
    picture = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}
    given: dict[str, Any] = {
        "messages": [{"role": "user", "content": [{"type": "text", "text": "What is it?"}, picture]}],
        "tools": [tool],
        "tool_choice": "required",
        "response_format": {"type": "json_schema", "json_schema": {"name": "a", "schema": {"type": "object"}}},
        "logprobs": True,
        "top_logprobs": 5,
        "presence_penalty": 0.5,
        "frequency_penalty": -0.5,
        "logit_bias": {"50256": -100},
        "seed": 7,
        "n": 2,
        "top_k": 40,
        "chat_template_kwargs": {"enable_thinking": False},
    }
    with gateway(stand_in, store) as address:
        body = ask(address, **given).json()
        assert (stand_in.received[-1][0], stand_in.body) == ("/v1/chat/completions", given | {"model": "their-name"})
        assert (body["model"], body["usage"]) == ("big", USAGE)

        call = {"index": 0, "id": "call_1", "type": "function", "function": {"name": "look_up", "arguments": "{}"}}
        stand_in.reply = streaming(data(chunk(tool_calls=[call])), data(chunk(finish="tool_calls")), DONE)
        stream = client(address).chat.completions.create(**ASKED, tools=[tool], stream=True)
        chunks = list(stream)
        assert chunks[0].choices[0].delta.tool_calls[0].function.name == "look_up"
        assert {one.model for one in chunks} == {"big"}

        stand_in.reply = saying(json.dumps({"data": [{"index": 0, "embedding": [0.5]}], "usage": USAGE}).encode())
        vector = client(address).embeddings.create(model="big", input=["a"], dimensions=1, encoding_format="float")
        assert (vector.data[0].embedding, stand_in.body["dimensions"]) == ([0.5], 1)

        stand_in.reply = saying(json.dumps({"choices": [{"index": 0, "text": "b"}], "usage": USAGE}).encode())
        text = client(address).completions.create(model="big", prompt="a", suffix="c", echo=True, logprobs=2)
        assert (text.choices[0].text, stand_in.body["suffix"]) == ("b", "c")


def test_usage_of_a_stream_is_counted_and_sent_only_if_the_client_wants_it(stand_in: StandIn, store: Store) -> None:
    with gateway(stand_in, store) as address:
        for wanted in (False, True):
            more: dict[str, Any] = {"stream_options": {"include_usage": True}} if wanted else {}
            chunks = list(client(address).chat.completions.create(**ASKED, stream=True, **more))
            assert "".join(one.choices[0].delta.content or "" for one in chunks if one.choices) == "hello there"
            assert stand_in.body["stream_options"] == {"include_usage": True}
            assert [one.usage.total_tokens for one in chunks if one.usage] == ([12] if wanted else [])
        counted = httpx.get(f"{address}/metrics").text
    assert 'sizewise_generation_tokens_total{model="big"} 10.0' in counted


def test_responses_are_passed_on_and_streamed(stand_in: StandIn, store: Store) -> None:
    done = {"id": "r", "object": "response", "model": "secret-name", "output": [], "usage": {"input_tokens": 3}}
    with gateway(stand_in, store) as address:
        stand_in.reply = saying(json.dumps(done | {"output": [{"type": "message", "id": "m"}]}).encode())
        whole = httpx.post(f"{address}/v1/responses", json={"model": "big", "input": "hi", "store": False}).json()
        assert (whole["model"], stand_in.received[-1][0]) == ("big", "/v1/responses")

        def events(name: str) -> list[bytes]:
            delta = {"type": "response.output_text.delta", "item_id": "m", "delta": "hel"}
            end = {"type": name, "response": done | {"error": {"message": SECRET, "code": "server_error"}}}
            return [b"event: %s\n" % one["type"].encode() + data(one) for one in (delta, end)]

        asked = {"model": "big", "input": "hi", "stream": True}
        stand_in.reply = streaming(*events("response.incomplete"))
        text = httpx.post(f"{address}/v1/responses", json=asked).text
        assert text.count("event: response.") == 2
        assert '"model": "big"' in text
        stand_in.reply = streaming(*events("response.failed"))
        text = httpx.post(f"{address}/v1/responses", json=asked).text
        assert "event: error" in text
        assert SECRET not in text
        for more, param in (
            ({"previous_response_id": "r"}, "previous_response_id"),
            ({"background": True}, "background"),
            ({"tools": [{"type": "web_search"}]}, "tools"),
            ({"service_tier": "priority"}, "service_tier"),
        ):
            refused = httpx.post(f"{address}/v1/responses", json=asked | more)
            assert (refused.status_code, refused.json()["error"]["param"]) == (400, param)
        own = httpx.post(f"{address}/v1/responses", json={"model": "own", "input": "hi"})
        assert (own.status_code, own.json()["object"], own.json()["model"]) == (200, "response", "own")


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("theirs", "headers", "ours", "retry"),
    [
        (400, {}, 400, None),
        (413, {}, 413, None),
        (422, {}, 422, None),
        (401, {}, 502, None),
        (403, {}, 502, None),
        (404, {}, 502, None),
        (429, {"Retry_After": "7"}, 429, "7"),
        (429, {}, 429, "10"),
        (500, {}, 502, None),
        (503, {"Retry_After": "2"}, 503, "2"),
        (504, {}, 504, None),
        (302, {"Location": "http://127.0.0.1:9/"}, 502, None),
    ],
)
def test_statuses_are_true_and_no_text_of_the_provider_is_shown(
    gateways: tuple[StandIn, str, str], theirs: int, headers: dict[str, str], ours: int, retry: str | None, stream: bool
) -> None:
    stand_in, address, _ = gateways
    error = {"error": {"message": f"{SECRET} quota", "code": "context_length_exceeded", "param": "messages"}}
    stand_in.reply = refusing(theirs, error, **headers)
    found = ask(address, stream=stream)
    assert found.status_code == ours
    assert SECRET not in found.text
    assert found.headers.get("retry-after") == retry
    if ours in (400, 413, 422):
        assert found.json()["error"]["code"] == "context_length_exceeded"


@pytest.fixture(scope="module")
def gateways(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[StandIn, str, str]]:
    """A stand-in, a gateway for which it is outside, and one for which it is inside."""
    store = Store(tmp_path_factory.mktemp("home"))
    with standing_in() as found, gateway(found, store, OUTSIDE, guard=OPEN) as first, gateway(found, store) as second:
        yield found, first, second


def test_messages_of_an_own_server_are_shown(gateways: tuple[StandIn, str, str]) -> None:
    stand_in, _, address = gateways
    stand_in.reply = refusing(400, {"object": "error", "message": "max_model_len is 2048", "code": 400})
    assert "max_model_len is 2048" in ask(address).json()["error"]["message"]


@pytest.mark.parametrize(
    "said",
    [
        b'{"choices": [NaN]}',
        b"null",
        b"<html>",
        b"[]",
        b'{"choices": null}',
        b'{"error": {"message": "org-secret", "code": 429}}',
        b"[" * 100_000,
    ],
)
def test_what_is_no_answer_is_an_error(gateways: tuple[StandIn, str, str], said: bytes) -> None:
    stand_in, address, _ = gateways
    stand_in.reply = saying(said)
    found = ask(address)
    assert found.status_code == (429 if b"429" in said else 502)
    assert SECRET not in found.text
    assert ask(address, stream=True).status_code == 502  # it doesn't stream


def test_lone_surrogates_of_an_answer_are_escaped(gateways: tuple[StandIn, str, str]) -> None:
    stand_in, address, _ = gateways
    stand_in.reply = saying(answer().replace(b"hello", b"\\ud83d"))
    assert ask(address).json()["choices"][0]["message"]["content"] == "\ud83d"
    stand_in.reply = streaming(b"data: " + json.dumps(chunk("\ud83d", "stop")).encode() + b"\n\n", DONE)
    assert "\\ud83d" in ask(address, stream=True).text


def test_failures_are_counted_by_their_status(gateways: tuple[StandIn, str, str]) -> None:
    stand_in, address, _ = gateways
    before = httpx.get(f"{address}/monitor/data").json()["models"]["big"]
    stand_in.reply = refusing(429, {})
    for stream in (False, True):
        assert ask(address, stream=stream).status_code == 429
    after = httpx.get(f"{address}/monitor/data").json()["models"]["big"]
    assert after["rejected"] - before["rejected"] == 2
    assert after["disconnected"] == before["disconnected"]


@pytest.mark.parametrize(
    "events",
    [
        (data(chunk("a")),),
        (data(chunk("a")), DONE),
        (data(chunk("a")), data({"error": {"message": SECRET, "code": 500}}), DONE),
        (data(chunk("a")), b"data: {broken\n\n"),
        (data(chunk("a")), data({"choices": None})),
        (data(chunk("a")), b"data: " + b"x" * 9_000_000),
    ],
    ids=["end", "no finish reason", "error", "no JSON", "no choices", "huge"],
)
def test_a_broken_stream_ends_with_an_error_and_never_looks_complete(
    gateways: tuple[StandIn, str, str], events: tuple[bytes, ...]
) -> None:
    stand_in, address, _ = gateways
    stand_in.reply = streaming(*events)
    stream = client(address).chat.completions.create(**ASKED, stream=True)
    assert next(stream).choices[0].delta.content == "a"
    with pytest.raises(openai.APIError) as told:
        list(stream)
    assert SECRET not in str(told.value)
    assert ask(address, stream=True).text.endswith("data: [DONE]\n\n")


def test_streams_of_any_form_are_read(gateways: tuple[StandIn, str, str]) -> None:
    stand_in, address, _ = gateways
    for said in (
        b": comment\r\n\r\ndata:" + json.dumps(chunk("a")).encode() + b"\r\n\r\n" + data(chunk(finish="stop")) + DONE,
        b"data: " + json.dumps(chunk("a")).encode() + b"\r\r" + data(chunk(finish="stop")),
        b'data: {"choices":\ndata: [{"index": 0, "delta": {"content": "a"}, "finish_reason": "stop"}]}\n',
    ):
        stand_in.reply = streaming(*(said[start : start + 7] for start in range(0, len(said), 7)))
        chunks = list(client(address).chat.completions.create(**ASKED, stream=True))
        assert "".join(one.choices[0].delta.content or "" for one in chunks) == "a"


def test_idle_streams_are_kept_open_and_leavers_stop_the_backend(
    stand_in: StandIn, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sse, "PING_S", 0.1)
    with gateway(stand_in, store) as address:

        def late(stand_in: StandIn, handler: Any, body: dict[str, Any]) -> None:
            time.sleep(0.5)
            send(handler, 429, b"{}")

        stand_in.reply = late
        found = ask(address, stream=True)
        assert found.status_code == 200
        assert found.text.startswith(": ping\n\n")
        assert '"provider_busy"' in found.text
        assert found.text.endswith("data: [DONE]\n\n")

        stand_in.reply = streaming(*[data(chunk("a"))] * 500, delay_s=0.02)
        with httpx.stream("POST", f"{address}/v1/chat/completions", json=ASKED | {"stream": True}) as answer_:
            next(answer_.iter_bytes())
        assert stand_in.closed.wait(5)
        usage = httpx.get(f"{address}/monitor/data").json()["models"]["big"]
        assert (usage["running"], usage["disconnected"]) == (0, 1)


def test_personal_data_is_masked_on_the_way_out_and_restored(stand_in: StandIn, store: Store) -> None:
    pytest.importorskip("presidio_analyzer")
    mail = "jane.roe@example.org"
    with gateway(stand_in, store, OUTSIDE, guard=GuardRules(confidential=("salary",))) as address:
        asked = {"messages": [{"role": "user", "content": f"Write to {mail} please"}], "user": mail}
        assert mail in ask(address, **asked).json()["choices"][0]["message"]["content"]
        assert mail not in json.dumps(stand_in.body)
        chunks = list(client(address).chat.completions.create(**ASKED | asked, stream=True))
        assert "".join(one.choices[0].delta.content or "" for one in chunks) == f"Write to {mail} please"
        assert mail not in json.dumps(stand_in.body)

        def call(stand_in: StandIn, handler: Any, body: dict[str, Any]) -> None:
            token = body["messages"][0]["content"].split()[2]
            function = {"name": "send", "arguments": json.dumps({"to": token})}
            send(handler, 200, answer("", tool_calls=[{"id": "1", "type": "function", "function": function}]))

        stand_in.reply = call
        message = ask(address, **asked).json()["choices"][0]["message"]
        assert json.loads(message["tool_calls"][0]["function"]["arguments"]) == {"to": mail}
        past = [
            {"role": "assistant", "tool_calls": [{"id": "1", "type": "function", "function": {"name": "send"}}]},
            {"role": "tool", "tool_call_id": "1", "content": f"sent to {mail}"},
        ]
        past[0]["tool_calls"][0]["function"]["arguments"] = json.dumps({"to": mail})  # type: ignore[index]
        stand_in.reply = echo
        assert ask(address, messages=past).json()["choices"][0]["message"]["content"] == f"sent to {mail}"
        assert mail not in json.dumps(stand_in.body)
        assert stand_in.body["messages"][0]["tool_calls"][0]["function"]["name"] == "send"
        before = len(stand_in.received)
        picture = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}
        for messages, status, code in (
            ([{"role": "user", "content": "her salary"}], 403, "confidential"),
            ([{"role": "user", "content": [picture]}], 400, "unchecked_content"),
        ):
            refused = ask(address, messages=messages)
            assert (refused.status_code, refused.json()["error"]["code"]) == (status, code)
        assert len(stand_in.received) == before


def test_streamed_values_are_restored_wherever_they_are_split() -> None:
    values = {"EMAIL_1_7KQX": 'a"b@example.org'}
    token = "[EMAIL_1_7KQX]"
    for cut in range(1, len(token)):
        restorer, parts, arguments = Restorer(values), "", ""
        call = [
            {"index": 0, "function": {"arguments": piece}} for piece in (f'{{"to": "{token[:cut]}', f'{token[cut:]}"}}')
        ]
        for number, piece in enumerate((token[:cut], token[cut:])):
            delta = restorer.chunk(chunk(piece, tool_calls=[call[number]]))["choices"][0]["delta"]
            parts += delta["content"]
            arguments += "".join(one["function"]["arguments"] for one in delta["tool_calls"])
        delta = restorer.chunk(chunk(finish="stop"))["choices"][0]["delta"]
        assert parts + delta.get("content", "") == 'a"b@example.org'
        rest = "".join(one["function"]["arguments"] for one in delta.get("tool_calls", []))
        assert json.loads(arguments + rest) == {"to": 'a"b@example.org'}
        restorer, arguments = Restorer(values), ""
        for piece in (f'{{"to": "{token[:cut]}', f'{token[cut:]}"}}'):
            delta = restorer.chunk(chunk(function_call={"arguments": piece}))["choices"][0]["delta"]
            arguments += delta["function_call"]["arguments"]
        delta = restorer.chunk(chunk(finish="function_call"))["choices"][0]["delta"]
        arguments += delta.get("function_call", {"arguments": ""})["arguments"]
        assert json.loads(arguments) == {"to": 'a"b@example.org'}
        restorer = Restorer(values)
        place = {"item_id": "m", "content_index": 0}
        found = [
            event
            for piece in (token[:cut], token[cut:], "[EM")
            for event in restorer.event({"type": "response.output_text.delta", "delta": piece} | place)
        ]
        found += restorer.event({"type": "response.output_text.done", "text": f"{token}[EM"} | place)
        assert "".join(event["delta"] for event in found[:-1]) == found[-1]["text"] == 'a"b@example.org[EM'


def test_auto_passes_the_request_on_to_a_large_model_behind_a_server(
    stand_in: StandIn, store: Store, tmp_path: Path
) -> None:
    policy = make_policy(calibrate(write_csv(tmp_path / "a.csv", 600, 0), 0.08), "own", "big", [])
    models: dict[str, Model] = {
        "own": FakeModel("echo"),
        "big": open_model(f"{stand_in.address}#their-name", store=store),
    }
    settings = Settings(policy=policy, backends={"big": INSIDE})
    with running(models, settings, store) as address:
        stand_in.reply = refusing(503, {})
        body = {"model": "auto", "messages": [{"role": "user", "content": HARD[0]}]}
        fallen = httpx.post(f"{address}/v1/chat/completions", json=body)
        assert (fallen.status_code, fallen.headers["x-sizewise-model"]) == (200, "own")
        stand_in.reply = echo
        found = httpx.post(f"{address}/v1/chat/completions", json=body)
        assert (found.headers["x-sizewise-model"], found.json()["choices"][0]["message"]["content"]) == ("big", HARD[0])
        assert found.json()["sizewise"]["model"] == "big"
        assert stand_in.body == body | {"model": "their-name"}
    models["big"].close()


def spent(store: Store) -> dict[str, tuple[int, float]]:
    with sqlite3.connect(store.home / "service" / "usage.sqlite") as connection:
        rows = connection.execute("SELECT key, SUM(tokens), SUM(usd) FROM key_usage GROUP BY 1").fetchall()
    return {key: (tokens, usd) for key, tokens, usd in rows}


def test_tokens_and_money_of_keys_and_backends_are_charged(stand_in: StandIn, store: Store, tmp_path: Path) -> None:
    keys, headers = keyed(tmp_path, "tokens_per_day = 40\nusd_per_day = 10")
    backend = BackendSettings(zone="inside", price=Price(1000.0, 2000.0), usd_per_day=1.0, api_key="own-key")
    with gateway(stand_in, store, backend, keys=keys) as address:
        url = f"{address}/v1/chat/completions"

        def told(**more: Any) -> httpx.Response:
            return httpx.post(url, json=ASKED | more, headers=headers, timeout=30)

        assert told(max_tokens=9).status_code == 200
        assert stand_in.received[-1][2]["Authorization"] == "Bearer own-key"
        assert spent(store) == {"one": (12, pytest.approx(0.017)), "backend big": (12, pytest.approx(0.017))}
        cut = told(max_tokens=900, stream=True)
        assert cut.status_code == 503  # the backend's own budget would be exceeded
        assert cut.json()["error"]["code"] == "model_budget"
        cut = told(max_tokens=100, stream=True)
        assert stand_in.body["max_tokens"] == int(cut.headers["x-sizewise-max-tokens"]) == 40 - 12 - 3
        assert spent(store)["one"][0] == 24
        stand_in.reply = refusing(500, b"")
        assert told(max_tokens=9).status_code == 502
        assert spent(store)["one"][0] == 24  # what failed isn't charged
        stand_in.reply = echo
        assert [told(max_tokens=9).status_code for _ in range(3)] == [200, 200, 429]


def test_a_budget_without_a_known_price_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SIZEWISE_OFFLINE")
    keyless = BackendSettings(api_key="x")
    backend = Backend("m", "openai:no-such-model", keyless)
    from sizewise.service.api_keys import Key
    from sizewise.service.schemas import APIError

    with pytest.raises(APIError, match="No price is known"):
        backend.max_cost(10, 10, Key(name="a", sha256="0" * 64, usd_per_day=1.0))
    assert backend.max_cost(10, 10, None) == 0.0
    assert Backend("m", "openai:gpt-4o-mini", keyless).max_cost(1_000_000, 0, None) == pytest.approx(0.15)
    anthropic = Backend("m", "anthropic:claude-haiku-4-5", keyless)
    with pytest.raises(APIError, match="ignores logprobs"):
        anthropic.check("/chat/completions", {"logprobs": True})


def test_one_key_for_two_servers_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    from sizewise.errors import UsageError

    monkeypatch.setenv("SIZEWISE_API_KEY", "secret")
    check_shared_key({"a": "http://one/v1#a", "b": "http://one/v1#b"})
    with pytest.raises(UsageError, match="2 servers"):
        check_shared_key({"a": "http://one/v1#a", "b": "http://two/v1#b"})


def test_estimates_stand_in_for_usage_that_is_not_reported() -> None:
    found = Answer("/chat/completions", "big")
    for text in ("hello ", "there"):
        found.event(sse.Event(json.dumps(chunk(text) | {"usage": None})), Restorer({}))
    assert tuple(found.tokens(9))[:2] == (9, 2)
    found.event(sse.Event(json.dumps({"choices": [], "usage": USAGE})), Restorer({}))
    assert tuple(found.tokens(9))[:2] == (7, 5)


def test_streamed_answers_share_a_connection_of_the_backend(stand_in: StandIn, store: Store) -> None:
    connections = set()

    def in_chunks(_: StandIn, handler: Any, body: dict[str, Any]) -> None:
        connections.add(handler.client_address)
        handler.send_response(200)
        handler.send_header("Content-Type", "text/event-stream")
        handler.send_header("Transfer-Encoding", "chunked")
        handler.end_headers()
        for event in (data(chunk("a")), data(chunk(finish="stop")), DONE):
            handler.wfile.write(b"%x\r\n%s\r\n" % (len(event), event))
            handler.wfile.flush()
        time.sleep(0.01)  # the end comes in a packet of its own
        handler.wfile.write(b"0\r\n\r\n")

    stand_in.reply = in_chunks
    with gateway(stand_in, store) as address:
        connections.clear()  # of the questions what the server can do
        texts = [ask(address, stream=True).text for _ in range(3)]
    assert all(text.endswith("data: [DONE]\n\n") for text in texts)
    assert len(connections) == 1
