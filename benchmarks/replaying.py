"""A stand-in for a provider: answers prompts with recorded answers, streamed at a stated speed, by OpenAI's format.

`python benchmarks/replaying.py prompts.jsonl answers.jsonl` prints its port and serves until it is stopped. Rows of the
first file have `id` and `prompt`, rows of the second `id` and `completion`. To a prompt without an answer it says that
it can't help. Tokens are counted as a quarter of the characters.
"""

from __future__ import annotations

import asyncio
import json
import re
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from answering import refusal

FIRST_TOKEN_S = 0.5
TOKENS_PER_S = 80.0
CHARACTERS_PER_TOKEN = 4
UNKNOWN = "I can't help with that."
HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"


def read(path: Path) -> Iterator[dict[str, Any]]:
    """Read the rows of a JSONL file."""
    for line in path.read_text(encoding="utf-8").splitlines():
        yield json.loads(line)


def event(payload: dict[str, Any] | str) -> bytes:
    """Format one event as a chunk of the response."""
    text = payload if isinstance(payload, str) else json.dumps(payload)
    data = f"data: {text}\n\n".encode()
    return f"{len(data):x}\r\n".encode() + data + b"\r\n"


async def stream(writer: asyncio.StreamWriter, request: dict[str, Any], answer: str) -> None:
    """Write an answer word by word, cut after `max_tokens`."""
    base = {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": request["model"]}
    limit = request.get("max_completion_tokens") or request.get("max_tokens") or 4_096
    kept = answer[: limit * CHARACTERS_PER_TOKEN]
    writer.write(HEAD)
    await asyncio.sleep(FIRST_TOKEN_S)
    for word in re.findall(r"\s*\S+", kept):
        writer.write(event(base | {"choices": [{"index": 0, "delta": {"content": word}, "finish_reason": None}]}))
        await asyncio.sleep(len(word) / CHARACTERS_PER_TOKEN / TOKENS_PER_S)
    reason = "stop" if kept == answer else "length"
    asked = sum(len(str(message["content"])) for message in request["messages"]) // CHARACTERS_PER_TOKEN
    given = len(kept) // CHARACTERS_PER_TOKEN
    usage = {"prompt_tokens": asked, "completion_tokens": given, "total_tokens": asked + given}
    writer.write(event(base | {"choices": [{"index": 0, "delta": {}, "finish_reason": reason}]}))
    writer.write(event(base | {"choices": [], "usage": usage}) + event("[DONE]") + b"0\r\n\r\n")


async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, answers: Mapping[str, str]) -> None:
    """Serve one connection."""
    try:
        while True:
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").lower()
            found = re.search(r"content-length: *(\d+)", head)
            request = json.loads(await reader.readexactly(int(found[1]))) if found else {}
            messages = request.get("messages") or []
            if not messages:  # the client probes for log-likelihoods
                writer.write(refusal(404))
            else:
                await stream(writer, request, answers.get(str(messages[-1]["content"]).strip(), UNKNOWN))
            await writer.drain()
    except (asyncio.IncompleteReadError, ConnectionError):
        pass
    finally:
        writer.close()


async def main(prompts: str, recorded: str) -> None:
    """Serve until the process is stopped."""
    completions = {row["id"]: row["completion"] for row in read(Path(recorded))}
    asked = ((row["prompt"].strip(), completions.get(row["id"])) for row in read(Path(prompts)))
    answers = {prompt: answer for prompt, answer in asked if answer is not None}
    server = await asyncio.start_server(lambda *pair: serve(*pair, answers), "127.0.0.1", 0, backlog=512, limit=2**22)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:3]))
