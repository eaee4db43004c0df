"""The official clients against a server that speaks their providers' formats."""

from __future__ import annotations

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
