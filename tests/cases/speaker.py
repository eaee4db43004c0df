"""A server of OpenAI's chat format whose answers, usage and way of streaming a test chooses."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

NAME = "housemodel"


class Speaker:
    """Says what it is told to.

    Attributes:
        say: what was asked -> the answer.
        usage: tokens that are billed.
        lead: what stands before each event of a stream.
        key: where a stream's text lies: `content` or `reasoning_content`.
        bodies: what was asked of it.
    """

    def __init__(self) -> None:
        self.say: Callable[[str], str] = lambda asked: "The shop is in the old mill."
        self.usage: dict[str, Any] = {"prompt_tokens": 40, "completion_tokens": 12, "total_tokens": 52}
        self.lead, self.key, self.finish = "data: ", "content", "stop"
        self.bodies: list[dict[str, Any]] = []
        speaker = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                models = [{"id": NAME, "object": "model"}] if self.path.endswith("/models") else []
                speaker._send(self, json.dumps({"object": "list", "data": models}), "application/json")

            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["content-length"])))
                if not self.path.endswith("/chat/completions"):
                    speaker._send(self, '{"error": {"message": "not here"}}', "application/json", 404)
                    return
                speaker.bodies.append(body)
                if body.get("stream"):
                    speaker._send(self, "".join(speaker._events(body)), "text/event-stream")
                else:
                    speaker._send(self, json.dumps(speaker._whole(body)), "application/json")

            def log_message(self, *unused: Any) -> None:
                pass

        class Server(ThreadingHTTPServer):
            request_queue_size = 128
            daemon_threads = True

        self.server = Server(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()

    @property
    def uri(self) -> str:
        """The model of this server."""
        return f"{self.url}/v1#{NAME}"

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()

    def _answer(self, body: dict[str, Any]) -> str:
        content = body["messages"][-1]["content"]
        asked = content if isinstance(content, str) else " ".join(part.get("text", "") for part in content)
        return self.say(asked)

    def _whole(self, body: dict[str, Any]) -> dict[str, Any]:
        message = {"role": "assistant", self.key: self._answer(body)}
        choice = {"index": 0, "message": message, "finish_reason": self.finish}
        base = {"id": "w1", "object": "chat.completion", "created": 1, "model": body["model"]}
        return base | {"choices": [choice], "usage": self.usage}

    def _events(self, body: dict[str, Any]) -> Iterator[str]:
        base = {"id": "w1", "object": "chat.completion.chunk", "created": 1, "model": body["model"]}
        words = self._answer(body).split(" ")
        pieces = [word if i == 0 else f" {word}" for i, word in enumerate(words)]
        deltas: list[dict[str, str]] = [{"role": "assistant", "content": ""}, *({self.key: piece} for piece in pieces)]
        events = [base | {"choices": [{"index": 0, "delta": delta, "finish_reason": None}]} for delta in deltas]
        events.append(base | {"choices": [{"index": 0, "delta": {}, "finish_reason": self.finish}]})
        events.append(base | {"choices": [], "usage": self.usage})
        yield from (f"{self.lead}{json.dumps(event)}\n\n" for event in events)
        yield f"{self.lead}[DONE]\n\n"

    @staticmethod
    def _send(handler: BaseHTTPRequestHandler, text: str, kind: str, status: int = 200) -> None:
        raw = text.encode()
        handler.send_response(status)
        handler.send_header("content-type", kind)
        handler.send_header("content-length", str(len(raw)))
        handler.end_headers()
        handler.wfile.write(raw)
