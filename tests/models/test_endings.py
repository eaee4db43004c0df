"""A service's answer that ended otherwise than with an answer is a failed request, and is asked for again."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler
from typing import Any

import pytest

from sizewise.models import open_model, patience
from sizewise.models.base import Model
from sizewise.records import Completion, Message, Request
from tests.models import standin
from tests.models.standin import StandIn

pytest.importorskip("pydantic_ai")


class Ending(StandIn):
    """Ends an answer with a given reason, or sends a body of another kind, to the first `times` requests."""

    def __init__(self, body: Callable[[dict[str, Any]], bytes], times: int, kind: str) -> None:
        super().__init__()
        self.body, self.times, self.kind, self.asked = body, times, kind, 0

    def serve(self, handler: BaseHTTPRequestHandler) -> None:
        self.asked += "/chat/" in handler.path
        if "/chat/" not in handler.path or self.asked > self.times:
            super().serve(handler)
            return
        body = json.loads(handler.rfile.read(int(handler.headers["content-length"])))
        self._send(handler, 200, self.kind, self.body(body))


@pytest.fixture
def serve(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., tuple[Ending, Model]]]:
    monkeypatch.setattr(patience, "FIRST_WAIT_S", 0.01)
    monkeypatch.setenv("OPENAI_API_KEY", "secret")
    opened: list[tuple[Ending, Model]] = []

    def start(
        body: Callable[[dict[str, Any]], bytes], times: int = 99, kind: str = "text/event-stream", uri: str = "URL/v1#m"
    ) -> tuple[Ending, Model]:
        server = Ending(body, times, kind)
        monkeypatch.setenv("OPENAI_BASE_URL", f"{server.url}/v1")
        opened.append((server, open_model(uri.replace("URL", server.url))))
        return opened[-1]

    yield start
    for server, model in opened:
        model.close()
        server.close()


def ending(reason: str | None) -> Callable[[dict[str, Any]], bytes]:
    def body(asked: dict[str, Any]) -> bytes:
        events = "".join(standin.openai(asked, None, {}))
        return events.replace('"finish_reason": "stop"', f'"finish_reason": {json.dumps(reason)}').encode()

    return body


def answer_of(model: Model) -> Completion:
    request = Request(id="q", messages=(Message(role="user", content="question"),), max_tokens=20)
    (answer,) = model.complete([request])
    return answer


@pytest.mark.parametrize("reason", ["error", "abort", "insufficient_system_resource", "cancelled", "Timeout"])
def test_an_answer_that_ended_with_a_failure_is_asked_for_again(
    serve: Callable[..., tuple[Ending, Model]], reason: str
) -> None:
    server, model = serve(ending(reason), times=2)
    answer = answer_of(model)
    assert (answer.text, answer.finish, server.asked) == ("echo: question", "stop", 3)


def test_an_answer_that_always_ends_with_a_failure_is_none(serve: Callable[..., tuple[Ending, Model]]) -> None:
    _, model = serve(ending("error"))
    answer = answer_of(model)
    assert (answer.finish, answer.text, answer.transient) == ("error", "", True)
    assert "'error'" in str(answer.error)


@pytest.mark.parametrize(
    ("reason", "finish"),
    [("stop", "stop"), ("eos", "stop"), ("eos_token", "stop"), ("STOP", "stop"), ("end_turn", "stop"),
     ("length", "length"), ("max_tokens", "length"), ("model_length", "length"), (None, "stop")],
)  # fmt: skip
def test_reasons_of_other_servers_are_known(
    serve: Callable[..., tuple[Ending, Model]], reason: str | None, finish: str
) -> None:
    server, model = serve(ending(reason))
    answer = answer_of(model)
    assert (answer.text, answer.finish, server.asked) == ("echo: question", finish, 1)


def test_a_providers_answer_without_a_reason_is_not_complete(serve: Callable[..., tuple[Ending, Model]]) -> None:
    server, model = serve(ending(None), times=1, uri="openai:gpt-4o")
    assert (answer_of(model).text, server.asked) == ("echo: question", 2)


@pytest.mark.parametrize("kind", ["text/event-stream", "application/json"])
@pytest.mark.parametrize(
    "told",
    [{"error": {"message": "quota exceeded", "code": 500}}, {"detail": "quota exceeded"}, {"error": "quota exceeded"},
     {"message": "quota exceeded", "choices": []}, {"detail": [{"msg": "quota exceeded"}]}],
    ids=str,
)  # fmt: skip
def test_the_message_of_an_error_in_place_of_an_answer_is_kept(
    serve: Callable[..., tuple[Ending, Model]], told: dict[str, Any], kind: str
) -> None:
    lead, end = ("data: ", "\n\ndata: [DONE]\n\n") if kind == "text/event-stream" else ("", "")
    _, model = serve(lambda asked: f"{lead}{json.dumps(told)}{end}".encode(), kind=kind)
    answer = answer_of(model)
    assert (answer.finish, answer.text) == ("error", "")
    assert "quota exceeded" in str(answer.error)
