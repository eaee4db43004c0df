"""The service through the official client, over real sockets."""

from __future__ import annotations

import json
import shutil
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

openai = pytest.importorskip("openai")
pytest.importorskip("uvicorn")

import httpx  # noqa: E402
import torch  # noqa: E402
from transformers import AutoModelForCausalLM  # noqa: E402

from sizewise.models import Model, open_model  # noqa: E402
from sizewise.models.fake import FakeModel  # noqa: E402
from sizewise.service import Settings, create_app, model_runner  # noqa: E402
from sizewise.service.api_keys import Keys, add_key  # noqa: E402
from sizewise.service.connections import make_server  # noqa: E402
from sizewise.service.hosting import listen  # noqa: E402
from sizewise.service.responses import MIN_SAMPLING, chat_request, text_request  # noqa: E402
from sizewise.service.schemas import ChatRequest, TextRequest  # noqa: E402
from sizewise.store import Store  # noqa: E402

READY_LOOKS = 400
HELLO = [{"role": "user", "content": "hello there my friend"}]


@contextmanager
def running(models: dict[str, Model], settings: Settings | None = None, store: Store | None = None) -> Iterator[str]:
    """Serve in a thread; give the address."""
    app = create_app(models, settings, store)
    with listen("127.0.0.1", 0) as listening:
        state = app.state.sizewise
        server = make_server(app, host="127.0.0.1", port=0, drain_s=3, on_stop=state.stop, grace_s=0.0)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]}, daemon=True)
        thread.start()
        address = f"http://127.0.0.1:{listening.getsockname()[1]}"
        for _ in range(READY_LOOKS):
            if server.started and httpx.get(f"{address}/health").status_code == 200:
                break
            time.sleep(0.02)
        try:
            yield address
        finally:
            server.should_exit = True
            thread.join(timeout=10)


def client(address: str, key: str = "none") -> Any:
    return openai.OpenAI(base_url=f"{address}/v1", api_key=key, max_retries=0)


@pytest.fixture
def address() -> Iterator[str]:
    with running({"echo": FakeModel("echo", 0.005)}) as found:
        yield found


def test_official_client_gets_whole_and_streamed_answers(address: str) -> None:
    talk = client(address)
    assert [model.id for model in talk.models.list()] == ["echo"]
    assert talk.models.retrieve("echo").owned_by == "sizewise"
    whole = talk.chat.completions.create(model="echo", messages=HELLO)
    assert whole.choices[0].message.content == "hello there my friend"
    assert whole.choices[0].finish_reason == "stop"
    assert whole.usage.total_tokens == 8
    stream = talk.chat.completions.create(
        model="echo", messages=HELLO, stream=True, stream_options={"include_usage": True}
    )
    chunks = list(stream)
    assert len({chunk.id for chunk in chunks}) == 1
    with_choice = [chunk.choices[0] for chunk in chunks if chunk.choices]
    assert "".join(choice.delta.content or "" for choice in with_choice) == "hello there my friend"
    assert [choice.delta.role for choice in with_choice].count("assistant") == 1
    assert [choice.finish_reason for choice in with_choice if choice.finish_reason] == ["stop"]
    assert chunks[-1].usage.completion_tokens == 4
    several = talk.chat.completions.create(model="echo", messages=HELLO, n=3, logprobs=True)
    assert [choice.index for choice in several.choices] == [0, 1, 2]
    assert several.usage.prompt_tokens == 4
    assert len(several.choices[2].logprobs.content) == 4
    text = talk.completions.create(model="echo", prompt=["one two", "three"])
    assert [choice.text for choice in text.choices] == ["one two", "three"]


def test_embeddings_are_the_same_in_both_forms(address: str) -> None:
    talk = client(address)
    plain = talk.embeddings.create(model="echo", input=["one two", "three"], encoding_format="float")
    packed = talk.embeddings.create(model="echo", input=["one two", "three"])  # the client asks for base64 by itself
    assert [one.index for one in plain.data] == [0, 1]
    assert plain.usage.prompt_tokens == 3
    for one, other in zip(plain.data, packed.data, strict=True):
        assert one.embedding == pytest.approx(other.embedding, abs=1e-6)
        assert sum(value * value for value in one.embedding) == pytest.approx(1)


def test_errors_follow_the_openai_format(address: str) -> None:
    talk = client(address)
    with pytest.raises(openai.NotFoundError) as unknown:
        talk.chat.completions.create(model="gpt-4", messages=HELLO)
    assert unknown.value.body["code"] == "model_not_found"
    for change in ({"functions": [{"name": "f"}]}, {"top_logprobs": 3}, {"frequency_penalty": 1.0}):
        with pytest.raises(openai.BadRequestError) as refused:
            talk.chat.completions.create(model="echo", messages=HELLO, **change)
        assert refused.value.param in change
    for change in ({"input": ""}, {"input": []}, {"input": [[1, 2]]}, {"input": "x", "dimensions": 3}):
        with pytest.raises(openai.BadRequestError):
            talk.embeddings.create(**({"model": "echo"} | change))
    with pytest.raises(openai.BadRequestError, match="max_tokens must be at least 1"):
        talk.chat.completions.create(model="echo", messages=HELLO, max_tokens=0)
    shown = [{"type": "image_url", "image_url": {"url": "http://127.0.0.1/x.png"}}]
    with pytest.raises(openai.BadRequestError, match="image_url"):
        talk.chat.completions.create(model="echo", messages=[{"role": "user", "content": shown}])


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b"\xff\xfe",
        b'{"model": "echo"}',
        b'{"model": "echo", "messages": []}',
        b'{"model": 3, "messages": [{"role": "user", "content": "x"}]}',
        b'{"model": "echo", "messages": [{"role": "boss", "content": "x"}]}',
        b'{"model": "echo", "messages": [{"role": "user"}]}',
        b'{"model": "echo", "messages": [{"role": "user", "content": "x"}], "temperature": "hot"}',
        b'{"model": "echo", "messages": [{"role": "user", "content": "x"}], "temperature": NaN}',
        b'{"model": "echo", "messages": [{"role": "user", "content": "x"}], "n": 1000}',
        b'{"model": "echo", "messages": [{"role": "user", "content": "x"}], "max_tokens": 0}',
        b'{"model": "echo", "messages": [{"role": "user", "content": "x"}], "response_format": {"type": "xml"}}',
        b'{"model": "echo", "messages": [{"role": "user", "content": "x"}], '
        b'"response_format": {"type": "json_schema", "json_schema": "x"}}',
        b'{"model": "echo", "messages": [{"role": "user", "content": "x"}], "tool_choice": "required", "tools": ['
        b'{"type": "function", "function": {"name": "a", "parameters": {"$defs": [1], "definitions": 2}}},'
        b'{"type": "function", "function": {"name": "b", "parameters": {"$defs": null}}}]}',
        b'{"model": "echo", "messages": [{"role": "user", "content": "x"}], "guided_json": {"type": "object"}}',
        b'{"model": "echo", "messages": [{"role": "user", "content": "x"}], "structured_outputs": {"regex": "a"}}',
        b'{"model": "echo", "messages": ' + b"[" * 5_000 + b"]" * 5_000 + b"}",
    ],
)
def test_bad_bodies_are_400(address: str, body: bytes) -> None:
    answer = httpx.post(f"{address}/v1/chat/completions", content=body, headers={"content-type": "application/json"})
    assert answer.status_code == 400
    assert set(answer.json()["error"]) == {"message", "type", "param", "code"}


def test_large_bodies_other_hosts_and_unknown_paths_are_rejected(address: str) -> None:
    long = json.dumps({"model": "echo", "messages": [{"role": "user", "content": "x" * 9_000_000}]})
    assert httpx.post(f"{address}/v1/chat/completions", content=long).status_code == 413
    parts = (b"x" * 1_000_000 for _ in range(9))
    assert httpx.post(f"{address}/v1/chat/completions", content=parts).status_code == 413
    assert httpx.get(f"{address}/health", headers={"host": "evil.example"}).status_code == 400
    assert httpx.get(f"{address}/v1/nothing").status_code == 404
    assert httpx.get(f"{address}/v1/chat/completions").status_code == 405


def test_nul_bytes_emoji_and_right_to_left_text_round_trip(address: str) -> None:
    said = "a\x00b 👩‍🚀 שלום"
    answer = client(address).chat.completions.create(model="echo", messages=[{"role": "user", "content": said}])
    assert answer.choices[0].message.content == said


def test_keys_scopes_and_budgets(tmp_path: Path) -> None:
    path = tmp_path / "keys.toml"
    first, second = add_key(path, "one"), add_key(path, "two")
    assert first not in path.read_text(encoding="utf-8")
    text = path.read_text(encoding="utf-8").replace(
        'name = "two"\n', 'name = "two"\nmodels = ["other"]\nrequests_per_minute = 3\n'
    )
    path.write_text(text, encoding="utf-8")
    models: dict[str, Model] = {"echo": FakeModel("echo"), "other": FakeModel("echo")}
    with running(models, Settings(keys=Keys.load(path))) as address:
        assert httpx.get(f"{address}/health").status_code == 200
        with pytest.raises(openai.AuthenticationError):
            client(address, "sw-wrong").models.list()
        assert len(list(client(address, first).models.list())) == 2
        narrow = client(address, second)
        assert [model.id for model in narrow.models.list()] == ["other"]
        with pytest.raises(openai.PermissionDeniedError):
            narrow.chat.completions.create(model="echo", messages=HELLO)
        narrow.chat.completions.create(model="other", messages=HELLO)
        with pytest.raises(openai.RateLimitError) as limited:
            narrow.chat.completions.create(model="other", messages=HELLO)
        assert int(limited.value.response.headers["retry-after"]) > 0


def test_overload_is_rejected_immediately_and_recovers() -> None:
    settings = Settings(max_answer_tokens=20_000)
    with running({"echo": FakeModel("echo", 0.6)}, settings) as address:
        state_body = {"model": "echo", "messages": HELLO}
        with httpx.Client(base_url=address, timeout=30, limits=httpx.Limits(max_connections=600)) as talk:
            asked = {"max_tokens": 20_000} | state_body
            begun = time.monotonic()

            def ask(_: int) -> tuple[int, float, str | None]:
                sent = time.monotonic()
                answer = talk.post("/v1/chat/completions", json=asked)
                return answer.status_code, time.monotonic() - sent, answer.headers.get("retry-after")

            with ThreadPoolExecutor(200) as pool:
                found = list(pool.map(ask, range(200)))
            assert {status for status, _, _ in found} == {200, 429}
            assert all(retry for status, _, retry in found if status == 429)
            assert time.monotonic() - begun < 15
            assert talk.post("/v1/chat/completions", json=state_body).status_code == 200
        data = httpx.get(f"{address}/monitor/data").json()["models"]["echo"]
        assert data["rejected"] == sum(status == 429 for status, _, _ in found)
        assert data["running"] == data["queued"] == 0


def leave_in_the_middle(talk: httpx.Client, url: str, body: dict[str, Any]) -> None:
    with talk.stream("POST", url, json=body) as answer:
        next(answer.iter_bytes())
        raise httpx.ReadTimeout("left")


def test_disconnected_client_frees_its_slot() -> None:
    with running({"echo": FakeModel("echo", 0.3)}) as address:
        body = {"model": "echo", "messages": [{"role": "user", "content": "word " * 200}]}
        for streams in (False, True):
            with httpx.Client(timeout=0.7) as talk, pytest.raises(httpx.ReadTimeout):
                leave_in_the_middle(talk, f"{address}/v1/chat/completions", body | {"stream": streams})
        for _ in range(100):
            data = httpx.get(f"{address}/monitor/data").json()["models"]["echo"]
            if data["disconnected"] == 2 and data["running"] == 0:
                break
            time.sleep(0.05)
        assert data["disconnected"] == 2
        assert data["running"] == 0


def test_health_pages_feedback_and_metrics(address: str, home: Path) -> None:
    assert httpx.get(f"{address}/health").json()["status"] == "ready"
    for path, title in (("/", "Sizewise chat"), ("/monitor", "Sizewise monitor"), ("/support", "Sizewise support")):
        page = httpx.get(f"{address}{path}")
        assert title in page.text
        assert "default-src 'self'" in page.headers["content-security-policy"]
        own = page.text.replace("http://www.w3.org/2000/svg", "").replace(r"(https?:\/\/", "")  # pattern of links
        assert "http" not in own
    thumb = {"answer": "chatcmpl-1", "model": "echo", "up": True}
    assert httpx.post(f"{address}/feedback", json=thumb).status_code == 200
    assert httpx.get(f"{address}/monitor/data").json()["thumbs"] == {"echo": [1, 0]}
    assert httpx.post(f"{address}/feedback", json=thumb | {"up": False}).status_code == 200
    assert httpx.get(f"{address}/monitor/data").json()["thumbs"] == {"echo": [0, 1]}
    client(address).chat.completions.create(model="echo", messages=HELLO)
    counted = httpx.get(f"{address}/metrics").text
    assert 'sizewise_requests_total{model="echo",status="200"} 1.0' in counted
    assert "hello" not in counted


def test_metric_names_follow_prometheus_conventions(address: str, home: Path) -> None:
    client(address).chat.completions.create(model="echo", messages=HELLO)
    text = httpx.get(f"{address}/metrics").text
    types = dict(line.split()[2:4] for line in text.splitlines() if line.startswith("# TYPE"))
    described = {line.split()[2] for line in text.splitlines() if line.startswith("# HELP")}
    expected = {
        "sizewise_requests_total": "counter",
        "sizewise_prompt_tokens_total": "counter",
        "sizewise_generation_tokens_total": "counter",
        "sizewise_cost_usd_total": "counter",
        "sizewise_decisions_total": "counter",
        "sizewise_guard_events_total": "counter",
        "sizewise_time_to_first_token_seconds": "histogram",
        "sizewise_e2e_request_latency_seconds": "histogram",
        "sizewise_requests_running": "gauge",
        "sizewise_requests_waiting": "gauge",
        "sizewise_http_requests_total": "counter",
        "sizewise_http_request_duration_seconds": "histogram",
        "sizewise_rejected_keys_total": "counter",
        "sizewise_retries_total": "counter",
        "sizewise_server_requests_running": "gauge",
        "sizewise_server_up": "gauge",
    }
    assert {name: kind for name, kind in types.items() if not name.endswith("_created")} == expected
    assert described >= set(expected)
    for name in ("requests_running", "requests_waiting"):
        assert f'sizewise_{name}{{model="echo"}} 0.0' in text
    for name in ("time_to_first_token_seconds_count", "e2e_request_latency_seconds_count"):
        assert f'sizewise_{name}{{model="echo"}} 1.0' in text
    assert 'sizewise_generation_tokens_total{model="echo"}' in text


@pytest.mark.parametrize("engine", ["transformers", "openvino"])
def test_real_engine_over_http(tiny_folder: Path, store: Store, engine: Any) -> None:
    model = open_model(str(tiny_folder), store=store, precision="fp32", engine=engine)
    with running({"tiny": model}) as address:
        talk = client(address)
        whole = talk.chat.completions.create(model="tiny", messages=HELLO, max_tokens=12, temperature=0)
        stream = talk.chat.completions.create(model="tiny", messages=HELLO, max_tokens=12, temperature=0, stream=True)
        text = "".join(chunk.choices[0].delta.content or "" for chunk in stream)
        assert text == whole.choices[0].message.content
        drawn = [
            talk.chat.completions.create(model="tiny", messages=HELLO, max_tokens=12, temperature=1.5, seed=7)
            for _ in range(2)
        ]
        assert drawn[0].choices[0].message.content == drawn[1].choices[0].message.content
        with pytest.raises(openai.BadRequestError, match="more than the context"):
            talk.chat.completions.create(model="tiny", messages=HELLO, max_tokens=250)
        fitting = talk.chat.completions.create(model="tiny", messages=HELLO)
        assert fitting.usage.total_tokens <= 256
        ids = [5, 6, 7, 8]
        echoed = talk.completions.create(model="tiny", prompt=ids, max_tokens=1, echo=True, logprobs=1)
        likely = echoed.choices[0].logprobs.token_logprobs
        assert likely[0] is None
        assert len(likely) == 5
        whole_text = talk.completions.create(model="tiny", prompt=ids, max_tokens=5, logprobs=1)
        assert len(whole_text.choices[0].logprobs.tokens) == 5
        with ThreadPoolExecutor(8) as pool:
            found = list(
                pool.map(
                    lambda i: talk.chat.completions.create(model="tiny", messages=HELLO, max_tokens=4 + i), range(8)
                )
            )
        assert [answer.usage.completion_tokens <= 4 + i for i, answer in enumerate(found)] == [True] * 8
    model.close()


def test_echo_returns_the_most_likely_tokens(tiny_folder: Path, store: Store) -> None:
    model = open_model(str(tiny_folder), store=store, precision="fp32", engine="transformers")
    network = AutoModelForCausalLM.from_pretrained(tiny_folder, dtype=torch.float32)
    ids = [5, 6, 7, 8, 9, 10, 11, 12]
    greedy = network.generate(torch.tensor([ids]), max_new_tokens=6, do_sample=False)[0].tolist()
    with torch.no_grad():
        truth = torch.log_softmax(network(torch.tensor([greedy])).logits[0], dim=-1)
    with running({"tiny": model}) as address:
        talk = client(address)
        told = talk.completions.create(model="tiny", prompt=greedy, max_tokens=0, echo=True, logprobs=1)
        several = talk.completions.create(model="tiny", prompt=[ids, greedy], max_tokens=1, echo=True, logprobs=1)
    likely = told.choices[0].logprobs
    for place in range(1, len(greedy)):
        top = likely.top_logprobs[place]
        is_best = int(truth[place - 1].argmax()) == greedy[place]
        assert likely.token_logprobs[place] == pytest.approx(float(truth[place - 1, greedy[place]]), abs=1e-4)
        assert max(top.values()) == pytest.approx(float(truth[place - 1].max()), abs=1e-4)
        assert (likely.token_logprobs[place] == max(top.values())) == is_best
    assert all(int(truth[place - 1].argmax()) == greedy[place] for place in range(len(ids), len(greedy)))
    assert [len(one.logprobs.tokens) for one in several.choices] == [len(ids) + 1, len(greedy) + 1]
    assert several.usage.completion_tokens == 2
    model.close()


@pytest.mark.parametrize("engine", ["transformers", "openvino"])
def test_an_echo_counts_the_token_that_ends_the_answer(
    tiny_folder: Path, tmp_path: Path, store: Store, engine: Any
) -> None:
    network = AutoModelForCausalLM.from_pretrained(tiny_folder, dtype=torch.float32)
    ids = [5, 6, 7, 8]
    next_token = int(network.generate(torch.tensor([ids]), max_new_tokens=1, do_sample=False)[0, -1])
    folder = tmp_path / "ending"
    shutil.copytree(tiny_folder, folder)
    (folder / "generation_config.json").write_text(json.dumps({"eos_token_id": [next_token]}), encoding="utf-8")
    model = open_model(str(folder), store=store, precision="fp32", engine=engine)
    with running({"tiny": model}) as address:
        echoed = client(address).completions.create(model="tiny", prompt=ids, max_tokens=1, echo=True, logprobs=1)
    told = echoed.choices[0]
    assert told.finish_reason == "stop"
    assert len(told.logprobs.token_logprobs) == len(ids) + 1  # who weighs continuations leaves the last one out
    assert None not in told.logprobs.token_logprobs[1:]
    model.close()


def test_deeply_nested_bodies_are_rejected(address: str) -> None:
    tools = '{"type": "function", "function": {"name": "f", "parameters": DEEP}}'
    for depth, code in ((50, 200), (300, 400), (800, 400), (940, 400), (50_000, 400)):
        deep = '{"a": ' * depth + "1" + "}" * depth
        for more in (f'"tools": [{tools.replace("DEEP", deep)}]', f'"metadata": {deep}'):
            body = f'{{"model": "echo", "messages": [{{"role": "user", "content": "hello"}}], {more}}}'
            as_json = {"Content-Type": "application/json"}
            answer = httpx.post(f"{address}/v1/chat/completions", content=body, headers=as_json, timeout=30)
            assert answer.status_code == code, (depth, answer.text[:200])
    assert httpx.post(f"{address}/v1/chat/completions", content="{}").status_code == 400  # of no stated kind


@pytest.mark.parametrize("engine", ["transformers", "openvino"])
def test_invalid_token_ids_are_rejected(tiny_folder: Path, store: Store, engine: Any) -> None:
    model = open_model(str(tiny_folder), store=store, precision="fp32", engine=engine)
    with running({"tiny": model}) as address:
        talk = client(address)
        for ids in ([[]], [999_999_999], [2**63], [-1], [[5], [6, -7]]):
            for more in ({}, {"stream": True}, {"echo": True, "logprobs": 1}):
                with pytest.raises(openai.BadRequestError, match=r"The prompt (has|contains)|not found|valid"):
                    list(talk.completions.create(model="tiny", prompt=ids, max_tokens=1, **more))
        assert talk.completions.create(model="tiny", prompt=[5, 6], max_tokens=2).usage.completion_tokens > 0
    model.close()


def test_json_schema_constrains_the_answer(tiny_folder: Path, store: Store) -> None:
    model = open_model(str(tiny_folder), store=store, engine="openvino")
    schema = {
        "type": "object",
        "properties": {"a": {"type": "boolean"}},
        "required": ["a"],
        "additionalProperties": False,
    }
    form = {"type": "json_schema", "json_schema": {"name": "x", "schema": schema}}
    wrong = {"type": "json_schema", "json_schema": {"name": "x", "schema": {"$ref": "#/$defs/X"}}}
    with running({"tiny": model}) as address:
        answer = client(address).chat.completions.create(
            model="tiny", messages=HELLO, max_tokens=60, response_format=form
        )
        for more in ({}, {"stream": True}):
            with pytest.raises(openai.BadRequestError, match="schema can't be used: Check failed") as refused:
                client(address).chat.completions.create(
                    model="tiny", messages=HELLO, max_tokens=60, response_format=wrong, **more
                )
            assert refused.value.param == "response_format"
        # A random network may write blanks for ever between two tokens; it never leaves the grammar.
        assert answer.choices[0].message.content.startswith("{")
        assert set(answer.choices[0].message.content) <= set('{}":, \t\n\ratruefls')
    model.close()


@pytest.mark.parametrize(
    "raw",
    [b'{"model": "\\ud800", "prompt": "a"}', b'{"model": "echo", "prompt": "\xed\xa0\x80"}'],
    ids=["model", "prompt"],
)
def test_lone_surrogates_are_rejected(address: str, raw: bytes) -> None:
    answer = httpx.post(f"{address}/v1/completions", content=raw, headers={"Content-Type": "application/json"})
    assert answer.status_code == 400
    assert "lone surrogate" in answer.json()["error"]["message"]


def test_monitor_reports_drift_from_the_training_prompts(dataset: Any, store: Store, tiny_folder: Path) -> None:
    class Trained(FakeModel):
        def describe(self) -> Any:
            return super().describe().model_copy(update={"trained_on": dataset.id})

    with running({"trained": Trained("echo"), "echo": FakeModel("echo")}, store=store) as address:
        talk = client(address)
        for i in range(70):
            talk.chat.completions.create(
                model="trained", messages=[{"role": "user", "content": f"ZX-{i} QQ %% {i * i}"}]
            )
        told = httpx.get(f"{address}/monitor/data").json()["models"]
    assert told["echo"]["drift"] is None
    assert told["trained"]["drift"]["prompts"] == 70
    assert told["trained"]["drift"]["drifted"]


def test_tiny_temperature_and_top_p_mean_greedy_decoding() -> None:
    body = {"model": "m", "prompt": "a", "temperature": 1e-300, "top_p": 1e-300}
    asked = text_request(TextRequest.model_validate(body), "a")
    assert (asked.temperature, asked.top_p) == (0.0, MIN_SAMPLING)
    said = [{"role": "user", "content": "a"}]
    talk = chat_request(ChatRequest.model_validate({**body, "messages": said, "temperature": 0.5}), lenient=False)
    assert (talk.temperature, talk.top_p) == (0.5, MIN_SAMPLING)


def test_requests_beyond_capacity_are_rejected_before_tokenization() -> None:
    class Small(FakeModel):
        def describe(self) -> Any:
            offers = ("ids", "sampling", "echo", "embeddings")
            return super().describe().model_copy(update={"context": 100, "cache_tokens": 1_000, "offers": offers})

        def start(self, request: Any, deliver: Any) -> Any:
            assert len(request.text or request.messages[-1].content) < 100
            return super().start(request, deliver)

        def score_prompts(self, requests: Any) -> Any:
            raise AssertionError(requests)

    long = "word " * 10_000
    with running({"m": Small("echo")}) as address:
        for path, body in (
            ("chat/completions", {"messages": [{"role": "user", "content": long}]}),
            ("chat/completions", {"messages": [{"role": "user", "content": long}], "stream": True}),
            ("completions", {"prompt": long}),
            ("completions", {"prompt": long, "echo": True, "max_tokens": 0}),
            ("embeddings", {"input": long}),
            ("embeddings", {"input": ["word " * 50] * 20}),
        ):
            answer = httpx.post(f"{address}/v1/{path}", json={"model": "m"} | body)
            assert (answer.status_code, answer.json()["error"]["code"]) == (400, "context_length_exceeded"), body
        good = httpx.post(f"{address}/v1/chat/completions", json={"model": "m", "messages": HELLO})
        assert good.status_code == 200


def test_the_monitor_counts_what_it_kept_over_the_time_that_it_kept_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(model_runner, "MAX_HISTORY", 10)
    with running({"echo": FakeModel("echo")}) as address:
        for _ in range(15):
            client(address).chat.completions.create(model="echo", messages=HELLO)
        found = httpx.get(f"{address}/monitor/data").json()["models"]["echo"]
    assert found["requests"] == 10
    assert 1 <= found["window_seconds"] < 60  # and not the five minutes that it didn't live
    assert found["output_tokens_per_s"] == pytest.approx(found["completion_tokens"] / found["window_seconds"])
