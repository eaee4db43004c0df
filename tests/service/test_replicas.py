"""Several servers of one model: the least loaded, fail-over before the first token, and engines that are supervised."""

from __future__ import annotations

import json
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("uvicorn")
pytest.importorskip("pydantic_ai")

import httpx

from sizewise.errors import SizewiseError
from sizewise.models import open_model
from sizewise.models.fake import FakeModel
from sizewise.service import Settings, replicas
from sizewise.service.backends import BackendSettings
from sizewise.service.config_file import load_config
from sizewise.service.engines import Engine, stop_engines
from sizewise.service.replicas import Replica, Replicas
from sizewise.store import Store
from tests.service.backend_stand_in import StandIn, chunk, data, refusing, send_events, standing_in, streaming
from tests.service.test_config import FAKE, ready, said, served
from tests.service.test_health import until
from tests.service.test_service import running

CHAT = "/v1/chat/completions"
DONE = b"data: [DONE]\n\n"
ASKED = {"model": "big", "messages": [{"role": "user", "content": "hello there"}]}
ENGINE = """
import json, sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        self.answer(b"{}")

    def do_POST(self):
        self.rfile.read(int(self.headers["Content-Length"]))
        text = str(self.server.server_address[1])
        choice = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}
        self.answer(json.dumps({"id": "x", "choices": [choice]}).encode())

    def answer(self, body):
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass

print("loading", flush=True)
if len(sys.argv) > 2:
    sys.exit("out of memory: 80 GiB wanted")
ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
"""


@contextmanager
def gateway(store: Store, *addresses: str, **more: Any) -> Iterator[tuple[str, Any]]:
    """Serve a model with several servers; give the address and the state of the service."""
    first, *others = [f"{address}#name-{number}" for number, address in enumerate(addresses)]
    settings = BackendSettings(zone="inside", replicas=tuple(others), **more)
    model = open_model(first, store=store)
    try:
        with running({"own": FakeModel("echo"), "big": model}, Settings(backends={"big": settings}), store) as address:
            yield address, settings
    finally:
        model.close()


@pytest.fixture
def two() -> Iterator[list[StandIn]]:
    with ExitStack() as stack:
        yield [stack.enter_context(standing_in()) for _ in range(2)]


def ask(address: str, **more: Any) -> httpx.Response:
    return httpx.post(f"{address}{CHAT}", json=ASKED | more, timeout=30)


def asked_of(stand_in: StandIn) -> list[dict[str, Any]]:
    """Return the requests that a server received, without those with which opening the model learns what it offers."""
    return [body for _, body, _ in stand_in.received if body.get("messages") == ASKED["messages"]]


def break_off(stand_in: StandIn, handler: BaseHTTPRequestHandler, body: dict[str, Any]) -> None:
    """Close the connection without an answer, as an engine that crashes does."""
    handler.close_connection = True
    handler.connection.shutdown(socket.SHUT_RDWR)


def break_off_body(stand_in: StandIn, handler: BaseHTTPRequestHandler, body: dict[str, Any]) -> None:
    handler.send_response(200)
    handler.send_header("Content-Type", "application/json")
    handler.send_header("Content-Length", "1000")
    handler.end_headers()
    handler.wfile.write(b'{"choices": [')
    break_off(stand_in, handler, body)


def test_the_least_loaded_server_answers_and_equals_take_turns() -> None:
    servers = [Replica(None, f"http://h{number}/v1", "m") for number in range(3)]  # type: ignore[arg-type]
    found = Replicas(servers, probed=True)
    picked = [found.pick() for _ in range(6)]
    assert picked == [*servers, *servers]
    with servers[0].busy(), servers[1].busy():
        assert found.pick() is servers[2]
        servers[2].fail("gone")
        assert found.pick() in servers[:2]
    assert found.pick(servers[:2]) is None
    for server in servers:
        server.fail("gone")
    assert found.failure == "h0: gone; h1: gone; h2: gone"
    assert found.pick() is None
    servers[1].succeed()
    assert (found.failure, found.pick()) == ("", servers[1])


def test_a_server_that_hangs_gets_no_further_request_while_another_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its health is good: an API server answers while the engine behind it is frozen."""
    found = Replicas([Replica(None, f"http://h{n}/v1", "m") for n in range(2)], probed=True)  # type: ignore[arg-type]
    hung, other = found.servers
    hung.stall()
    hung.succeed()  # a probe
    with other.busy():
        assert {found.pick() for _ in range(3)} == {other}
    assert found.pick([other]) is hung
    other.stall()
    assert {found.pick() for _ in range(3)} == {hung, other}
    other.answer()
    assert {found.pick() for _ in range(3)} == {other}
    monkeypatch.setattr(replicas, "monotonic", lambda: time.monotonic() + replicas.STALLED_S)
    assert {found.pick() for _ in range(3)} == {hung, other}


@pytest.mark.parametrize("stream", [False, True])
def test_a_request_that_runs_out_of_time_is_held_against_its_server(
    stream: bool, two: list[StandIn], store: Store, caplog: pytest.LogCaptureFixture
) -> None:
    over = threading.Event()

    def hang(stand_in: StandIn, handler: BaseHTTPRequestHandler, body: dict[str, Any]) -> None:
        over.wait(20)
        handler.close_connection = True

    first, second = [f"{one.address}#name" for one in two]
    settings = Settings(backends={"big": BackendSettings(zone="inside", replicas=(second,))}, timeout_s=0.4)
    model = open_model(first, store=store)
    for one in two:
        one.reply = hang
    with running({"big": model}, settings, store) as address:
        ask(address, stream=stream)
        over.set()
    model.close()
    assert "let a request run out of time" in caplog.text


def test_a_server_that_is_not_probed_is_tried_again_after_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    found = Replicas([Replica(None, f"https://h{n}/v1", "m") for n in range(2)], probed=False)  # type: ignore[arg-type]
    found.servers[0].fail("gone")
    assert {found.pick() for _ in range(3)} == {found.servers[1]}
    monkeypatch.setattr(replicas, "RETRY_DOWN_S", 0.0)
    found.servers[0].fail("gone")
    assert {found.pick() for _ in range(3)} == set(found.servers)


def test_requests_are_spread_and_each_server_gets_its_own_name_of_the_model(two: list[StandIn], store: Store) -> None:
    with gateway(store, two[0].address, two[1].address) as (address, _):
        for _ in range(6):
            assert ask(address).json()["model"] == "big"
    assert [len(asked_of(one)) for one in two] == [3, 3]
    assert [one.body["model"] for one in two] == ["name-0", "name-1"]


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    "failure", [break_off, break_off_body, refusing(503, {}), refusing(429, {}), refusing(502, {})]
)
def test_what_fails_before_the_first_token_is_answered_by_another_server(
    two: list[StandIn], store: Store, failure: Any, stream: bool
) -> None:
    two[0].reply = failure
    with gateway(store, two[0].address, two[1].address) as (address, _):
        answers = [ask(address, stream=stream) for _ in range(4)]
        retries = httpx.get(f"{address}/metrics").text
    if failure is break_off_body and stream:  # not a stream: the server's answer makes no sense
        assert {answer.status_code for answer in answers} <= {200, 502}
        return
    assert {answer.status_code for answer in answers} == {200}
    assert 'sizewise_retries_total{model="big"}' in retries


def test_a_server_that_cannot_be_reached_is_left_out(two: list[StandIn], store: Store) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        gone = f"http://127.0.0.1:{free.getsockname()[1]}/v1"
    with gateway(store, gone, two[1].address) as (address, _):
        assert {ask(address).status_code for _ in range(4)} == {200}
        health = httpx.get(f"{address}/health").json()
        assert health["status"] == "ready"
        up = f'sizewise_server_up{{model="big",server="{gone[7:-3]}"}} 0.0'
        assert up in httpx.get(f"{address}/metrics").text


def test_nothing_is_repeated_after_the_first_token(two: list[StandIn], store: Store) -> None:
    def begin_and_break(stand_in: StandIn, handler: BaseHTTPRequestHandler, body: dict[str, Any]) -> None:
        send_events(handler, [data(chunk("one "))])
        break_off(stand_in, handler, body)

    two[0].reply = two[1].reply = begin_and_break
    with gateway(store, two[0].address, two[1].address) as (address, _):
        text = ask(address, stream=True).text
    assert [len(asked_of(one)) for one in two] in ([1, 0], [0, 1])
    assert "one " in text
    assert json.loads(text.split("data: ")[2])["error"]["code"] == "provider_failed"


def test_a_request_that_crashes_engines_does_not_reach_them_all(store: Store) -> None:
    with ExitStack() as stack:
        three = [stack.enter_context(standing_in()) for _ in range(3)]
        for one in three:
            one.reply = break_off
        with gateway(store, *(one.address for one in three)) as (address, _):
            assert ask(address).status_code == 503
    assert sum(len(asked_of(one)) for one in three) == 2


def test_one_broken_model_does_not_make_the_others_unready(store: Store) -> None:
    with ExitStack() as stack:
        bound = [stack.enter_context(socket.socket()) for _ in range(2)]
        for one in bound:
            one.bind(("127.0.0.1", 0))  # nobody listens
        addresses = [f"http://127.0.0.1:{one.getsockname()[1]}/v1" for one in bound]
        with gateway(store, *addresses) as (address, _):
            assert until(lambda: httpx.get(f"{address}/health").json()["status"] == "degraded")
            assert "big" in httpx.get(f"{address}/health").json()["failed"]
            failed = ask(address)
            assert (failed.status_code, failed.headers["Retry-After"]) == (503, "5")
            assert ask(address, model="own").status_code == 200


def test_streams_come_from_the_other_server_while_one_is_full(two: list[StandIn], store: Store) -> None:
    slow = streaming(*[data(chunk("a"))] * 5, data(chunk(finish="stop")), DONE, delay_s=0.2)
    two[0].reply = two[1].reply = slow
    with gateway(store, two[0].address, two[1].address) as (address, _):
        threads = [threading.Thread(target=ask, args=(address,), kwargs={"stream": True}) for _ in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert [len(asked_of(one)) for one in two] == [3, 3]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ('[[model]]\nname = "a"\n', "either a uri or a table"),
        (FAKE + 'replicas = ["fake:echo"]\n', "behind an API"),
        ('[[model]]\nname = "a"\nuri = "http://h/v1#m"\nreplicas = ["openai:m"]\n', "of one kind"),
        ('[[model]]\nname = "a"\n[model.start]\ncommand = ["x"]\nmodel = "m"\n', "{port}"),
        (FAKE + '[model.start]\ncommand = ["x", "{port}"]\nmodel = "m"\n', "either a uri or a table"),
    ],
)
def test_settings_of_servers_are_checked(tmp_path: Path, text: str, told: str) -> None:
    path = tmp_path / "service.toml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(SizewiseError, match=told):
        load_config(path)


def started(script: Path, name: str, *more: str, replicas: int = 1) -> str:
    command = json.dumps([sys.executable, str(script), "{port}", *more])
    return f'[[model]]\nname = "{name}"\n[model.start]\ncommand = {command}\nmodel = "m"\nreplicas = {replicas}\n'


@pytest.mark.scale
@pytest.mark.parametrize("workers", [pytest.param(1, marks=pytest.mark.slow), 2])
def test_engines_are_started_supervised_and_stopped(tmp_path: Path, workers: int) -> None:
    """Two engines answer in turns; one is killed and comes back; one that dies at start shows its last lines."""
    script, path = tmp_path / "engine.py", tmp_path / "service.toml"
    script.write_text(ENGINE, encoding="utf-8")
    head = f"[server]\nport = 0\nworkers = {workers}\n"
    good, bad = started(script, "good", replicas=2), started(script, "bad", "--die")
    path.write_text(head + good + bad, encoding="utf-8")

    def answered(address: str) -> str:
        reply = httpx.post(f"{address}{CHAT}", json=said() | {"model": "good"}, timeout=30)
        return str(reply.json()["choices"][0]["message"]["content"]) if reply.status_code == 200 else ""

    with served(path) as (process, address, lines):
        assert until(lambda: ready(address), 60)
        assert until(lambda: len({answered(address) for _ in range(8)} - {""}) == 2, 30)
        assert until(lambda: "out of memory" in "".join(lines), 20)
        health = httpx.get(f"{address}/health").json()
        assert health["status"] == "degraded"
        assert until(lambda: "out of memory" in httpx.get(f"{address}/health").json()["failed"].get("bad", ""), 20)
        ports = {answered(address) for _ in range(8)}
        victim = pids_on(int(min(ports)))[0]
        os.kill(victim, signal.SIGKILL)
        assert all(answered(address) for _ in range(10))
        assert until(lambda: {answered(address) for _ in range(4)} == ports, 30)
        path.write_text(head + good, encoding="utf-8")
        process.send_signal(signal.SIGHUP)
        assert until(lambda: httpx.get(f"{address}/health").json()["status"] == "ready", 30)
        assert answered(address) in ports
    assert [pids_on(int(port)) for port in ports] == [[], []]


def test_an_engine_that_hangs_is_started_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script = tmp_path / "engine.py"
    script.write_text(ENGINE, encoding="utf-8")
    monkeypatch.setattr("sizewise.service.engines.PROBE_S", 0.05)
    monkeypatch.setattr("sizewise.service.engines.PROBE_TIMEOUT_S", 0.2)
    engine = Engine("slow", [sys.executable, str(script), "{port}"], {}, tmp_path, hung_s=1.0)
    why = tmp_path / f"{engine.port}.txt"

    def answers() -> bool:
        engine.check()
        try:
            return httpx.get(f"http://127.0.0.1:{engine.port}/health", timeout=0.5).status_code == 200
        except httpx.HTTPError:
            return False

    try:
        assert until(answers, 30)
        (first,) = pids_on(engine.port)
        time.sleep(0.3)  # a probe was answered
        os.kill(first, signal.SIGSTOP)
        assert until(lambda: engine.check() or why.is_file(), 30)
        assert "didn't answer for 1 s, and was killed" in why.read_text(encoding="utf-8")
        assert until(answers, 30)
        assert pids_on(engine.port) != [first]
    finally:
        stop_engines([engine])


def pids_on(port: int) -> list[int]:
    """Return the processes of the engine with a port."""
    return processes_with(str(port), "engine.py")


def test_what_a_killed_engine_started_ends_with_it(tmp_path: Path) -> None:
    child = "import sys, time\nprint('here', flush=True)\ntime.sleep(600)\n"
    (tmp_path / "worker.py").write_text(child, encoding="utf-8")
    start = "import subprocess, sys, time\nsubprocess.Popen([sys.executable, sys.argv[1]])\ntime.sleep(600)\n"
    (tmp_path / "engine.py").write_text(start, encoding="utf-8")
    worker = str(tmp_path / "worker.py")
    engine = Engine("parts", [sys.executable, str(tmp_path / "engine.py"), worker, "{port}"], {}, tmp_path)
    engine.check()
    try:
        assert until(lambda: len(processes_with(worker)) == 2, 20)
        assert engine._process is not None
        os.kill(engine._process.pid, signal.SIGKILL)
        assert until(lambda: engine.check() or not processes_with(worker), 20)
    finally:
        engine.stop(time.monotonic())
    assert until(lambda: not processes_with(worker), 5)


def processes_with(*ends: str) -> list[int]:
    """Return the processes of whose command line some words end so."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            words = (folder / "cmdline").read_bytes().split(b"\0")
        except OSError:
            continue
        if all(any(word.endswith(end.encode()) for word in words) for end in ends):
            found.append(int(folder.name))
    return found
