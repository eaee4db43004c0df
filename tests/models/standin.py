"""A server that speaks the published HTTP formats of OpenAI, Anthropic and Google, faults included."""

from __future__ import annotations

import json
import socket
import struct
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Fault = Callable[[int], tuple[int, dict[str, str]] | str | None]


class StandIn:
    """Answers each request with `echo: ` and what the user said last.

    Args:
        fault: told the number of a request, from 0; gives a status and headers, "cut" to break the connection in the
            middle of an answer, "reset" to reset it before one, "slow" to wait before each piece, "filter" for a
            content filter, "page" for a proxy's page in place of an answer, "whole" for an answer in one piece though a
            stream was asked for, or None for no fault.

    `usage` is told in place of the usual one by OpenAI's format; `most_tokens` is the most that may be asked for;
    `models` are those that it names, `lead` is what a line of data begins with, and
    `said` is answered by OpenAI's format in place of the echo.
    """

    def __init__(self, fault: Fault = lambda number: None) -> None:
        self.fault = fault
        self.bodies: list[dict[str, Any]] = []
        self.paths: list[str] = []
        self.most_at_once = 0
        self.usage: dict[str, Any] = {}
        self.most_tokens: int | None = None
        self.models = ["m"]
        self.said = ""
        self.lead = "data: "
        self._at_once = 0
        self._lock = threading.Lock()
        stand_in = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                stand_in._answer(self, {"object": "list", "data": [{"id": name} for name in stand_in.models]})

            def do_POST(self) -> None:
                stand_in.serve(self)

            def log_message(self, *unused: Any) -> None:
                pass

        class Server(ThreadingHTTPServer):
            request_queue_size = 256
            daemon_threads = True

        self.server = Server(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()

    def serve(self, handler: BaseHTTPRequestHandler) -> None:
        body = json.loads(handler.rfile.read(int(handler.headers["content-length"])))
        with self._lock:
            number = len(self.bodies)
            self.bodies.append(body)
            self.paths.append(handler.path)
            self._at_once += 1
            self.most_at_once = max(self.most_at_once, self._at_once)
        try:
            fault = self.fault(number)
            asked = body.get("max_tokens") or body.get("max_completion_tokens") or 0
            if self.most_tokens is not None and asked > self.most_tokens:
                self._refuse(handler, 400, {}, f"max_tokens is too large: {asked}")
                return
            if isinstance(fault, tuple):
                self._refuse(handler, *fault)
                return
            if fault == "reset":
                handler.close_connection = True
                handler.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                handler.connection.close()
                return
            if fault == "page":
                self._send(handler, 200, "text/event-stream", b"data: <html>busy</html>\n\n")
                return
            if fault == "whole":
                self._answer(handler, whole(openai(body, fault, self.usage, self.said)))
            elif handler.path.endswith("/chat/completions"):
                self._stream(handler, openai(body, fault, self.usage, self.said), fault)
            elif handler.path.endswith("/completions"):
                self._answer(handler, echo(body), fault)
            elif handler.path.endswith("/messages"):
                self._stream(handler, anthropic(body, fault), fault)
            else:
                self._stream(handler, google(body, fault), fault)
        except OSError:
            pass
        finally:
            with self._lock:
                self._at_once -= 1

    def _refuse(self, handler: BaseHTTPRequestHandler, status: int, headers: dict[str, str], why: str = "") -> None:
        kinds = {401: "authentication_error", 404: "not_found_error", 429: "rate_limit_error", 529: "overloaded_error"}
        kind = kinds.get(status, "api_error")
        told = {
            "error": {"message": why or f"refused with {status}", "type": kind, "code": status, "status": kind.upper()}
        }
        self._send(handler, status, "application/json", json.dumps(told | {"type": "error"}).encode(), headers)

    def _send(
        self,
        handler: BaseHTTPRequestHandler,
        status: int,
        kind: str,
        raw: bytes,
        headers: dict[str, str] | None = None,
    ) -> None:
        handler.send_response(status)
        for name, value in {"content-type": kind, "content-length": str(len(raw)), **(headers or {})}.items():
            handler.send_header(name, value)
        handler.end_headers()
        handler.wfile.write(raw)

    def _answer(self, handler: BaseHTTPRequestHandler, told: dict[str, Any] | None, fault: object = None) -> None:
        if told is None:
            self._refuse(handler, 404, {})
            return
        raw = json.dumps(told).encode()
        self._send(handler, 200, "application/json", raw[: len(raw) // 2] if fault == "cut" else raw)

    def _stream(self, handler: BaseHTTPRequestHandler, events: list[str], fault: object) -> None:
        handler.send_response(200)
        handler.send_header("content-type", "text/event-stream")
        handler.send_header("transfer-encoding", "chunked")
        handler.end_headers()
        for place, event in enumerate(events):
            if fault == "cut" and place == len(events) // 2:
                handler.close_connection = True
                handler.connection.close()
                return
            if fault == "slow":
                time.sleep(0.05)
            raw = event.replace("data: ", self.lead, 1).encode()
            handler.wfile.write(f"{len(raw):x}\r\n".encode() + raw + b"\r\n")
            handler.wfile.flush()
        handler.wfile.write(b"0\r\n\r\n")


def echo(body: dict[str, Any]) -> dict[str, Any] | None:
    """Score a prompt as vLLM does: a token is a letter, each of log-likelihood -1, the first of none."""
    if "scores" not in body["model"]:
        return None
    text = body["prompt"] + "!"
    likely = {
        "tokens": list(text),
        "token_logprobs": [None, *[-1.0] * (len(text) - 1)],
        "text_offset": list(range(len(text))),
        "top_logprobs": None,
    }
    return {"choices": [{"index": 0, "text": text, "logprobs": likely, "finish_reason": "length"}], "usage": {}}


def _event(data: dict[str, Any], name: str = "") -> str:
    return (f"event: {name}\n" if name else "") + f"data: {json.dumps(data)}\n\n"


def words_in(content: Any) -> str:
    """Find the text of a message in OpenAI's or Anthropic's form, also of a tool's result."""
    part = content if isinstance(content, str) else content[-1]
    while not isinstance(part, str):
        part = part.get("text") or part.get("content") if isinstance(part, dict) else part[-1]
    return part


def openai(body: dict[str, Any], fault: object, told: dict[str, Any], words: str = "") -> list[str]:
    """A model with `o3` or `long` in its name thinks for 600 tokens: `o3` shows nothing of it, `long` does."""
    said = words or "echo: " + words_in(body["messages"][-1]["content"])
    base = {"id": "c1", "object": "chat.completion.chunk", "created": 1, "model": body["model"]}

    def chunk(delta: dict[str, Any], finish: str | None = None) -> str:
        return _event(base | {"choices": [{"index": 0, "delta": delta, "finish_reason": finish}]})

    thought = [chunk({"reasoning_content": "let me think"})] if "reasoner" in body["model"] else []
    if "tags" in body["model"]:
        thought = [chunk({"content": "<think>"}), chunk({"content": "hm"}), chunk({"content": "</think>"})]
    finish = "content_filter" if fault == "filter" else "stop"
    if body.get("tools") and "use it" in said:
        name = body["tools"][0]["function"]["name"]
        called = {"index": 0, "id": "call_9", "type": "function", "function": {"name": name, "arguments": ""}}
        parts = [{"index": 0, "function": {"arguments": part}} for part in ('{"city": "Kö', 'ln"}')]
        thought += [chunk({"tool_calls": [one]}) for one in (called, *parts)]
        said, finish = "", "tool_calls"
    usage = {"prompt_tokens": 7, "completion_tokens": 5, "total_tokens": 12} | told
    if "o3" in body["model"] or "long" in body["model"]:
        limit = body.get("max_completion_tokens") or body["max_tokens"]
        if "long" in body["model"]:
            thought = [chunk({"reasoning_content": "let me think"})]
        if limit < 605:
            events = [*thought, chunk({}, "length"), _event(base | {"choices": [], "usage": usage}), "data: [DONE]\n\n"]
            return [chunk({"role": "assistant", "content": ""}), *events]
    if thought:
        usage["completion_tokens_details"] = {"reasoning_tokens": 3}  # type: ignore[assignment]
    return [
        chunk({"role": "assistant", "content": ""}),
        *thought,
        chunk({"content": said[:4]}),
        chunk({"content": said[4:]}),
        chunk({}, finish),
        _event(base | {"choices": [], "usage": usage}),
        "data: [DONE]\n\n",
    ]


def whole(events: list[str]) -> dict[str, Any]:
    """Join the pieces of a stream to one answer, as a server does that knows no streams."""
    told = [json.loads(event.removeprefix("data: ")) for event in events if "[DONE]" not in event]
    message: dict[str, Any] = {"role": "assistant", "content": None}
    finish = None
    for piece in (one["choices"][0] for one in told if one["choices"]):
        delta, finish = piece["delta"], piece["finish_reason"]
        for key in {"content", "reasoning_content"} & delta.keys():
            message[key] = (message.get(key) or "") + delta[key]
        for call in delta.get("tool_calls", ()):
            if "id" in call:
                message.setdefault("tool_calls", []).append({key: call[key] for key in call if key != "index"})
            else:
                message["tool_calls"][-1]["function"]["arguments"] += call["function"]["arguments"]
    choice = {"index": 0, "message": message, "finish_reason": finish}
    return told[0] | {"object": "chat.completion", "choices": [choice], "usage": told[-1]["usage"]}


def anthropic(body: dict[str, Any], fault: object) -> list[str]:
    said = "echo: " + words_in(body["messages"][-1]["content"])
    message = {
        "id": "m1",
        "type": "message",
        "role": "assistant",
        "model": body["model"],
        "content": [],
        "stop_reason": None,
        "stop_sequence": None,
        "usage": {"input_tokens": 7, "output_tokens": 1},
    }
    start = {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}}

    def delta(text: str) -> str:
        piece = {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": text}}
        return _event(piece, "content_block_delta")

    ended = {"stop_reason": "refusal" if fault == "filter" else "end_turn", "stop_sequence": None}
    return [
        _event({"type": "message_start", "message": message}, "message_start"),
        _event(start, "content_block_start"),
        delta(said[:4]),
        delta(said[4:]),
        _event({"type": "content_block_stop", "index": 0}, "content_block_stop"),
        _event({"type": "message_delta", "delta": ended, "usage": {"output_tokens": 5}}, "message_delta"),
        _event({"type": "message_stop"}, "message_stop"),
    ]


def google(body: dict[str, Any], fault: object) -> list[str]:
    last = body["contents"][-1]["parts"][-1]
    said = f"echo: {last['text'] if 'text' in last else json.dumps(last)}"

    def chunk(text: str, finish: str | None = None) -> str:
        candidate: dict[str, Any] = {"content": {"role": "model", "parts": [{"text": text}]}, "index": 0}
        if finish:
            candidate["finishReason"] = finish
        usage = {"promptTokenCount": 7, "candidatesTokenCount": 5, "totalTokenCount": 12}
        return f"data: {json.dumps({'candidates': [candidate], 'usageMetadata': usage, 'modelVersion': 'g'})}\r\n\r\n"

    return [chunk(said[:4]), chunk(said[4:], "SAFETY" if fault == "filter" else "STOP")]
