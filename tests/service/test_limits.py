"""Key checks, limits and timeouts over real sockets."""

from __future__ import annotations

import json
import resource
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import pytest

pytest.importorskip("uvicorn")

import httpx

from sizewise.models.fake import FakeModel
from sizewise.service import Settings, connections, limits, model_runner
from sizewise.service.api_keys import Keys, add_key
from tests.service.test_service import running

LONG_WORDS = ("w" * 2_500 + " ") * 500  # more than a socket holds, in few pieces
AS_JSON = {"Content-Type": "application/json"}
PLAIN = b'{"model": "echo", "messages": [{"role": "user", "content": "hello"}]}'


@pytest.fixture
def keyed(tmp_path: Path) -> Iterator[tuple[str, str]]:
    """A service that wants a key; gives its address and a key."""
    path = tmp_path / "keys.toml"
    key = add_key(path, "one")
    settings = Settings(keys=Keys.load(path), body_timeout_s=1.0)
    with running({"echo": FakeModel("echo")}, settings) as address:
        yield address, key


@contextmanager
def connected(address: str) -> Iterator[socket.socket]:
    host, port = address.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=10) as one:
        yield one


def is_closed(one: socket.socket, seconds: float) -> bool:
    """Tell whether the other side ends a connection within so many seconds."""
    one.settimeout(seconds)
    try:
        while one.recv(65_536):
            pass
    except TimeoutError:
        return False
    except OSError:
        return True
    return True


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/v1/chat/completions"),
        ("POST", "/v1/completions"),
        ("POST", "/v1/embeddings"),
        ("POST", "/feedback"),
        ("POST", "/handovers/12345678/done"),
        ("GET", "/handovers"),
        ("GET", "/monitor/data"),
        ("GET", "/v1/models"),
        ("GET", "/v1/models/echo"),
        ("GET", "/v1/nothing"),
    ],
)
@pytest.mark.parametrize("body", [b"{", b"x" * 9_000_000, PLAIN], ids=["bad", "huge", "good"])
def test_missing_key_is_401_for_any_body(keyed: tuple[str, str], method: str, path: str, body: bytes) -> None:
    address, key = keyed
    content = body if method == "POST" else None
    for headers in ({}, {"Authorization": "Bearer sw-wrong"}, {"Authorization": key}, {"Authorization": "Bearer \xe9"}):
        told = {name: value.encode("latin-1") for name, value in headers.items()}
        answer = httpx.request(method, f"{address}{path}", content=content, headers=AS_JSON | told)
        assert answer.status_code == 401
        assert answer.json()["error"]["code"] == "invalid_api_key"
        assert answer.headers["www-authenticate"] == "Bearer"


def test_invalid_key_is_rejected_before_the_body_arrives(keyed: tuple[str, str]) -> None:
    address, key = keyed
    head = f"POST /v1/completions HTTP/1.1\r\nHost: {address[7:]}\r\nContent-Length: 5000000\r\n"
    with connected(address) as one:
        one.sendall((head + "Authorization: Bearer sw-wrong\r\n\r\n").encode())
        assert b" 401 " in one.recv(4096)
    with connected(address) as one:  # and one with a key that does not end its body is told so
        one.sendall((head + f"Authorization: Bearer {key}\r\n\r\n").encode() + b'{"model": ')
        begun = time.monotonic()
        assert b" 408 " in one.recv(4096)
        assert time.monotonic() - begun < 20
        assert is_closed(one, 2)
    assert httpx.get(f"{address}/health").status_code == 200


def test_total_size_of_incoming_bodies_is_limited(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "MAX_BUFFERED_BYTES", 1_000_000)
    with running({"echo": FakeModel("echo")}, Settings(max_body_bytes=400_000)) as address, ExitStack() as all_of_them:
        head = f"POST /v1/completions HTTP/1.1\r\nHost: {address[7:]}\r\nContent-Length: 390000\r\n\r\n".encode()
        talks = [all_of_them.enter_context(connected(address)) for _ in range(6)]
        for one in talks:
            one.sendall(head + b" " * 380_000)
        time.sleep(0.5)
        refused = 0
        for one in talks:
            one.settimeout(0.2)
            with suppress(TimeoutError):
                refused += b" 503 " in one.recv(4096)
        assert refused == 4
        answer = httpx.post(f"{address}/v1/chat/completions", content=PLAIN, headers=AS_JSON)
        assert answer.status_code == 200


@pytest.mark.parametrize(
    "body",
    [
        b"[]," * 2_600_000,
        b'{"a": ' * 1_000_000,
        b"[" * 7_000_000,
        b'{"model": "echo", "messages": [' + b"{}," * 2_600_000 + b"{}]}",
        b'{"model": "echo", "messages": [' + b"1," * 3_900_000 + b"1]}",
        b'{"model": "echo", "logit_bias": {' + b",".join(b'"%d": "a"' % i for i in range(400_000)) + b"}}",
        b'{"model": "echo", "prompt": [' + b'1,"a",' * 240_000 + b"1]}",
        b'"' + b'\\"' * 3_900_000,
        '{"a": '.encode("utf-16") * 1_000,
    ],
    ids=["lists", "deep", "open", "objects", "numbers", "biases", "mixed", "text", "utf-16"],
)
def test_no_body_blocks_other_requests(body: bytes) -> None:
    with running({"echo": FakeModel("echo")}) as address:
        slowest, ended = 0.0, threading.Event()

        def look() -> None:
            nonlocal slowest
            with httpx.Client() as talk:
                while not ended.is_set():
                    begun = time.monotonic()
                    assert talk.get(f"{address}/health", timeout=30).status_code == 200
                    slowest = max(slowest, time.monotonic() - begun)
                    time.sleep(0.02)

        looking = threading.Thread(target=look)
        looking.start()
        answers = [
            httpx.post(f"{address}/v1/{path}", content=body, headers=AS_JSON, timeout=30)
            for path in ("chat/completions", "completions")
        ]
        ended.set()
        looking.join()
        assert {answer.status_code for answer in answers} == {400}
        assert slowest < 1.5


def test_brackets_inside_strings_do_not_count_as_structure() -> None:
    said = '[{"a", ' * 300_000
    with running({"echo": FakeModel("silent")}) as address:
        body = {"model": "echo", "prompt": [said[:2_000_000]], "max_tokens": 1}
        assert httpx.post(f"{address}/v1/completions", json=body, timeout=30).status_code in (200, 400)
        assert "lists and objects" not in httpx.post(f"{address}/v1/completions", json=body, timeout=30).text


def test_connections_without_a_request_are_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections.TimedProtocol, "header_timeout_s", 0.5)
    with running({"echo": FakeModel("echo", 0.02)}) as address:
        with connected(address) as silent, connected(address) as slow, connected(address) as long:
            slow.sendall(b"GET /health HTTP/1.1\r\nX-A: ")
            long.sendall(b"GET /health HTTP/1.1\r\n")
            ended = threading.Event()

            def drip() -> None:
                while not ended.wait(0.1):
                    try:
                        slow.sendall(b"a")
                    except OSError:
                        return

            dripping = threading.Thread(target=drip)
            dripping.start()
            with suppress(OSError):
                for _ in range(100):
                    long.sendall(b"X-A: " + b"a" * 60_000 + b"\r\n")
            assert is_closed(long, 0.4)
            assert is_closed(silent, 3)
            assert is_closed(slow, 3)
            ended.set()
            dripping.join()
        body = {"model": "echo", "messages": [{"role": "user", "content": "word " * 60}]}
        answer = httpx.post(f"{address}/v1/chat/completions", json=body)  # longer than such a connection may wait
        assert answer.json()["choices"][0]["message"]["content"].count("word") == 60


def test_idle_connections_leave_room_for_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections.TimedProtocol, "max_connections", 20)
    with running({"echo": FakeModel("echo")}) as address, ExitStack() as all_of_them:
        talks = [all_of_them.enter_context(connected(address)) for _ in range(60)]
        assert httpx.post(f"{address}/v1/chat/completions", content=PLAIN, headers=AS_JSON).status_code == 200
        assert sum(is_closed(one, 0.05) for one in talks) >= 40
    files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    assert connections._max_connections() == max(connections.MIN_CONNECTIONS, files - connections.RESERVED_FILES)


def test_stalled_client_is_disconnected(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "SEND_TIMEOUT_S", 0.5)
    monkeypatch.setattr(connections.TimedProtocol, "header_timeout_s", 0.5)
    monkeypatch.setattr(connections, "KEEP_ALIVE_S", 1)
    with running({"echo": FakeModel("echo")}) as address:
        body = {"model": "echo", "stream": True, "n": 4} | {"messages": [{"role": "user", "content": LONG_WORDS}]}
        raw = json.dumps(body).encode()
        head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: {address[7:]}\r\nContent-Type: application/json\r\n"
        with connected(address) as one:
            one.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
            one.sendall(head.encode() + f"Content-Length: {len(raw)}\r\n\r\n".encode() + raw)
            for _ in range(100):
                data = httpx.get(f"{address}/monitor/data").json()["models"]["echo"]
                if data["requests"] and data["running"] == 0:
                    break
                time.sleep(0.1)
            assert data["running"] == 0
            assert data["disconnected"] >= 1


def test_slow_reader_hits_the_response_timeout(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections.TimedProtocol, "header_timeout_s", 0.5)
    monkeypatch.setattr(connections, "KEEP_ALIVE_S", 1)
    settings = Settings(timeout_s=1.0)
    with running({"echo": FakeModel("echo")}, settings) as address:
        body = {"model": "echo", "stream": True, "n": 4} | {"messages": [{"role": "user", "content": LONG_WORDS}]}
        raw = json.dumps(body).encode()
        head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: {address[7:]}\r\nContent-Type: application/json\r\n"
        with ExitStack() as all_of_them:
            for _ in range(3):
                one = all_of_them.enter_context(connected(address))
                one.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
                one.sendall(head.encode() + f"Content-Length: {len(raw)}\r\n\r\n".encode() + raw)
            for _ in range(100):
                data = httpx.get(f"{address}/monitor/data", timeout=30).json()["models"]["echo"]
                if data["requests"] and data["running"] == 0:
                    break
                time.sleep(0.1)
            assert (data["running"], data["reserved_tokens"]) == (0, 0)


def test_client_that_disconnects_in_the_queue_frees_its_slot(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(model_runner, "REMOTE_MAX_RUNNING", 1)
    with running({"echo": FakeModel("echo", 0.05)}) as address:
        body = {"model": "echo", "messages": [{"role": "user", "content": "word " * 100}]}
        holding = threading.Thread(
            target=lambda: httpx.post(f"{address}/v1/chat/completions", json=body, timeout=30), daemon=True
        )
        holding.start()
        time.sleep(0.3)
        for streams in (False, True):
            for _ in range(model_runner.MAX_QUEUED_PER_KEY):
                with pytest.raises(httpx.ReadTimeout):
                    httpx.post(f"{address}/v1/chat/completions", json=body | {"stream": streams}, timeout=0.1)
        time.sleep(0.6)
        data = httpx.get(f"{address}/monitor/data").json()["models"]["echo"]
        assert (data["running"], data["queued"]) == (1, 0)
        assert data["disconnected"] == 2 * model_runner.MAX_QUEUED_PER_KEY
        small = {"model": "echo", "messages": [{"role": "user", "content": "hello"}]}
        assert httpx.post(f"{address}/v1/chat/completions", json=small, timeout=30).status_code == 200
        holding.join()
