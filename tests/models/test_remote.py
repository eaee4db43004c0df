"""The official clients against a server that speaks their providers' formats."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from pathlib import Path
from queue import SimpleQueue

import pytest

from sizewise.errors import SizewiseError, UsageError
from sizewise.evaluation import EvaluationOptions, evaluate
from sizewise.models import open_model, patience, remote
from sizewise.models.base import Piece
from sizewise.models.fingerprints import as_stream
from sizewise.models.local import LocalModel
from sizewise.models.openai_logprobs import _read
from sizewise.models.remote import RemoteModel
from sizewise.models.thinking import THINKING_TOKENS
from sizewise.progress import Silent
from sizewise.records import Completion, Dataset, Evaluation, Example, Message, Request, ToolCall
from sizewise.records.tool_calls import as_scored
from sizewise.store import Saved, Store
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
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(patience, "FIRST_WAIT_S", 0.01)
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
    assert answer.ttft_s is not None
    assert 0 < answer.ttft_s <= answer.seconds
    assert answer.usd is not None
    assert answer.usd > 0
    sent = str(server.bodies[0])
    thinks = "claude" in uri or "reasoner" in uri  # so that the clients know
    limit = str(30 + THINKING_TOKENS if thinks else 30)
    assert all(text in sent for text in ("Be brief.", "Hello", "Hi", limit, "END"))
    assert answer.reasoning == ("let me think" if "reasoner" in uri else "")
    assert answer.reasoning_tokens == (3 if "reasoner" in uri else 0)


CITY = '{"type": "object", "properties": {"city": {"type": "string"}}}'
TOOLS = (
    f'[{{"type": "function", "function": {{"name": "weather", "description": "Of a city.", "parameters": {CITY}}}}}]'
)
WITH_TOOLS = (
    Message(role="user", content="Is it warm in Köln?"),
    Message(
        role="assistant",
        content="",
        tool_calls=(
            ToolCall(id="a1", name="weather", arguments='{"city": "Köln"}'),
            ToolCall(id="a2", name="weather", arguments='{"city": "Bonn"}'),
        ),
    ),
    Message(role="tool", content="12 degrees", tool_call_id="a1"),
    Message(role="tool", content="13 degrees", tool_call_id="a2"),
)


@pytest.mark.parametrize("uri", KINDS)
def test_each_provider_gets_tools_calls_and_results_in_its_own_form(
    server: StandIn, monkeypatch: pytest.MonkeyPatch, uri: str
) -> None:
    model = opened(server, monkeypatch, uri)
    assert "tools" in model.describe().offers
    (answer,) = model.complete([Request(id="q", messages=WITH_TOOLS, tools=TOOLS, max_tokens=30)])
    model.close()
    assert answer.error is None
    body = server.bodies[0]
    sent = json.dumps(body, ensure_ascii=False)
    assert all(text in sent for text in ("Of a city.", "12 degrees", "13 degrees", "weather", "Köln"))
    assert "<tool_call>" not in sent
    if uri.startswith("openai"):
        assert [message["role"] for message in body["messages"]] == ["user", "assistant", "tool", "tool"]
        assert [call["id"] for call in body["messages"][1]["tool_calls"]] == ["a1", "a2"]
        assert body["messages"][3]["tool_call_id"] == "a2"
        assert body["tools"][0]["function"]["parameters"]["properties"] == {"city": {"type": "string"}}
    if uri.startswith("anthropic"):
        assert [part["tool_use_id"] for part in body["messages"][-1]["content"]] == ["a1", "a2"]


def test_a_server_that_ignores_stream_is_read_all_the_same(server: StandIn) -> None:
    server.fault = lambda number: "whole"
    answers = []
    for name in ("plain", "reasoner"):
        model = open_model(f"{server.url}/v1#{name}")
        tools = Request(id="t", messages=(Message(role="user", content="use it"),), tools=TOOLS)
        answers += model.complete([*asked(1), *([tools] if name == "plain" else [])])
        model.close()
    assert all(body["stream"] for body in server.bodies if "messages" in body)
    said = {(answer.id, answer.text, answer.reasoning, answer.completion_tokens, answer.error) for answer in answers}
    assert ("q0", "echo: question 0", "", 5, None) in said
    assert ("q0", "echo: question 0", "let me think", 5, None) in said
    (called,) = [answer for answer in answers if answer.id == "t"]
    example = Example(id="q", messages=asked(1)[0].messages, tools=TOOLS, source="q")
    assert as_scored(called.text, example) == '{"name": "weather", "arguments": {"city": "Köln"}}'


def test_only_a_whole_answer_becomes_a_stream() -> None:
    assert as_stream(b'{"error": {"message": "busy"}}') == b'{"error": {"message": "busy"}}'
    assert as_stream(b"[1]") == b"[1]"
    assert as_stream(b"not JSON") == b"not JSON"
    assert as_stream(b'{"choices": [1]}') == b'{"choices": [1]}'


def test_a_call_by_a_provider_is_an_answer_whole_and_streamed(server: StandIn, monkeypatch: pytest.MonkeyPatch) -> None:
    model = opened(server, monkeypatch, "openai:gpt-4o")
    request = Request(id="q", messages=(Message(role="user", content="use it"),), tools=TOOLS)
    (answer,) = model.complete([request])
    pieces: SimpleQueue[Piece] = SimpleQueue()
    model.start(request.model_copy(update={"seed": 1}), pieces.put)
    streamed = ""
    while (piece := pieces.get(timeout=20)).end is None:
        streamed += piece.text
    model.close()
    wanted = '{"name": "weather", "arguments": {"city": "Köln"}}'
    example = Example(id="q", messages=request.messages, tools=TOOLS, source="q")
    assert answer.finish == "stop"
    assert as_scored(answer.text, example) == wanted
    assert as_scored(streamed, example) == wanted


def test_any_server_of_the_same_format_and_its_thoughts(server: StandIn) -> None:
    model = open_model(f"{server.url}/v1#tags-7b")
    (answer,) = model.complete(asked(1))
    assert answer.text == "echo: question 0"
    assert answer.reasoning == "hm"
    assert answer.usd is None
    assert model.describe().local
    assert not model.describe().can_score
    model.close()


@pytest.mark.parametrize("uri", ["openai:gpt-4o", "URL/v1#gpt-4o"])
def test_closed_weights_behind_a_proxy_on_this_machine_are_not_local(
    server: StandIn, monkeypatch: pytest.MonkeyPatch, uri: str
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "x")
    monkeypatch.setenv("OPENAI_BASE_URL", f"{server.url}/v1")
    model = open_model(uri.replace("URL", server.url))
    found = model.describe()
    model.close()
    assert (found.local, found.hosted, found.hosted_by, found.of) == (False, True, "OpenAI", "gpt-4o")
    assert found.parameters is None


@pytest.mark.parametrize(
    ("name", "local"),
    [
        ("anthropic/claude-sonnet-4-5:thinking", False),
        ("xai/grok-4-fast", False),
        ("groq/llama-3.3-70b-versatile", False),
        ("bedrock/meta.llama3-1-8b-instruct-v1:0", False),
        ("llama3.1:8b", True),
        ("deepseek-r1:7b", True),
        ("mistral.gguf", True),
        ("mistral:instruct", True),
        ("mistralai/Mistral-Small-24B-Instruct-2501", True),
        ("databricks/dbrx-instruct", True),
        ("our-bot:v2", True),
    ],
)
def test_a_name_that_states_a_provider_is_not_taken_for_local(server: StandIn, name: str, local: bool) -> None:
    """A proxy on this machine passes text on, whatever variant of a model it is asked for."""
    model = open_model(f"{server.url}/v1#{name}")
    found = model.describe()
    model.close()
    assert found.local == local
    assert found.license != "terms of the provider" or not local


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
    assert "gave up after 6 attempts" in str(failed.error)


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
    with pytest.raises(UsageError, match="doesn't know"):
        list(model.complete(asked(3)))
    model.close()


def test_a_service_that_is_down_ends_it_and_what_came_is_kept(server: StandIn, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote, "MAX_FAILURES_IN_A_ROW", 3)
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


@pytest.mark.parametrize("fault", ["page", (408, {}), (504, {})], ids=str)
def test_what_cannot_be_read_is_asked_again(
    server: StandIn, monkeypatch: pytest.MonkeyPatch, fault: tuple[int, dict[str, str]] | str
) -> None:
    model = opened(server, monkeypatch, "openai:gpt-4o", lambda number: fault if number == 0 else None)
    assert [answer.text for answer in model.complete(asked(1))] == ["echo: question 0"]
    model.close()


def test_faults_that_pass_and_faults_that_do_not_are_told_apart(
    server: StandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    kinds = {"question 1": (503, {}), "question 2": (400, {})}
    server.fault = lambda number: next(
        (kind for said, kind in kinds.items() if said in str(server.bodies[number])), None
    )
    model = opened(server, monkeypatch, "openai:gpt-4o")
    answers = {answer.id: answer for answer in model.complete(asked(3))}
    model.close()
    assert [answers[f"q{i}"].transient for i in range(3)] == [False, True, False]
    assert [answers[f"q{i}"].finish for i in range(3)] == ["stop", "error", "error"]
    assert len([body for body in server.bodies if "question 2" in str(body)]) == 1


@pytest.mark.parametrize("name", ["o3", "deep-long-thinker"])
@pytest.mark.parametrize("most", [None, 20_000, 5_000, 700])
def test_thoughts_do_not_take_the_room_of_an_answer(server: StandIn, name: str, most: int | None) -> None:
    server.most_tokens = most
    model = open_model(f"{server.url}/v1#{name}")
    answers = sorted(model.complete(asked(4, tokens=64)), key=lambda answer: answer.id)
    model.close()
    if most == 700:  # the server gives too few: it is told as it is
        assert {answer.finish for answer in answers} == {"length"}
    else:
        assert {answer.text for answer in answers} == {f"echo: question {i}" for i in range(4)}
    again = open_model(f"{server.url}/v1#{name}")
    known = len(server.bodies)
    kept = [answer.model_copy(update={"kept_from": None}) for answer in again.complete(asked(4, tokens=64))]
    assert kept == answers
    assert len(server.bodies) == known
    again.close()


def test_a_limit_of_a_user_of_the_service_is_kept(server: StandIn) -> None:
    model = open_model(f"{server.url}/v1#o3")
    pieces: SimpleQueue[Piece] = SimpleQueue()
    model.start(asked(1, tokens=64)[0], pieces.put)
    while (piece := pieces.get(timeout=10)).end is None:
        pass
    model.close()
    assert piece.end.finish == "length"
    assert [
        body.get("max_completion_tokens") or body["max_tokens"] for body in server.bodies if "messages" in body
    ] == [64]


def test_tokens_from_the_cache_of_the_provider_cost_less(server: StandIn, monkeypatch: pytest.MonkeyPatch) -> None:
    model = opened(server, monkeypatch, "openai:gpt-4o")
    server.usage = {"prompt_tokens": 1000, "completion_tokens": 10, "total_tokens": 1010}
    (plain,) = model.complete(asked(1))
    server.usage |= {"prompt_tokens_details": {"cached_tokens": 900}}
    (cached,) = model.complete(asked(2)[1:])
    model.close()
    assert plain.usd == pytest.approx(0.0026)
    assert cached.usd == pytest.approx(0.001475)


@pytest.mark.parametrize("tokens", [25_501, 400_000])
def test_a_budget_holds_with_pictures_whatever_they_are_billed(
    server: StandIn, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, tokens: int
) -> None:
    (tmp_path / "scan.png").write_bytes(PNG)
    shown = (str(tmp_path / "scan.png"),)
    requests = [
        Request(id=f"q{i}", messages=(Message(role="user", content=f"scan {i}", images=shown),), max_tokens=20)
        for i in range(40)
    ]
    server.usage = {"prompt_tokens": tokens, "completion_tokens": 10, "total_tokens": tokens + 10}
    server.fault = lambda number: "slow"
    monkeypatch.setenv("OPENAI_API_KEY", "secret")
    monkeypatch.setenv("OPENAI_BASE_URL", server.url + "/v1")
    model = open_model("openai:gpt-4o-mini", max_usd=0.03)
    assert isinstance(model, RemoteModel)
    with pytest.raises(SizewiseError, match="budget"):
        list(model.complete(requests))
    one = tokens * 0.15e-6
    assert model.spent_usd <= max(0.03, 1.01 * one)  # a single picture may be dearer than all that was allowed
    assert server.bodies
    model.close()


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


def test_answers_that_broke_off_count_in_a_budget(server: StandIn, monkeypatch: pytest.MonkeyPatch) -> None:
    model = opened(server, monkeypatch, "openai:gpt-4o", lambda number: None if number % 2 else "cut", max_usd=0.002)
    got: list[Completion] = []
    with pytest.raises(SizewiseError, match="budget"):
        got.extend(model.complete(asked(100)))
    model.close()
    (one,) = {answer.usd for answer in got}
    assert one is not None
    assert len(server.bodies) * one <= 0.002


def test_an_answer_whose_tokens_are_not_told_is_not_free(server: StandIn, monkeypatch: pytest.MonkeyPatch) -> None:
    server.usage = {"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0}
    model = opened(server, monkeypatch, "openai:gpt-4o", max_usd=0.002)
    got: list[Completion] = []
    with pytest.raises(SizewiseError, match="budget"):
        got.extend(model.complete(asked(100)))
    model.close()
    assert {answer.usd for answer in got} == {None}
    assert len(server.bodies) * 6.75e-5 <= 0.002


def test_more_at_once_while_all_goes_well_and_fewer_when_it_is_too_many(
    server: StandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = opened(server, monkeypatch, "openai:gpt-4o", lambda number: "slow")
    list(model.complete(asked(120)))
    assert server.most_at_once > patience.CONCURRENCY
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
    server: StandIn, monkeypatch: pytest.MonkeyPatch, dataset: Saved[Dataset], store: Store
) -> None:
    uri = "openai:gpt-4o"
    opened(server, monkeypatch, uri).close()
    with pytest.raises(SizewiseError, match="budget"):
        evaluate(uri, dataset.id, ["bleu"], store=store, options=EvaluationOptions(max_usd=0.002))
    before = len(server.bodies)
    assert before > 0
    record = evaluate(
        uri, dataset.id, ["bleu", "bits_per_byte"], store=store, options=EvaluationOptions(max_usd=5.0)
    ).record
    assert record.failed == 0
    assert record.scores["bleu"].value is not None
    assert record.scores["bits_per_byte"].missing_reason == f"{uri} returns no log-likelihoods"
    assert record.scores["latency_s"].value is not None
    assert record.scores["requests_per_s"].missing_reason
    assert record.scores["parameters"].missing_reason == "not published"
    assert any("USD" in note for note in record.notes)
    asked_for = [str(body["messages"]) for body in server.bodies]
    assert len(asked_for) == len(set(asked_for))  # what was answered before the budget ended was not asked again


@pytest.fixture
def questions(tmp_path: Path) -> Path:
    path = tmp_path / "questions.jsonl"
    rows = [{"id": f"q{i}", "prompt": f"question {i}", "references": [f"echo: question {i}"]} for i in range(60)]
    path.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    return path


def test_an_evaluation_with_failed_requests_is_incomplete_until_they_are_answered(
    server: StandIn, monkeypatch: pytest.MonkeyPatch, questions: Path, store: Store
) -> None:
    monkeypatch.setattr(patience, "MAX_WAIT_S", 0.02)
    opened(server, monkeypatch, "openai:gpt-4o").close()
    down = {f"question {i}'" for i in range(20, 38)}
    server.fault = lambda number: (503, {}) if any(one in str(server.bodies[number]) for one in down) else None
    first = evaluate("openai:gpt-4o", questions, ["exact_match"], store=store)
    assert (first.record.unanswered, first.record.failed, first.record.items) == (18, 18, 60)
    score = first.record.scores["exact_match@all"]
    assert (score.value, score.n) == (1, 42)  # what was not answered is no wrong answer
    assert any("Incomplete: 18 of 60 requests failed" in note and "503" in note for note in first.record.notes)
    assert evaluate("openai:gpt-4o", questions, ["exact_match"], store=store).id == first.id
    before = len(server.bodies)
    server.fault = lambda number: None
    second = evaluate("openai:gpt-4o", questions, ["exact_match"], store=store)
    assert len(server.bodies) == before + 18  # only these are asked again
    assert second.id != first.id
    assert (second.record.unanswered, second.record.failed) == (0, 0)
    assert second.record.scores["exact_match@all"].n == 60
    assert store.read(Evaluation, first.id) == first.record  # what rests on it keeps what it read
    assert evaluate("openai:gpt-4o", questions, ["exact_match"], store=store) == second


class Told(Silent):
    def __init__(self) -> None:
        self.lines: list[str] = []

    def say(self, line: str) -> None:
        self.lines.append(line)


def test_another_model_at_the_same_address_can_be_asked_anew(server: StandIn, questions: Path, store: Store) -> None:
    uri = f"{server.url}/v1#m"
    first, told = evaluate(uri, questions, ["exact_match"], store=store, limit=8), Told()
    assert evaluate(uri, questions, ["exact_match"], store=store, limit=8, reporter=told) == first
    assert any("was measured on 2" in line and "add --new-run to measure it again" in line for line in told.lines)
    assert not any("kept" in note for note in first.record.notes)
    before = len([body for body in server.bodies if "messages" in body])
    more = evaluate(uri, questions, ["exact_match", "bleu"], store=store, limit=8).record  # the same answers serve
    assert len([body for body in server.bodies if "messages" in body]) == before
    assert any("8 of 8 answers are cached from 2" in note for note in more.notes)
    server.said = "another model"
    options = EvaluationOptions(new_run=True)
    second = evaluate(uri, questions, ["exact_match"], store=store, limit=8, options=options)
    assert second.id == f"{first.id}.2"
    assert (first.record.scores["exact_match@all"].value, second.record.scores["exact_match@all"].value) == (1, 0)
    third = evaluate(uri, questions, ["exact_match"], store=store, limit=8, options=options)
    assert third.id == f"{first.id}.3"
    assert {one.record.data for one in (first, second, third)} == {first.record.data}


def test_faults_that_pass_leave_no_trace_in_a_record(
    server: StandIn, monkeypatch: pytest.MonkeyPatch, questions: Path, store: Store, tmp_path: Path
) -> None:
    opened(server, monkeypatch, "openai:gpt-4o").close()
    plain = evaluate("openai:gpt-4o", questions, ["exact_match", "bleu"], store=store)
    faults = ((429, {"retry-after": "0.01"}), (500, {}), (503, {}), "cut", "page")
    server.fault = lambda number: faults[number // 10 % len(faults)] if number % 10 == 3 else None  # type: ignore[return-value]
    other = Store(tmp_path / "other")
    faulty = evaluate("openai:gpt-4o", questions, ["exact_match", "bleu"], store=other)
    assert faulty.id == plain.id
    assert faulty.record.notes == plain.record.notes
    for name in ("exact_match", "bleu", "prompt_tokens", "usd_per_1000"):
        assert faulty.record.scores[name] == plain.record.scores[name]


def test_a_service_that_answers_nothing_is_an_error_and_leaves_no_record(
    server: StandIn, monkeypatch: pytest.MonkeyPatch, questions: Path, store: Store
) -> None:
    monkeypatch.setattr(patience, "MAX_WAIT_S", 0.02)
    opened(server, monkeypatch, "openai:gpt-4o", lambda number: (503, {})).close()
    with pytest.raises(SizewiseError, match=r"All 5 requests to .* failed: 5 x .*503") as told:
        evaluate("openai:gpt-4o", questions, ["exact_match"], store=store, limit=5)
    assert "sizewise evaluate openai:gpt-4o --data" in told.value.next_step
    server.fault = lambda number: (400, {})
    with pytest.raises(SizewiseError, match=r"All 5 requests to .* failed: 5 x .*400"):
        evaluate("openai:gpt-4o", questions, ["exact_match"], store=store, limit=5)
    assert not store.exists("evaluation", "x")
    assert not [row for row in store.listing() if row[1] == "evaluation"]


def test_an_address_where_nobody_listens_is_an_error(store: Store, questions: Path) -> None:
    with pytest.raises(SizewiseError, match="All 3 requests to"):
        evaluate("http://127.0.0.1:9/v1#m", questions, ["exact_match"], store=store, limit=3)


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
    with pytest.raises(SizewiseError, match="can't be sent"):
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
    with pytest.raises(SizewiseError, match="accepts only text; 3 of 3 examples have images"):
        evaluate("fake:echo", data, ["bleu"], store=store)
    (tmp_path / "scan.png").unlink()
    with pytest.raises(SizewiseError, match=r"the image .* doesn't exist"):
        evaluate("fake:echo", data, ["bleu"], store=Store(tmp_path / "other"))


def test_a_server_that_echoes_likelihoods_scores(server: StandIn, dataset: Saved[Dataset], store: Store) -> None:
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


def test_likelihoods_over_a_bad_line_are_those_of_a_good_one(
    server: StandIn, dataset: Saved[Dataset], store: Store, tmp_path: Path
) -> None:
    uri, metrics = f"{server.url}/v1#scores", ["bits_per_byte"]
    plain = evaluate(uri, dataset.id, metrics, store=store, limit=6)
    faults = ((429, {"retry-after": "0.01"}), "reset", (503, {}), "cut")
    server.fault = lambda number: faults[number // 2 % len(faults)] if number % 2 else None  # type: ignore[return-value]
    other = Store(tmp_path / "other")
    other.home.mkdir()
    (other.home / "dataset").symlink_to(store.home / "dataset", target_is_directory=True)
    faulty = evaluate(uri, dataset.id, metrics, store=other, limit=6)
    assert faulty.record.scores["bits_per_byte"] == plain.record.scores["bits_per_byte"]
    assert faulty.record.items_sha256 == plain.record.items_sha256


def test_a_text_that_a_server_rejects_costs_that_text_alone(
    server: StandIn, dataset: Saved[Dataset], store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = evaluate(f"{server.url}/v1#scores", dataset.id, ["bits_per_byte"], store=store, limit=20)
    first = next(body["prompt"] for body in server.bodies[1:] if "prompt" in body and len(body["prompt"]) > 20)
    status = [503]
    server.fault = lambda number: (status[0], {}) if server.bodies[number].get("prompt") == first else None
    monkeypatch.setattr("sizewise.models.openai_logprobs.ATTEMPTS", 2)
    options = EvaluationOptions(new_run=True)
    for status[0], unanswered in ((503, 1), (400, 0)):
        part = evaluate(
            f"{server.url}/v1#scores", dataset.id, ["bits_per_byte"], store=store, limit=20, options=options
        )
        assert part.record.unanswered == unanswered
        assert part.record.failed > 0
        assert part.record.failed + part.record.scores["bits_per_byte@all"].n == whole.record.items
        assert any(f"{status[0]}" in note for note in part.record.notes)


def test_halves_of_characters_lose_no_likelihoods() -> None:
    text = "a 🎉🚂 b"
    # As servers tell it that decode token by token: four bytes of an emoji, each a whole character.
    tokens = ["a", " ", *["\ufffd"] * 8, " b", "!"]
    offsets = [sum(map(len, tokens[:i])) for i in range(len(tokens))]
    likely = {"tokens": tokens, "token_logprobs": [None, *[-1.0] * 11], "text_offset": offsets}
    body = {"choices": [{"logprobs": likely}], "usage": {"prompt_tokens": 11, "completion_tokens": 1}}
    scored = _read(body, text)
    assert len(scored.nats) == 10
    assert scored.starts.tolist() == [1, *[2] * 8, 4]


def test_tokens_of_a_prompt_add_up_to_its_text(tiny_folder: Path) -> None:
    model = open_model(str(tiny_folder))
    assert isinstance(model, LocalModel)
    text = "Halle 1: 🎉🚂 geöffnet ☀️ 9 Uhr"
    (suite_scores,) = model.score_prompts([Request(id="a", text=text)])
    model.close()
    assert "".join(suite_scores.tokens) == text
    assert "" in suite_scores.tokens
