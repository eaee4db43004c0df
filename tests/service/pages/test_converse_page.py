"""The chat page of the imitation test over HTTP."""

from __future__ import annotations

import json
import sqlite3
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest

pytest.importorskip("fastapi")

from starlette.testclient import TestClient

from sizewise.judging import ConversationDesign, Conversations, conversations, open_conversations
from sizewise.judging.conversation_design import OpenedConversations
from sizewise.models import open_model
from sizewise.records import Completion, Request
from sizewise.records.conversations import PERSON
from sizewise.service.pages.converse_page import Answerer, create_converse_app
from sizewise.store import Store
from sizewise.store.database import Unavailable

SECRETS = ("fake", "echo", "Ada", "Cleo", 'partner"', "token", "origin")


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(conversations, "CONNECT_SHARE", (0.0, 0.0))
    monkeypatch.setattr(conversations, "typing_delay", lambda *_: 0.0)


@pytest.fixture
def opened(store: Store) -> OpenedConversations:
    design = ConversationDesign(["fake:echo"], interrogators=["Ada"], witnesses=["Cleo"], conversations=2)
    return open_conversations(design, store=store)


def until(ready: Callable[[], dict[str, Any]], key: str, value: object) -> dict[str, Any]:
    end = time.monotonic() + 10
    while (found := ready())[key] != value:
        assert time.monotonic() < end, found
        time.sleep(0.01)
    return found


def test_a_round_over_http_tells_no_names(opened: OpenedConversations, store: Store) -> None:
    held = Conversations(store, opened.stored.id)
    answerer = Answerer(held, {"fake:echo": open_model("fake:echo", store=store).complete})
    client = TestClient(create_converse_app(held, answerer))
    ada, cleo = (f"/c/{one[0].token}" for one in (opened.interrogators, opened.witnesses))
    told: list[str] = []

    def state(link: str) -> dict[str, Any]:
        told.append(client.get(f"{link}/state").text)
        found: dict[str, Any] = json.loads(told[-1])
        return found

    page = client.get(ada)
    assert page.status_code == 200
    assert "default-src 'self'" in page.headers["content-security-policy"]
    assert state(cleo)["phase"] == "waiting"
    for number in range(2):
        client.post(f"{ada}/start")
        until(lambda: state(ada), "phase", "chat")
        said = {"text": f"hi {number}", "nonce": f"nonce-nonce-{number}"}
        assert client.post(f"{ada}/say", json=said).status_code == 200
        if held.started[f"c{number}"].partner == PERSON:
            assert until(lambda: state(cleo), "my_turn", True)["messages"] == [{"mine": False, "text": f"hi {number}"}]
            client.post(f"{cleo}/say", json={"text": "hey", "nonce": f"cleo-cleo-{number}"})
        answered = until(lambda: state(ada), "my_turn", True)
        assert [one["mine"] for one in answered["messages"]] == [True, False]
        assert client.post(f"{ada}/decide").json()["phase"] == "verdict"
        body = {"conversation": f"c{number}", "choice": "person", "confidence": 70, "reason": "tone"}
        assert client.post(f"{ada}/verdict", json=body).json()["done"] == number + 1
    assert state(ada)["phase"] == "done"
    for text in told:
        assert not [secret for secret in SECRETS if secret in text]
    assert {one.choice for one in held.verdicts.values()} == {"person"}
    answerer.close()
    held.close()


def test_a_failing_model_and_a_full_disk_are_told_without_a_trace(
    opened: OpenedConversations, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Request] = []

    def broken(requests: Sequence[Request]) -> Iterator[Completion]:
        asked.extend(requests)
        raise RuntimeError("fake:echo has crashed")

    held = Conversations(store, opened.stored.id)
    answerer = Answerer(held, {"fake:echo": broken})
    client = TestClient(create_converse_app(held, answerer))
    ada, cleo = (f"/c/{one[0].token}" for one in (opened.interrogators, opened.witnesses))
    client.get(f"{cleo}/state")
    client.post(f"{ada}/start")
    until(lambda: client.get(f"{ada}/state").json(), "phase", "chat")
    if held.started["c0"].partner == PERSON:
        client.post(f"{cleo}/leave")
        client.get(f"{cleo}/state")
        assert client.post(f"{ada}/start").json()["phase"] in ("waiting", "chat")
        until(lambda: client.get(f"{ada}/state").json(), "phase", "chat")
    body = {"text": "hello", "nonce": "hello-hello"}
    with monkeypatch.context() as patch:
        patch.setattr(held._ledger, "append", lambda *_: (_ for _ in ()).throw(sqlite3.OperationalError("full")))
        full = client.post(f"{ada}/say", json=body)
    assert (full.status_code, "was not saved" in full.text) == (503, True)
    assert client.post(f"{ada}/say", json=body).status_code == 200
    lost = until(lambda: client.get(f"{ada}/state").json(), "phase", "lost")
    assert "crashed" not in json.dumps(lost)
    assert len(asked) == 3
    assert next(end for end in held.ends.values() if end.reason == "failed").detail.endswith("crashed")
    answerer.close()
    held.close()


@pytest.mark.parametrize(
    ("path", "body", "status"),
    [
        ("say", {"text": "x" * 20_000, "nonce": "abcdefgh"}, 400),
        ("say", {"text": "x", "nonce": "a"}, 400),
        ("say", {"text": "too early", "nonce": "abcdefgh"}, 403),
        ("verdict", {"conversation": "c0", "choice": "robot", "confidence": 50}, 400),
        ("verdict", {"conversation": "c0", "choice": "model", "confidence": 101}, 400),
        ("verdict", {"conversation": "c0", "choice": "model", "confidence": 50}, 403),
    ],
)
def test_invalid_messages_are_rejected(
    path: str, body: dict[str, object], status: int, opened: OpenedConversations, store: Store
) -> None:
    held = Conversations(store, opened.stored.id)
    client = TestClient(create_converse_app(held, Answerer(held, {})))
    link = f"/c/{opened.interrogators[0].token}"
    answer = client.post(f"{link}/{path}", json=body)
    assert answer.status_code == status
    assert answer.json()["error"]["what"]
    assert client.get(f"/c/{'y' * 24}").status_code == 403
    assert client.post(f"/c/{'y' * 24}/{path}", json=body).status_code in (400, 403)
    held.close_round()
    assert client.get(f"{link}/state").json()["phase"] == "closed"
    assert client.post(f"{link}/start").status_code == 410
    held.close()


def test_a_database_that_is_away_is_no_fault_of_the_link(
    opened: OpenedConversations, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    held = Conversations(store, opened.stored.id)

    def away(*_: object) -> None:
        raise Unavailable("The shared database can't be used now.", "a running database", "")

    monkeypatch.setattr(held, "start", away)
    response = TestClient(create_converse_app(held, Answerer(held, {}))).post(
        f"/c/{opened.interrogators[0].token}/start"
    )
    assert response.status_code == 503
    assert "not saved" in response.json()["error"]["what"]
