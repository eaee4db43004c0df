"""Services that never finish an answer: the wait ends when whoever watches it says so, and each request in any case."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from sizewise.models import open_model, openai_logprobs, patience, remote
from sizewise.models.base import ask
from sizewise.models.remote import RemoteModel
from sizewise.models.retrieving import RetrievingModel
from sizewise.progress import pulsing
from sizewise.records import Message, Request
from sizewise.studies import budget
from sizewise.studies.budget import StepEndedError, StepReporter
from sizewise.studies.progress import StudyProgress

pytest.importorskip("pydantic_ai")

MODES = ("hang", "stream", "drip", "late")
PIECE = (
    b'data: {"id": "1", "object": "chat.completion.chunk", "choices": [{"index": 0, "delta": {"content": "x "}}]}\n\n'
)
END = b'data: {"id": "1", "object": "chat.completion.chunk", "choices": [{"index": 0, "delta": {"content": "ok"}, '
END += b'"finish_reason": "stop"}]}\n\ndata: [DONE]\n\n'


class Endless:
    """Answers the questions named `quick` at once and others never: in silence, bit by bit, or far too late.

    Args:
        mode: one of MODES.
        probe: whether the question for log-likelihoods gets its refusal at once.
    """

    def __init__(self, mode: str, probe: bool = True) -> None:
        self.over, self.asked, self.hung_up = threading.Event(), 0, threading.Event()
        service = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                if probe and not self.path.endswith("/chat/completions"):
                    self.send_error(404)
                    return
                service.asked += 1
                try:
                    self.answer(b"quick" in body)
                except OSError:
                    service.hung_up.set()

            def answer(self, quick: bool) -> None:
                if mode == "late" and not quick:
                    service.over.wait(60)
                if mode == "hang" and not quick:
                    self.connection.settimeout(60)
                    if self.rfile.read(1) == b"":
                        service.hung_up.set()
                    return
                self.send_response(200)
                self.send_header("content-type", "application/json" if mode == "drip" else "text/event-stream")
                self.end_headers()
                while not quick and not service.over.wait(0.05):
                    self.wfile.write(b" " if mode == "drip" else PIECE)
                    self.wfile.flush()
                self.wfile.write(END)

            def log_message(self, *unused: Any) -> None:
                pass

        class Server(ThreadingHTTPServer):
            daemon_threads = True

        self.server = Server(("127.0.0.1", 0), Handler)
        self.uri = f"http://127.0.0.1:{self.server.server_port}/v1#m"
        threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()

    def close(self) -> None:
        self.over.set()
        self.server.shutdown()
        self.server.server_close()


@pytest.fixture
def serve() -> Iterator[Callable[..., Endless]]:
    made: list[Endless] = []

    def start(mode: str, **options: Any) -> Endless:
        made.append(Endless(mode, **options))
        return made[-1]

    yield start
    for one in made:
        one.close()


def question(name: str) -> Request:
    return Request(id=name, messages=(Message(role="user", content=name),), max_tokens=20)


class Ended(Exception):
    """Ends a wait."""


def ending(after_s: float) -> Callable[[], None]:
    until = time.monotonic() + after_s

    def check() -> None:
        if time.monotonic() > until:
            raise Ended

    return check


@pytest.mark.parametrize("mode", MODES)
def test_a_step_of_a_study_ends_on_time_and_keeps_the_answers_that_arrived(
    serve: Callable[..., Endless], mode: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(budget, "INSTANT_S", 0.2)
    service = serve(mode)
    model = open_model(service.uri)
    assert isinstance(model, RemoteModel)
    reporter = StepReporter(StudyProgress(), 1.0)
    begun = time.monotonic()
    with pulsing(reporter.check), pytest.raises(StepEndedError, match="ran out of time"):
        list(model.complete([question("slow"), question("quick"), *(question(f"slow {i}") for i in range(9))]))
    model.close()
    assert time.monotonic() - begun < 20  # the step, a pulse and the closing of connections; without an end, minutes
    again = open_model(service.uri)
    assert isinstance(again, RemoteModel)
    asked = service.asked
    (answer,) = again.complete([question("quick")])
    again.close()
    assert (answer.text, answer.error, service.asked) == ("ok", None, asked)
    if mode != "late":
        assert service.hung_up.wait(5)  # the client has hung up


def test_the_first_stop_of_the_user_ends_the_wait(serve: Callable[..., Endless]) -> None:
    service = serve("hang")
    model = open_model(service.uri)
    progress = StudyProgress()
    threading.Timer(0.3, progress.request_stop).start()
    with pulsing(StepReporter(progress, 3600.0).check), pytest.raises(StepEndedError, match="was stopped"):
        list(model.complete([question("slow")]))
    model.close()


@pytest.mark.parametrize("mode", ["hang", "drip"])
def test_opening_a_model_ends_too(serve: Callable[..., Endless], mode: str) -> None:
    """It asks for log-likelihoods first, which a broken server doesn't answer either."""
    service = serve(mode, probe=False)
    over = ending(0.3)
    with pulsing(lambda: over() if service.asked else None), pytest.raises(Ended):
        open_model(service.uri)
    assert service.hung_up.wait(5)


def test_a_probe_has_a_total_deadline(serve: Callable[..., Endless], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(openai_logprobs, "PROBE_S", 0.3)
    model = open_model(serve("drip", probe=False).uri)
    assert not model.describe().can_score
    model.close()


@pytest.mark.parametrize("mode", MODES)
def test_without_a_study_each_request_ends_too(
    serve: Callable[..., Endless], mode: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(remote, "REQUEST_S", 0.4)
    monkeypatch.setattr(patience, "FIRST_WAIT_S", 0.01)
    service = serve(mode)
    model = open_model(service.uri)
    slow, quick = sorted(model.complete([question("slow"), question("quick")]), key=lambda one: one.error is None)
    model.close()
    assert quick.text == "ok"
    assert slow.transient
    assert "wasn't complete after 0.4 s" in str(slow.error)


def test_other_ways_to_ask_end_too(serve: Callable[..., Endless]) -> None:
    model = open_model(serve("stream").uri)

    class Rewriting(RetrievingModel):
        def __init__(self) -> None:
            self._model = model

        def passages(self, request: Request) -> tuple[str, ...]:
            return ()

    with pulsing(ending(0.3)), pytest.raises(Ended):
        list(Rewriting().complete([question("slow")]))
    with pulsing(ending(0.3)), pytest.raises(Ended):
        ask(model, "slow", temperature=1.0)
    model.close()
