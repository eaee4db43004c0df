"""Handovers are limited, and cross-origin pages cannot access them."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("fastapi")

from starlette.testclient import TestClient

from sizewise.models.fake import FakeModel
from sizewise.service import Settings, create_app, handovers
from sizewise.service.handovers import REQUESTED_BY, Handovers
from sizewise.service.schemas import APIError
from sizewise.store import Store


def said(*messages: str, at: float | None = None) -> dict[str, Any]:
    conversation = [{"role": "user", "content": one} for one in messages]
    return {"at": time.time() if at is None else at, "conversation": conversation}


def test_end_of_a_long_conversation_is_stored(tmp_path: Path) -> None:
    found = Handovers(tmp_path / "handovers.sqlite")
    found.add("1", said("a" * 40_000, "b" * 40_000, "c"))
    (kept,) = found.waiting(10)
    contents = [one["content"] for one in kept["conversation"]]
    assert contents[1:] == ["b" * 40_000, "c"]
    assert contents[0] == "… " + "a" * 9_999
    count, (preview,) = found.previews(5)
    assert count == 1
    assert sum(len(one["content"]) for one in preview["conversation"]) < 2_100
    assert (tmp_path / "handovers.sqlite").stat().st_mode & 0o077 == 0


def test_handovers_are_limited_in_number_and_age(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(handovers, "MAX_WAITING", 12)
    monkeypatch.setattr(handovers, "MAX_PER_DAY", 5)
    found = Handovers(tmp_path / "handovers.sqlite")
    token = REQUESTED_BY.set("ada")
    for number in range(5):
        found.add(f"ada-{number}", said("x"))
    with pytest.raises(APIError, match="Too many") as refused:
        found.add("ada-5", said("x"))
    assert refused.value.status == 429
    REQUESTED_BY.reset(token)
    for number in range(7):
        found.add(f"nobody-{number}", said("x", at=time.time() - 40 * 86_400 if number == 6 else None))
    found.add("more-0", said("x"))  # it takes the place of the old one
    with pytest.raises(APIError):
        found.add("more-1", said("x"))
    assert [one["number"] for one in found.waiting(3)] == ["nobody-4", "nobody-5", "more-0"]
    assert [one["number"] for one in found.waiting(2, before="nobody-4")] == ["nobody-2", "nobody-3"]
    assert found.finish("ada-0")
    assert not found.finish("none")
    found.add("more-1", said("x"))
    count, latest = found.previews(5)
    assert (count, len(latest)) == (12, 5)


def test_handovers_of_an_earlier_version_are_imported(store: Store) -> None:
    with store.service_ledger() as ledger:
        ledger.append("handovers", "abcd", said("help"))
        ledger.append("handovers", "done", said("help"))
        ledger.append("handovers_done", "done", {"at": 1.0})
    with TestClient(create_app({"echo": FakeModel("echo")}, Settings(), store)) as client:
        assert [one["number"] for one in client.get("/handovers").json()["waiting"]] == ["abcd"]


def test_monitor_shows_previews_and_cross_origin_requests_are_rejected(store: Store) -> None:
    app = create_app({"echo": FakeModel("echo")}, Settings(), store)
    kept = app.state.sizewise.handovers
    for number in range(40):
        kept.add(f"n{number}", said("y" * 30_000))
    with TestClient(app) as client:
        poll = client.get("/monitor/data")
        assert poll.json()["handovers_waiting"] == 40
        assert len(poll.content) < 20_000
        assert len(client.get("/handovers").json()["waiting"]) == 20
        assert client.get("/handovers?limit=2&before=n20").json()["waiting"][1]["number"] == "n19"
        assert client.get("/handovers?limit=1000").status_code == 400
        for headers in (
            {"Sec-Fetch-Site": "cross-site"},
            {"Sec-Fetch-Site": "same-site", "Origin": "http://testserver"},
            {"Origin": "https://evil.example"},
            {"Origin": "null"},
        ):
            for path in ("/handovers/n39/done", "/feedback", "/v1/chat/completions"):
                assert client.post(path, headers=headers).status_code == 403
        assert kept.previews(1)[0] == 40
        for number, headers in enumerate(({}, {"Sec-Fetch-Site": "same-origin"}, {"Origin": "http://testserver"})):
            assert client.post(f"/handovers/n{number}/done", headers=headers).status_code == 200
        assert kept.previews(1)[0] == 37
