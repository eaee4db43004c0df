"""Hostile clients cost others nothing: their slots are freed, their usage is charged, and nobody waits for them."""

from __future__ import annotations

import json
import os
import signal
import socket
import statistics
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("uvicorn")

import httpx

from sizewise.models.base import Cancel, Deliver
from sizewise.models.fake import FakeModel
from sizewise.records import Request
from sizewise.service import Settings, model_runner, sse
from sizewise.service.api_keys import add_key
from sizewise.service.usage import Limits, Reservation, UsageStore, Use
from sizewise.store import Store
from sizewise.store.database import sqlite_url
from tests.service.test_budgets import keyed, used
from tests.service.test_config import FAKE, ready, served
from tests.service.test_health import process, until
from tests.service.test_limits import connected
from tests.service.test_service import running

CHAT = "/v1/chat/completions"
MANY = 500
SLACK_S = 0.05
"""Jitter of two busy cores."""


def said(words: int, **more: Any) -> dict[str, Any]:
    return {"model": "echo", "messages": [{"role": "user", "content": "word " * words}]} | more


def request_of(address: str, body: dict[str, Any]) -> bytes:
    raw = json.dumps(body).encode()
    head = f"POST {CHAT} HTTP/1.1\r\nHost: {address[7:]}\r\nContent-Type: application/json\r\n"
    return head.encode() + f"Content-Length: {len(raw)}\r\n\r\n".encode() + raw


def monitored(address: str) -> dict[str, Any]:
    found: dict[str, Any] = httpx.get(f"{address}/monitor/data", timeout=30).json()["models"]["echo"]
    return found


def test_a_half_closed_client_counts_as_gone_and_frees_its_slot() -> None:
    with running({"echo": FakeModel("echo", 0.05)}) as address:
        with connected(address) as one:
            one.sendall(request_of(address, said(400)))
            assert until(lambda: monitored(address)["running"] == 1)
            one.shutdown(socket.SHUT_WR)
            assert until(lambda: monitored(address)["running"] == 0)
        assert monitored(address)["disconnected"] == 1


@pytest.mark.parametrize("streamed", [False, True])
def test_a_key_that_leaves_the_queue_may_ask_again_at_once(
    streamed: bool, tmp_path: Path, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(model_runner, "REMOTE_MAX_RUNNING", 1)
    monkeypatch.setattr(sse, "PING_S", 0.1)
    keys, headers = keyed(tmp_path, "tokens_per_day = 100000")
    with (
        running({"echo": FakeModel("echo", 0.05)}, Settings(keys=keys), store) as address,
        httpx.Client(base_url=address, headers=headers) as talk,
        ThreadPoolExecutor(1) as pool,
    ):
        holding = pool.submit(httpx.post, f"{address}{CHAT}", json=said(120), headers=headers, timeout=30)
        time.sleep(0.3)
        for _ in range(model_runner.MAX_QUEUED_PER_KEY + 2):
            if streamed:  # the stream has begun with a comment
                with talk.stream("POST", CHAT, json=said(60, stream=True)) as answer:
                    assert next(answer.iter_bytes()) == b": ping\n\n"
            else:
                with pytest.raises(httpx.ReadTimeout):
                    talk.post(CHAT, json=said(60), timeout=0.1)
            time.sleep(0.35 if not streamed else 0.05)  # until it is seen that the client left
        assert talk.post(CHAT, json=said(1), timeout=30).status_code == 200
        assert holding.result().status_code == 200
        assert used(store) < 400  # who waited and left pays nothing


class Slow(FakeModel):
    """Tokenizes long prompts until it may go on."""

    def __init__(self) -> None:
        super().__init__("echo")
        self.may_go_on = threading.Event()

    def start(self, request: Request, deliver: Deliver) -> Cancel:
        if sum(map(len, request.texts())) > 10_000:
            assert self.may_go_on.wait(60)
        return super().start(request, deliver)


def test_tokenizing_a_long_prompt_delays_nobody() -> None:
    slow = Slow()
    with running({"echo": slow}) as address, ThreadPoolExecutor(2) as pool:
        body = said(5_000, max_tokens=4)
        long = [pool.submit(httpx.post, f"{address}{CHAT}", json=body, timeout=60) for _ in range(2)]
        assert until(lambda: monitored(address)["running"] == 2)
        assert httpx.post(f"{address}{CHAT}", json=said(2), timeout=30).status_code == 200
        with pytest.raises(httpx.ReadTimeout):
            httpx.post(f"{address}{CHAT}", json=body, timeout=1.0)
        assert until(lambda: monitored(address)["running"] == 2)  # the one that left has freed its slot
        assert not any(one.done() for one in long)
        slow.may_go_on.set()
        assert [one.result().status_code for one in long] == [200] * 2
        assert until(lambda: monitored(address)["running"] == 0)


def p95(talk: httpx.Client) -> float:
    seconds = []
    for _ in range(60):
        begun = time.monotonic()
        assert talk.post(CHAT, json=said(4)).status_code == 200
        seconds.append(time.monotonic() - begun)
    return statistics.quantiles(seconds, n=20)[-1]


@contextmanager
def idle(address: str) -> Iterator[None]:
    with ExitStack() as stack:
        for _ in range(MANY):
            stack.enter_context(connected(address))
        yield


def slowly(first: bytes) -> Callable[[str], Any]:
    """Fifty clients that send a byte at a time after the first bytes."""

    @contextmanager
    def attack(address: str) -> Iterator[None]:
        ended = threading.Event()
        with ExitStack() as stack:
            talks = [stack.enter_context(connected(address)) for _ in range(50)]
            for one in talks:
                one.sendall(first)

            def drip() -> None:
                while not ended.wait(0.2):
                    for one in talks:
                        with suppress(OSError):
                            one.sendall(b"a")

            dripping = threading.Thread(target=drip)
            dripping.start()
            yield
            ended.set()
            dripping.join()

    return attack


@contextmanager
def slow_readers(address: str) -> Iterator[None]:
    with ExitStack() as stack:
        for _ in range(10):
            one = stack.enter_context(connected(address))
            one.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
            one.sendall(request_of(address, said(20_000, stream=True)))
        time.sleep(1.5)  # until the buffers are full
        yield


@contextmanager
def guessers(address: str) -> Iterator[None]:
    ended = threading.Event()

    def guess() -> None:
        with httpx.Client(base_url=address, headers={"Authorization": "Bearer sw-guess"}) as talk:
            while not ended.wait(0.02):
                assert talk.post(CHAT, json=said(4)).status_code == 401

    guessing = threading.Thread(target=guess)
    guessing.start()
    yield
    ended.set()
    guessing.join()


SLOW_HEADERS = b"GET /health HTTP/1.1\r\nX-A: "
SLOW_BODY = (
    b"POST /v1/chat/completions HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer %s\r\nContent-Length: 9999\r\n\r\n"
)


@pytest.mark.slow
@pytest.mark.parametrize("attack", ["idle", "slow headers", "slow bodies", "slow readers", "guessers"])
def test_others_wait_no_longer(attack: str, tmp_path: Path, home: Path) -> None:
    path, keys = tmp_path / "service.toml", tmp_path / "keys.toml"
    key = add_key(keys, "one")
    path.write_text('[server]\nport = 0\nkeys = "keys.toml"\n' + FAKE, encoding="utf-8")
    attacks: dict[str, Callable[[str], Any]] = {
        "idle": idle,
        "slow headers": slowly(SLOW_HEADERS),
        "slow bodies": slowly(SLOW_BODY % key.encode()),
        "slow readers": slow_readers,
        "guessers": guessers,
    }
    with served(path) as (_, address, _):
        assert until(lambda: ready(address), 30)
        with httpx.Client(base_url=address, headers={"Authorization": f"Bearer {key}"}, timeout=30) as talk:
            p95(talk)
            before = p95(talk)
            with attacks[attack](address):
                during = p95(talk)
        assert during <= 1.5 * before + SLACK_S


@pytest.mark.slow
def test_usage_survives_a_kill_in_the_middle_of_a_stream(tmp_path: Path, home: Path) -> None:
    keys, budget = tmp_path / "keys.toml", 20_000
    headers = {"Authorization": f"Bearer {add_key(keys, 'one')}"}
    with keys.open("a", encoding="utf-8") as file:
        file.write(f"tokens_per_day = {budget}\n")
    with process("--keys", str(keys), "--delay-ms", "5") as (one, address):
        url = f"{address}{CHAT}"
        body = said(900, stream=True, max_tokens=1_000)
        with suppress(httpx.TransportError), httpx.stream("POST", url, json=body, headers=headers) as answer:
            for number, _ in enumerate(answer.iter_lines()):
                if number == 800:
                    os.kill(one.pid, signal.SIGKILL)
    with process("--keys", str(keys)) as (_, address):
        assert httpx.post(f"{address}{CHAT}", json=said(2), headers=headers).status_code == 200
    found = UsageStore(sqlite_url(home / "service" / "usage.sqlite"), 900)
    (row,) = found.since(1_000)
    assert 900 + 400 - 64 <= row.tokens < 900 * 5 // 3 + 900
    left = found.reserve("one", Limits(budget), Use(0, budget))
    assert isinstance(left, Reservation)
    assert left.tokens == budget - row.tokens  # what the killed process held is free again
