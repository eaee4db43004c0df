"""Streamed answers of `auto`: the small model's draft is kept or escalated before the client receives any of it."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

openai = pytest.importorskip("openai")
pytest.importorskip("uvicorn")

import httpx  # noqa: E402

from sizewise.models.base import Cancel, Deliver, Piece, failed  # noqa: E402
from sizewise.models.fake import FakeModel  # noqa: E402
from sizewise.records import Completion, Policy, Request  # noqa: E402
from sizewise.routing import calibrate, make_policy  # noqa: E402
from sizewise.service import Settings  # noqa: E402
from sizewise.service.api_keys import Key, Keys  # noqa: E402
from sizewise.store import Store  # noqa: E402
from tests.routing.test_calibrating import with_likelihoods  # noqa: E402
from tests.service.test_routing import LONG, Large  # noqa: E402
from tests.service.test_service import client, running  # noqa: E402

SHORT = "Case 7 of today"
WORDS = ("small", " says", " it")


class Unsure(FakeModel):
    """A small model that is sure of short prompts alone, and may fail or be held back before the end."""

    def __init__(self) -> None:
        super().__init__("copy")
        self.down = False
        self.finish = threading.Event()
        self.finish.set()

    def start(self, request: Request, deliver: Deliver) -> Cancel:
        text = request.messages[-1].content if request.messages else ""
        logprob = -0.2 if len(text) < 40 else -2.0
        for word in WORDS:
            deliver(Piece(word, (word,), (logprob,)))
        end = Completion(
            id=request.id, text="".join(WORDS), prompt_tokens=3, completion_tokens=3, seconds=0.0, finish="stop"
        )
        last = Piece(end=failed(request, "out of memory") if self.down else end)
        threading.Thread(target=lambda: (self.finish.wait(5), deliver(last)), daemon=True).start()
        return lambda: None


@pytest.fixture(scope="module")
def policy(tmp_path_factory: pytest.TempPathFactory) -> Policy:
    calibration = calibrate(with_likelihoods(tmp_path_factory.mktemp("policy") / "likely.csv", 600, 0), 0.08)
    calibration = calibration.model_copy(update={"chosen": calibration.chosen or calibration.curve[0]})
    return make_policy(calibration, "small", "large", ["(?i)salary"], longest=500)


@contextmanager
def served(policy: Policy, **settings: Any) -> Iterator[tuple[str, Unsure, Large]]:
    small, large = Unsure(), Large()
    with running({"small": small, "large": large}, Settings(policy=policy, **settings), Store()) as address:
        yield address, small, large


def read(address: str, text: str, key: str = "none", **more: Any) -> tuple[dict[int, str], str, list[Any]]:
    """Stream an answer; return its text by choice, the model and reason of the headers, and the chunks."""
    asked = client(address, key).chat.completions.with_raw_response.create(
        model="auto", messages=[{"role": "user", "content": text}], stream=True, **more
    )
    chunks = list(asked.parse())
    said: dict[int, str] = {}
    for chunk in chunks:
        for choice in chunk.choices:
            said[choice.index] = said.get(choice.index, "") + (choice.delta.content or "")
    return said, f"{asked.headers['x-sizewise-model']}: {asked.headers['x-sizewise-why']}", chunks


def counts(address: str) -> dict[str, int]:
    found: dict[str, int] = httpx.get(f"{address}/monitor/data").json()["routing"]["counts"]
    return found


def test_streams_are_kept_or_escalated_whole(policy: Policy) -> None:
    with served(policy) as (address, _, large):
        said, why, chunks = read(address, SHORT, stream_options={"include_usage": True})
        assert said == {0: "small says it"}
        assert why.startswith("small: probability")
        assert "after the small model answered" in why
        assert {chunk.model for chunk in chunks} == {"small"}
        assert sum(bool(chunk.choices and chunk.choices[0].delta.content) for chunk in chunks) == len(WORDS)
        assert chunks[-1].usage.completion_tokens == 3
        assert large.seen == []
        said, why, chunks = read(address, LONG)
        assert "small" not in said[0]
        assert why.startswith("large: probability")
        assert {chunk.model for chunk in chunks} == {"large"}
        assert len(large.seen) == 1
        assert counts(address) == {"small": 1, "large": 1, "escalated_after_answer": 1}


def test_streamed_and_whole_answers_take_the_same_decision(policy: Policy) -> None:
    with served(policy) as (address, _, _):
        for text in (SHORT, LONG, f"{LONG}, and my salary", "long " * 200):
            body = {"model": "auto", "messages": [{"role": "user", "content": text}]}
            whole = httpx.post(f"{address}/v1/chat/completions", json=body)
            _, why, _ = read(address, text)
            assert why == f"{whole.headers['x-sizewise-model']}: {whole.headers['x-sizewise-why']}"


def test_nothing_is_sent_before_the_decision(policy: Policy) -> None:
    with served(policy) as (address, small, _):
        small.finish.clear()
        body = {"model": "auto", "messages": [{"role": "user", "content": SHORT}], "stream": True}
        with pytest.raises(httpx.ReadTimeout):  # neither headers nor text
            httpx.post(f"{address}/v1/chat/completions", json=body, timeout=0.5)
        small.finish.set()
        assert read(address, SHORT)[0] == {0: "small says it"}


def test_several_answers_are_kept_or_escalated_together(policy: Policy) -> None:
    with served(policy) as (address, _, large):
        assert read(address, SHORT, n=3)[0] == dict.fromkeys(range(3), "small says it")
        said, why, _ = read(address, LONG, n=3)
        assert sorted(said) == [0, 1, 2]
        assert why.startswith("large")
        assert len(large.seen) == 3


def test_draft_is_streamed_if_the_large_model_fails(policy: Policy) -> None:
    with served(policy) as (address, small, large):
        large.down = True
        said, why, _ = read(address, LONG, n=2)
        assert said == dict.fromkeys(range(2), "small says it")
        assert why.startswith("small: the large model failed")
        small.down, large.down = True, False
        said, why, _ = read(address, SHORT)
        assert why.startswith("large: the small model failed")


def test_logprobs_are_streamed_only_if_requested(policy: Policy) -> None:
    with served(policy) as (address, _, _):
        _, _, without = read(address, SHORT)
        assert all(choice.logprobs is None for chunk in without for choice in chunk.choices)
        _, _, chunks = read(address, SHORT, logprobs=True)
        tokens = [choice.logprobs.content for chunk in chunks for choice in chunk.choices if choice.logprobs]
        assert [one.token for some in tokens for one in some or []] == list(WORDS)


def test_discarded_drafts_are_recorded_and_charged(policy: Policy) -> None:
    keys = Keys((Key(name="a", sha256=hashlib.sha256(b"secret").hexdigest(), staff=True, tokens_per_day=10_000),))
    with served(policy, keys=keys) as (address, _, large):
        read(address, SHORT, "secret")
        metrics = httpx.get(f"{address}/metrics").text
        assert 'sizewise_generation_tokens_total{model="small"} 3.0' in metrics
        read(address, LONG, "secret")
        metrics = httpx.get(f"{address}/metrics").text
        assert 'sizewise_generation_tokens_total{model="small"} 6.0' in metrics
        assert 'sizewise_requests_total{model="small",status="200"} 2.0' in metrics
        assert len(large.seen) == 1
