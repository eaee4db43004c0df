"""A stand-in for vLLM, Ollama, llama.cpp's server or a provider, over a real socket."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Reply = Callable[["StandIn", BaseHTTPRequestHandler, dict[str, Any]], None]


class StandIn:
    """Keeps what it received, and answers as it is told."""

    def __init__(self) -> None:
        self.received: list[tuple[str, dict[str, Any], dict[str, str]]] = []
        self.reply: Reply = echo
        self.closed = threading.Event()
        self.address = ""

    @property
    def body(self) -> dict[str, Any]:
        return self.received[-1][1]


def send(
    handler: BaseHTTPRequestHandler, status: int, body: bytes, kind: str = "application/json", **more: str
) -> None:
    handler.send_response(status)
    for name, value in {"Content-Type": kind, "Content-Length": str(len(body)), **more}.items():
        handler.send_header(name.replace("_", "-"), value)
    handler.end_headers()
    handler.wfile.write(body)


def send_events(handler: BaseHTTPRequestHandler, events: list[bytes], delay_s: float = 0.0) -> None:
    handler.send_response(200)
    handler.send_header("Content-Type", "text/event-stream; charset=utf-8")
    handler.send_header("Connection", "close")
    handler.end_headers()
    for event in events:
        handler.wfile.write(event)
        handler.wfile.flush()
        time.sleep(delay_s)


def data(payload: Any) -> bytes:
    return b"data: " + json.dumps(payload).encode() + b"\n\n"


def chunk(content: str | None = None, finish: str | None = None, **delta: Any) -> dict[str, Any]:
    fields = ({} if content is None else {"content": content}) | delta
    return {"id": "x", "model": "secret-name", "choices": [{"index": 0, "delta": fields, "finish_reason": finish}]}


USAGE = {"prompt_tokens": 7, "completion_tokens": 5, "total_tokens": 12}


def answer(content: str = "hello", **more: Any) -> bytes:
    message = {"role": "assistant", "content": content} | more
    choices = [{"index": 0, "message": message, "finish_reason": "stop"}]
    return json.dumps({"id": "x", "model": "secret-name", "choices": choices, "usage": USAGE}).encode()


def echo(stand_in: StandIn, handler: BaseHTTPRequestHandler, body: dict[str, Any]) -> None:
    """Answer with the last message, in pieces of three letters if streamed."""
    content = body["messages"][-1]["content"]
    text = content if isinstance(content, str) else json.dumps(content)
    if not body.get("stream"):
        send(handler, 200, answer(text))
        return
    pieces = [data(chunk(text[start : start + 3])) for start in range(0, len(text), 3)]
    usage = [data({"choices": [], "usage": USAGE})] if body["stream_options"]["include_usage"] else []
    send_events(handler, [*pieces, data(chunk(finish="stop")), *usage, b"data: [DONE]\n\n"])


def refusing(status: int, body: Any, **headers: str) -> Reply:
    """Answer with an error."""
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    return lambda stand_in, handler, _: send(handler, status, raw, **headers)


def saying(raw: bytes) -> Reply:
    return lambda stand_in, handler, _: send(handler, 200, raw)


def streaming(*events: bytes, delay_s: float = 0.0) -> Reply:
    def reply(stand_in: StandIn, handler: BaseHTTPRequestHandler, _: dict[str, Any]) -> None:
        try:
            send_events(handler, list(events), delay_s)
        except OSError:
            stand_in.closed.set()

    return reply


@contextmanager
def standing_in() -> Iterator[StandIn]:
    stand_in = StandIn()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            stand_in.received.append((self.path, body, dict(self.headers)))
            stand_in.reply(stand_in, self, body)

        def log_message(self, *_: Any) -> None:
            pass

    class Server(ThreadingHTTPServer):
        daemon_threads = True
        request_queue_size = 512

        def handle_error(self, *_: Any) -> None:
            pass

    with Server(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        thread.start()
        stand_in.address = f"http://127.0.0.1:{server.server_address[1]}/v1"
        try:
            yield stand_in
        finally:
            server.shutdown()
