"""A fast stand-in for an OpenAI-compatible streaming server: one request in twenty fails.

`python benchmarks/answering.py` prints its port and serves until it is stopped.
"""

from __future__ import annotations

import asyncio
import json
import random
from typing import Any

FAULTS = 0.05
HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"


def refusal(status: int) -> bytes:
    """Format an error response like OpenAI's."""
    body = json.dumps({"error": {"message": f"refused with {status}", "type": "api_error", "code": status}}).encode()
    more = b"retry-after: 0.05\r\n" if status == 429 else b""
    head = f"HTTP/1.1 {status} X\r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\n".encode()
    return head + more + b"\r\n" + body


def answer(request: dict[str, Any]) -> bytes:
    """Format a streamed answer in six pieces."""
    base = {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": request["model"]}
    words = ["echo: ", *request["messages"][-1]["content"].split(" ")[:4]]
    deltas: list[dict[str, Any]] = [{"role": "assistant", "content": ""}, *({"content": piece} for piece in words)]
    chunks = [base | {"choices": [{"index": 0, "delta": delta, "finish_reason": None}]} for delta in deltas]
    chunks.append(base | {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]})
    usage = {"prompt_tokens": 7, "completion_tokens": 5, "total_tokens": 12}
    chunks.append(base | {"choices": [], "usage": usage})
    events = [f"data: {json.dumps(chunk)}\n\n".encode() for chunk in chunks] + [b"data: [DONE]\n\n"]
    return HEAD + b"".join(f"{len(event):x}\r\n".encode() + event + b"\r\n" for event in events) + b"0\r\n\r\n"


async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Serve one connection."""
    rng = random.Random(0)
    try:
        while True:
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").lower()
            length = int(head.split("content-length:")[1].split("\r\n")[0])
            request = json.loads(await reader.readexactly(length))
            await asyncio.sleep(0.02)
            if "messages" not in request:  # the client probes for log-likelihoods
                writer.write(refusal(404))
            elif rng.random() < FAULTS:
                kind = rng.choice([429, 500, "cut"])
                if kind == "cut":
                    writer.write(answer(request)[:300])
                    break
                writer.write(refusal(int(kind)))
            else:
                writer.write(answer(request))
            await writer.drain()
    except (asyncio.IncompleteReadError, ConnectionError):
        pass
    finally:
        writer.close()


async def main() -> None:
    """Serve until the process is stopped."""
    server = await asyncio.start_server(serve, "127.0.0.1", 0, backlog=512, limit=2**22)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main())
