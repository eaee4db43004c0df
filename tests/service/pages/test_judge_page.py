"""The judging page over HTTP."""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path

import pytest

pytest.importorskip("fastapi")

from starlette.testclient import TestClient

from sizewise.evaluation import evaluate
from sizewise.judging import Ballot, Opened, RoundDesign, open_round
from sizewise.records import Dataset
from sizewise.service.pages.judge_page import create_judge_app
from sizewise.store import Saved, Store

EVIL = "<script>document.title = 'owned'</script><img src=x onerror=alert(1)>"


@pytest.fixture
def opened(dataset: Saved[Dataset], store: Store, tmp_path: Path) -> Opened:
    from sizewise.datasets import load

    ids = []
    for name, text in (("evil", EVIL), ("long", "word " * 25_000)):
        path = tmp_path / f"{name}.jsonl"
        rows = [{"id": e.id, "completion": text} for e in load(store, dataset.id).examples["test"]]
        path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
        ids.append(evaluate(f"recorded:{path}", dataset.id, ["exact_match"], store=store).id)
    return open_round(ids, RoundDesign(raters=["Ada", "Ben"], items=10), store=store)


def test_raters_see_no_names_and_votes_count_once(opened: Opened, store: Store) -> None:
    ballot = Ballot(store, opened.stored.id)
    client = TestClient(create_judge_app(ballot))
    link = f"/r/{opened.invitations[0].token}"
    page = client.get(link)
    assert page.status_code == 200
    assert "default-src 'self'" in page.headers["content-security-policy"]
    state = client.get(f"{link}/state")
    told = state.json()
    assert set(told["task"]) == {"id", "prompt", "conversation", "passage", "answers", "differences"}
    assert "recorded" not in state.text
    assert EVIL in told["task"]["answers"]
    assert max(len(text) for text in told["task"]["answers"]) < 21_000
    body = {"task": told["task"]["id"], "choice": "left", "nonce": "abcdefgh", "seconds": 3.5, "comment": "why"}
    for _ in range(2):
        after = client.post(f"{link}/vote", json=body).json()
    assert after["done"] == 1
    assert after["task"]["id"] != told["task"]["id"]
    assert client.post(f"{link}/undo", json={"nonce": "undo-undo"}).json()["done"] == 0
    ballot.close()


@pytest.mark.parametrize(
    ("change", "status"),
    [
        ({"nonce": "x"}, 400),
        ({"seconds": -1}, 400),
        ({"task": "t999"}, 403),
        ({"choice": "model"}, 403),
        ({"comment": "x" * 5_000}, 400),
        ({"ratings": {"kindness": 3}}, 403),
    ],
)
def test_invalid_votes_are_rejected(change: dict[str, object], status: int, opened: Opened, store: Store) -> None:
    ballot = Ballot(store, opened.stored.id)
    client = TestClient(create_judge_app(ballot))
    link = f"/r/{opened.invitations[0].token}"
    task = client.get(f"{link}/state").json()["task"]["id"]
    answer = client.post(f"{link}/vote", json={"task": task, "choice": "tie", "nonce": "abcdefgh"} | change)
    assert answer.status_code == status
    assert answer.json()["error"]["what"]
    assert "pydantic" not in answer.text
    assert client.post(f"{link}/vote", content=b"x" * 200_000).status_code == 413
    assert client.get(f"/r/{'y' * 24}").status_code == 403
    assert client.get(f"/r/{'y' * 24}/state").status_code == 403
    assert ballot.votes() == []
    ballot.close_votes()
    closed = client.post(f"{link}/vote", json={"task": task, "choice": "tie", "nonce": "abcdefgh"})
    assert closed.status_code == 410
    assert client.get(f"{link}/state").json()["closed"]
    ballot.close()


def test_vote_that_cannot_be_saved_is_reported(opened: Opened, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    ballot = Ballot(store, opened.stored.id)
    client = TestClient(create_judge_app(ballot))
    link = f"/r/{opened.invitations[0].token}"
    body = {"task": client.get(f"{link}/state").json()["task"]["id"], "choice": "left", "nonce": "abcdefgh"}

    def full(*_: object) -> None:
        raise sqlite3.OperationalError("database or disk is full")

    with monkeypatch.context() as patch:
        patch.setattr(ballot._ledger, "append", full)
        told = client.post(f"{link}/vote", json=body)
    assert told.status_code == 503
    assert "was not saved" in told.json()["error"]["what"]
    assert client.get(f"{link}/state").json()["done"] == 0
    assert client.post(f"{link}/vote", json=body).json()["done"] == 1
    ballot.close()
