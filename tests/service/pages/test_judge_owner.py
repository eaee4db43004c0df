"""The owner's page of a judging round over HTTP."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

pytest.importorskip("fastapi")

from starlette.testclient import TestClient

from sizewise.datasets import load
from sizewise.evaluation import evaluate
from sizewise.judging import Ballot, Opened, RoundDesign, open_round
from sizewise.records import Dataset
from sizewise.service.pages.judge_owner import Owner, local_address
from sizewise.service.pages.judge_page import create_judge_app
from sizewise.store import Saved, Store

TOKEN = "owner-token-for-tests"
KEY = {"Authorization": f"Bearer {TOKEN}"}


@pytest.fixture
def opened(dataset: Saved[Dataset], store: Store, tmp_path: Path) -> Opened:
    ids = []
    for name in ("one", "two"):
        path = tmp_path / f"{name}.jsonl"
        rows = [{"id": e.id, "completion": f"{name} says {e.id}"} for e in load(store, dataset.id).examples["test"]]
        path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
        ids.append(evaluate(f"recorded:{path}", dataset.id, ["exact_match"], store=store).id)
    design = RoundDesign(raters=["Ada", "Ben"], items=10, guidelines="# Rules\n\n- **Be** strict")
    return open_round(ids, design, store=store)


def client(ballot: Ballot, store: Store, host: str = "127.0.0.1") -> TestClient:
    return TestClient(create_judge_app(ballot, owner=Owner(TOKEN, store)), client=(host, 50_000))


def test_owner_sees_progress_and_results_and_closes(opened: Opened, store: Store) -> None:
    ballot = Ballot(store, opened.stored.id)
    page = client(ballot, store)
    assert "default-src 'self'" in page.get("/").headers["content-security-policy"]
    empty = page.get("/owner/results", headers=KEY).json()
    assert "has no votes yet" in empty["agreement"]
    link = f"/r/{opened.invitations[0].token}"
    state = page.get(f"{link}/state").json()
    assert state["guidelines"] == "# Rules\n\n- **Be** strict"
    assert "wrong" in state["reasons"]
    for choice in ("left", "right"):  # a correction
        body = {"task": state["task"]["id"], "choice": choice, "nonce": f"nonce-{choice}", "harmful": [2]}
        assert page.post(f"{link}/vote", json=body | {"reasons": ["unsafe"]}).status_code == 200
    told = page.get("/owner/state", headers=KEY).json()
    assert (told["votes"], told["corrected"], told["links"], told["links_used"]) == (1, 1, 2, 1)
    assert [(rater["name"], rater["done"]) for rater in told["raters"]] == [("Ada", 1), ("Ben", 0)]
    assert told["raters"][0]["latest"]
    results = page.get("/owner/results", headers=KEY).json()
    assert any("only anytime-valid" in note for note in results["notes"])
    (vote,) = ballot.votes()
    assert (vote.harmful, vote.reasons) == ((2,), ("unsafe",))
    assert page.post("/owner/close", headers=KEY).json()["closed"]
    assert ballot.closed
    assert page.post("/owner/close", headers=KEY).status_code == 200
    ballot.close()


def test_nobody_else_reads_or_closes(opened: Opened, store: Store) -> None:
    ballot = Ballot(store, opened.stored.id)
    near, far = client(ballot, store), client(ballot, store, "192.0.2.7")
    for path, method in (("/owner/state", "GET"), ("/owner/results", "GET"), ("/owner/close", "POST")):
        assert near.request(method, path).status_code == 403
        assert near.request(method, path, headers={"Authorization": "Bearer wrong"}).status_code == 403
        assert far.request(method, path, headers=KEY).status_code == 403
    assert not ballot.closed
    assert TestClient(create_judge_app(ballot)).get("/owner/state", headers=KEY).status_code == 404
    ballot.close()


def test_a_place_that_isnt_there_and_unknown_reasons_are_rejected(opened: Opened, store: Store) -> None:
    ballot = Ballot(store, opened.stored.id)
    page, link = client(ballot, store), f"/r/{opened.invitations[0].token}"
    body = {"task": page.get(f"{link}/state").json()["task"]["id"], "choice": "left", "nonce": "abcdefgh"}
    assert page.post(f"{link}/vote", json=body | {"harmful": [3]}).status_code == 403
    assert page.post(f"{link}/vote", json=body | {"reasons": ["rude"]}).status_code == 403
    assert ballot.votes() == []
    ballot.close()


def test_address_of_the_owner_is_one_of_this_machine() -> None:
    assert local_address("http://0.0.0.0:81") == "http://127.0.0.1:81"
    assert local_address("http://[::]:81") == "http://[::1]:81"
    assert local_address("http://192.0.2.1:81") == "http://192.0.2.1:81"
