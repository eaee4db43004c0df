"""The official clients against a server that speaks their providers' formats."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from sizewise.errors import SizewiseError, UsageError
from sizewise.evaluation import evaluate
from sizewise.models import open_model, remote
from sizewise.models.remote import RemoteModel
from sizewise.records import Dataset, Message, Request
from sizewise.store import Store, Stored
from tests.models.standin import Fault, StandIn

pytest.importorskip("pydantic_ai")

KINDS = {
    "openai:gpt-4o": ("OPENAI_API_KEY", "OPENAI_BASE_URL", "/v1"),
    "anthropic:claude-sonnet-5-5": ("ANTHROPIC_API_KEY", "ANTHROPIC_BASE_URL", ""),
    "google:gemini-2.5-flash": ("GOOGLE_API_KEY", "GOOGLE_GEMINI_BASE_URL", ""),
    "deepseek:deepseek-reasoner": ("DEEPSEEK_API_KEY", "DEEPSEEK_BASE_URL", ""),
    "mistral:mistral-small-latest": ("MISTRAL_API_KEY", "MISTRAL_BASE_URL", "/v1"),
}


@pytest.fixture
def server() -> Iterator[StandIn]:
    standing = StandIn()
    yield standing
    standing.close()


@pytest.fixture(autouse=True)
def patience(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote, "FIRST_WAIT_S", 0.01)
    for key, address, _ in KINDS.values():
        monkeypatch.delenv(key, raising=False)
        monkeypatch.delenv(address, raising=False)


def opened(
    server: StandIn, monkeypatch: pytest.MonkeyPatch, uri: str, fault: Fault | None = None, max_usd: float | None = None
) -> RemoteModel:
    key, address, path = KINDS[uri]
    monkeypatch.setenv(key, "secret")
    monkeypatch.setenv(address, server.url + path)
    if fault:
        server.fault = fault
    model = open_model(uri, max_usd=max_usd)
    assert isinstance(model, RemoteModel)
    return model


def asked(count: int, tokens: int = 20) -> list[Request]:
    said = ((f"q{i}", (Message(role="user", content=f"question {i}"),)) for i in range(count))
    return [Request(id=name, messages=messages, max_tokens=tokens) for name, messages in said]


@pytest.mark.parametrize("uri", KINDS)
def test_each_provider_answers_in_its_own_format(server: StandIn, monkeypatch: pytest.MonkeyPatch, uri: str) -> None:
    model = opened(server, monkeypatch, uri)
    conversation = (
        Message(role="system", content="Be brief."),
        Message(role="user", content="Hello"),
        Message(role="assistant", content="Hi"),
        Message(role="user", content="What is a claim?"),
    )
    (answer,) = model.complete([Request(id="q", messages=conversation, max_tokens=30, stop=("END",))])
    model.close()
    assert answer.error is None
    assert answer.text == "echo: What is a claim?"
    assert (answer.prompt_tokens, answer.completion_tokens, answer.finish) == (7, 5, "stop")
    assert answer.first_token_s is not None
    assert 0 < answer.first_token_s <= answer.seconds
    assert answer.usd is not None
    assert answer.usd > 0
    sent = str(server.bodies[0])
    assert all(text in sent for text in ("Be brief.", "Hello", "Hi", "30", "END"))
    assert answer.reasoning == ("let me think" if "reasoner" in uri else "")
    assert answer.reasoning_tokens == (3 if "reasoner" in uri else 0)


def test_any_server_of_the_same_format_and_its_thoughts(server: StandIn) -> None:
    model = open_model(f"{server.url}/v1#tags-7b")
    (answer,) = model.complete(asked(1))
    assert answer.text == "echo: question 0"
    assert answer.reasoning == "hm"
    assert answer.usd is None
    assert model.describe().local
    assert not model.describe().can_score
    model.close()


@pytest.mark.parametrize("uri", ["openai:gpt-4o", "anthropic:claude-sonnet-5-5", "google:gemini-2.5-flash"])
@pytest.mark.parametrize("fault", [(429, {"retry-after": "0.05"}), (500, {}), (503, {}), (529, {}), "cut"], ids=str)
def test_faults_that_pass_are_waited_for(
    server: StandIn, monkeypatch: pytest.MonkeyPatch, uri: str, fault: tuple[int, dict[str, str]] | str
) -> None:
    model = opened(server, monkeypatch, uri, lambda number: fault if number % 3 == 0 else None)
    answers = {answer.id: answer for answer in model.complete(asked(6))}
    model.close()
    assert len(answers) == 6
    assert {answer.text for answer in answers.values()} == {f"echo: question {i}" for i in range(6)}
    assert len(server.bodies) > 6


def test_a_request_that_always_fails_is_reported_once(server: StandIn, monkeypatch: pytest.MonkeyPatch) -> None:
    server.fault = lambda number: (500, {}) if "question 2" in str(server.bodies[number]) else None
    model = opened(server, monkeypatch, "openai:gpt-4o")
    answers = list(model.complete(asked(5)))
    model.close()
    assert sorted(answer.id for answer in answers) == ["q0", "q1", "q2", "q3", "q4"]
    (failed,) = [answer for answer in answers if answer.error]
    assert failed.id == "q2"
    assert "given up after 6 attempts" in str(failed.error)


@pytest.mark.parametrize("uri", ["openai:gpt-4o", "google:gemini-2.5-flash"])
def test_a_content_filter_is_an_error_of_that_answer(
    server: StandIn, monkeypatch: pytest.MonkeyPatch, uri: str
) -> None:
    model = opened(server, monkeypatch, uri, lambda number: "filter")
    (answer,) = model.complete(asked(1))
    model.close()
    assert answer.finish == "error"
    assert "filter" in str(answer.error)


@pytest.mark.parametrize("uri", ["openai:gpt-4o", "anthropic:claude-sonnet-5-5"])
def test_a_refused_key_and_an_unknown_model_end_it(server: StandIn, monkeypatch: pytest.MonkeyPatch, uri: str) -> None:
    model = opened(server, monkeypatch, uri, lambda number: (401, {}))
    with pytest.raises(SizewiseError, match=KINDS[uri][0]):
        list(model.complete(asked(30)))
    server.fault = lambda number: (404, {})
    with pytest.raises(UsageError, match="not known"):
        list(model.complete(asked(3)))
    model.close()


def test_a_service_that_is_down_ends_it_and_what_came_is_kept(server: StandIn, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote, "FAILED_IN_A_ROW", 3)
    model = opened(server, monkeypatch, "openai:gpt-4o", lambda number: None if number < 4 else (500, {}))
    assert len(list(model.complete(asked(4)))) == 4
    with pytest.raises(SizewiseError, match="in a row"):
        list(model.complete(asked(40)))
    before = len(server.bodies)
    server.fault = lambda number: None
    assert len(list(model.complete(asked(40)))) == 40
    assert len(server.bodies) == before + 36
    model.close()


def test_an_answer_is_paid_for_once(server: StandIn, monkeypatch: pytest.MonkeyPatch, home: Path) -> None:
    model = opened(server, monkeypatch, "openai:gpt-4o")
    first = {answer.id: answer.text for answer in model.complete(asked(5))}
    spent = model.spent_usd
    model.close()
    assert spent > 0
    again = opened(server, monkeypatch, "openai:gpt-4o")
    assert {answer.id: answer.text for answer in again.complete(asked(5))} == first
    assert again.spent_usd == 0
    assert len(server.bodies) == 5
    list(again.complete(asked(1, tokens=21)))  # another request
    assert len(server.bodies) == 6
    again.close()
    stored = b"".join(path.read_bytes() for path in (home / "answers").iterdir())
    assert b"question" not in stored.replace(b"echo: question", b"")  # answers are kept, prompts are not


def test_a_budget_stops_before_it_is_passed(server: StandIn, monkeypatch: pytest.MonkeyPatch) -> None:
    model = opened(server, monkeypatch, "openai:gpt-4o", max_usd=0.002)
    got = []
    with pytest.raises(SizewiseError, match="budget"):
        got.extend(model.complete(asked(100, tokens=40)))
    assert 0.0014 < model.spent_usd <= 0.002  # the next could cost 0.0005 more
    model.close()
    assert server.bodies
    with pytest.raises(SizewiseError, match="No price"):
        open_model(f"{server.url}/v1#unknown", max_usd=1.0)


def test_more_at_once_while_all_goes_well_and_fewer_when_it_is_too_many(
    server: StandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = opened(server, monkeypatch, "openai:gpt-4o", lambda number: "slow")
    list(model.complete(asked(120)))
    assert server.most_at_once > remote.AT_ONCE
    limit = model._gate.limit
    server.fault = lambda number: (429, {"retry-after": "0.02"}) if number % 2 else None
    list(model.complete(asked(160)[120:]))
    assert model._gate.limit < limit
    model.close()


def test_no_key_no_name_and_no_connection_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(SizewiseError, match="OPENAI_API_KEY is not set"):
        open_model("openai:gpt-4o")
    monkeypatch.setenv("OPENAI_API_KEY", "secret")
    monkeypatch.setenv("SIZEWISE_OFFLINE", "1")
    with pytest.raises(SizewiseError, match="SIZEWISE_OFFLINE"):
        open_model("openai:gpt-4o")
    for uri in ("openai:", "http://127.0.0.1:1/v1", "http://#name"):
        with pytest.raises(UsageError):
            open_model(uri)


def test_a_remote_model_is_measured_and_priced_and_a_kill_costs_nothing_twice(
    server: StandIn, monkeypatch: pytest.MonkeyPatch, dataset: Stored[Dataset], store: Store
) -> None:
    uri = "openai:gpt-4o"
    opened(server, monkeypatch, uri).close()
    with pytest.raises(SizewiseError, match="budget"):
        evaluate(uri, dataset.id, ["bleu"], store=store, max_usd=0.002)
    before = len(server.bodies)
    assert before > 0
    record = evaluate(uri, dataset.id, ["bleu", "bits_per_byte"], store=store, max_usd=5.0).record
    assert record.failed == 0
    assert record.scores["bleu"].value is not None
    assert record.scores["bits_per_byte"].missing == f"{uri} gives no log-likelihoods of text"
    assert record.scores["latency_s"].value is not None
    assert record.scores["answers_per_s"].missing
    assert record.scores["parameters"].missing == "not published"
    assert any("USD" in note for note in record.notes)
    asked_for = [str(body["messages"]) for body in server.bodies]
    assert len(asked_for) == len(set(asked_for))  # what was answered before the budget ended was not asked again


PNG = bytes.fromhex(
    "89504e470d0a1a0a0000000d4948445200000001000000010806000000"
    "1f15c4890000000d49444154789c6360606060000000050001a5f645400000000049454e44ae426082"
)


@pytest.mark.parametrize("uri", list(KINDS)[:3])
def test_images_reach_the_provider_and_answers_are_kept_by_what_they_show(
    server: StandIn, monkeypatch: pytest.MonkeyPatch, uri: str, tmp_path: Path
) -> None:
    path = tmp_path / "scan.png"
    path.write_bytes(PNG)
    model = opened(server, monkeypatch, uri)
    request = Request(id="a", messages=(Message(role="user", content="What is this?", images=(str(path),)),))
    assert [answer.text for answer in model.complete([request])] == ["echo: What is this?"]
    assert base64.b64encode(PNG).decode()[:60] in json.dumps(server.bodies[-1]).replace("_", "/").replace("-", "+")
    list(model.complete([request]))
    assert len(server.bodies) == 1
    path.write_bytes(PNG + b"more")
    list(model.complete([request]))
    assert len(server.bodies) == 2
    path.rename(path.with_suffix(".exe"))
    other = Request(id="b", messages=(Message(role="user", content="?", images=(str(path.with_suffix(".exe")),)),))
    with pytest.raises(SizewiseError, match="cannot be sent"):
        list(model.complete([other]))
    model.close()


def test_examples_with_images_are_measured_where_they_are_seen_and_refused_elsewhere(
    server: StandIn, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, store: Store
) -> None:
    (tmp_path / "scan.png").write_bytes(PNG)
    rows = [{"prompt": f"What is {i}?", "references": ["a scan"], "images": ["scan.png"]} for i in range(3)]
    data = tmp_path / "seen.jsonl"
    data.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    opened(server, monkeypatch, "openai:gpt-4o").close()
    record = evaluate("openai:gpt-4o", data, ["bleu"], store=store).record
    assert record.failed == 0
    assert any(isinstance(body["messages"][-1]["content"], list) for body in server.bodies)
    with pytest.raises(SizewiseError, match="takes text only, and 3 of 3 examples show images"):
        evaluate("fake:echo", data, ["bleu"], store=store)
    (tmp_path / "scan.png").unlink()
    with pytest.raises(SizewiseError, match="there is no image"):
        evaluate("fake:echo", data, ["bleu"], store=Store(tmp_path / "other"))


def test_a_server_that_echoes_likelihoods_scores(server: StandIn, dataset: Stored[Dataset], store: Store) -> None:
    scoring, silent = open_model(f"{server.url}/v1#scores"), open_model(f"{server.url}/v1#plain")
    assert (scoring.describe().can_score, silent.describe().can_score) == (True, False)
    (scored,) = scoring.score(["abcé"])
    assert scored.nats.tolist() == [1.0, 1.0, 1.0]
    assert scored.starts.tolist() == [1, 2, 3]
    with pytest.raises(SizewiseError, match="no log-likelihoods"):
        list(silent.score(["a"]))
    scoring.close()
    silent.close()
    record = evaluate(f"{server.url}/v1#scores", dataset.id, ["bits_per_byte"], store=store, limit=4).record
    assert 1.3 < (record.scores["bits_per_byte"].value or 0) < 1.45  # log2(e) a letter, the first of a text free
    assert "first token:left out" in record.scores["bits_per_byte"].signature
