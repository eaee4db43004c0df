"""The live report: sliders update the decision, answers can be browsed, invalid needs are rejected."""

from __future__ import annotations

from collections.abc import Iterator
from html import unescape
from pathlib import Path

import pytest

pytest.importorskip("fastapi")

from starlette.testclient import TestClient

from sizewise.choice import alternatives, choose
from sizewise.errors import UsageError
from sizewise.records import Needs, Study
from sizewise.report import load_view
from sizewise.report.answers import marked
from sizewise.report.headline import headline_of
from sizewise.report.words import sentence
from sizewise.service.api_keys import Keys, add_key
from sizewise.service.pages.study_page import create_study_app, serve_study
from sizewise.store import Saved, Store
from sizewise.studies import read_config, study


@pytest.fixture
def made(recorded_study: Path, store: Store, monkeypatch: pytest.MonkeyPatch) -> Saved[Study]:
    monkeypatch.chdir(recorded_study.parent)
    return study(read_config(recorded_study), store=store)


@pytest.fixture
def client(made: Saved[Study], store: Store) -> Iterator[TestClient]:
    with TestClient(create_study_app(load_view(store, made.id, made.record))) as client:
        yield client


def test_page_is_the_report_with_sliders(client: TestClient, made: Saved[Study], store: Store) -> None:
    page = unescape(client.get("/").text)
    frozen = unescape(Path(made.record.report).read_text(encoding="utf-8"))
    assert made.record.summary in page
    assert made.record.summary in frozen
    assert 'name="max_memory_gb"' in page or 'name="max_cost_usd_per_1000"' in page
    assert 'id="needs"' not in frozen
    assert "fetch(" not in frozen  # a saved page asks no server
    assert "[study]" in client.get("/study.toml").text
    view = load_view(store, made.id, made.record)
    others = alternatives(view.comparison, made.record.comparison, view.recommendation.needs)
    assert ("If the requirements change" in frozen) is bool(others)
    assert all(sentence(one.change) in frozen and one.recommendation.summary != made.record.summary for one in others)


def test_decision_equals_that_of_choose(client: TestClient, made: Saved[Study], store: Store) -> None:
    answer = client.post("/choose", json={"quality": "bleu", "min_quality": 30.0}).json()
    told = choose(made.record.comparison, Needs(quality="bleu", min_quality=30.0), store=store).record
    assert answer["recommendation"] == told.model_dump(mode="json")
    shown = headline_of(told)
    assert f"<h1>{shown.title}</h1>" in unescape(answer["html"])
    assert shown.rest in unescape(answer["html"])
    assert "min_quality = 30.0" in answer["needs"]
    assert answer["min_quality"]["lower"] < answer["min_quality"]["upper"]
    assert answer["recommendation"]["pick"] == "right"


def test_invalid_needs_are_explained(client: TestClient) -> None:
    refused = client.post("/choose", json={"greatest_latency": 1})
    assert refused.status_code == 400
    assert "did you mean 'max_latency_s'" in refused.json()["error"]["message"]
    assert client.post("/choose", json={"quality": "beauty"}).status_code == 400
    assert client.post("/choose", json={"max_latency_s": -1}).status_code == 400
    assert client.post("/choose", content="[", headers={"content-type": "application/json"}).status_code == 400
    assert client.post("/choose", content="x" * 30_000).status_code == 413
    assert client.post("/choose", content='{"\\ud800": 1}').status_code == 400


def test_answers_can_be_browsed(client: TestClient) -> None:
    first = client.get("/items").text
    assert first.count("<details") <= 10
    assert "<mark>&lt;b&gt;No&lt;/b&gt; idea</mark>" in first
    assert client.get("/items", params={"tag": "no such tag"}).text.strip() == "<p>No test examples.</p>"
    assert client.get("/items", params={"from": 10_000}).text.strip() == "<p>No test examples.</p>"
    assert client.get("/items", params={"order": "prettiest"}).status_code == 400
    assert client.get("/items", params={"order": "worst"}).text.count("<details") == first.count("<details")


@pytest.mark.parametrize(
    ("answer", "reference", "shown"),
    [
        ("a b c", "a b c", "a b c"),
        ("a x y c", "a b c", "a <mark>x y</mark> c"),
        ("A, b.", "a b", "A, b."),
        ("<i>", "a", "<mark>&lt;i&gt;</mark>"),
        ("", "a", ""),
        ("x  \n a", "a", "<mark>x</mark>  \n a"),
        (" a b ", "a b", " a b "),
        ("星期三傍晚关门", "星期三下午关门", "星期三<mark>傍晚</mark>关门"),
        ("यह कमी है", "यह काम है", "यह <mark>कमी</mark> है"),
    ],
)
def test_words_missing_from_the_reference_are_highlighted(answer: str, reference: str, shown: str) -> None:
    assert str(marked(answer, reference)) == shown


def test_other_machines_need_a_key(made: Saved[Study], store: Store, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="read the answers in this study"):
        serve_study(made.id, host="0.0.0.0", port=0, store=store)
    key = add_key(tmp_path / "keys.toml", "one")
    app = create_study_app(load_view(store, made.id, made.record), keys=Keys.load(tmp_path / "keys.toml"))
    with TestClient(app) as client:
        for path in ("/", "/items", "/study.toml"):
            refused = client.get(path)
            assert refused.status_code == 401
            assert refused.headers["www-authenticate"].startswith("Basic")
            assert made.record.summary not in refused.text
            assert client.get(path, auth=("any", "wrong")).status_code == 401
            assert client.get(path, auth=("any", key)).status_code == 200
            assert client.get(path, headers={"Authorization": f"Bearer {key}"}).status_code == 200
        assert client.post("/choose", json={}).status_code == 401
        assert client.get("/health").status_code == 200
