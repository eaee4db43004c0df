"""What the gateway costs: a stand-in that streams 32 tokens at 40 ms each, asked directly and through it.

Stand-in, gateway and client share the machine. Runs alternate, and each figure is the median of the runs: throughput
through the gateway as a share of the direct one, the time that it adds to the first token (difference of the 95th
percentiles, and of the medians), and the gateway's processor time per request. Users start spread over the time of one
answer, as load generators ramp up; in the runs called `burst` all start at once, and stay in step, since each answer
takes equally long. With `--litellm PROGRAM`, LiteLLM's proxy is measured in the same runs.

`python benchmarks/forwarding.py` ends stdout with one JSON line, which it also writes to
benchmarks/results/forwarding.json. With `--soak N`, N more requests follow, and the gateway's memory, connections and
threads before and after them.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import re
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

import httpx2
import numpy as np
import psutil

HERE = Path(__file__).parent
TOKENS, GAP_S = 32, 0.04
HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
BASE = {"id": "x", "model": "m", "object": "chat.completion.chunk", "created": 1}
USAGE = {"prompt_tokens": 9, "completion_tokens": TOKENS, "total_tokens": 9 + TOKENS}
CONFIG = """
[server]
port = {port}

[[model]]
name = "big"
uri = "http://127.0.0.1:{behind}/v1#m"
zone = "inside"
"""


LITELLM = """
model_list:
  - model_name: big
    litellm_params:
      model: openai/m
      api_base: http://127.0.0.1:{behind}/v1
      api_key: none
"""
QUIET = {
    "LITELLM_LOCAL_MODEL_COST_MAP": "True",
    "LITELLM_TELEMETRY": "False",
    "LITELLM_DANGEROUSLY_PERMIT_WEAK_OR_UNSET_MASTER_KEY": "true",
}


class Run(NamedTuple):
    """One run of a load."""

    requests_per_s: float
    first_p50_s: float
    first_p95_s: float


def chunk(payload: dict[str, Any] | str) -> bytes:
    """Format one event as a chunk of the response."""
    data = f"data: {payload if isinstance(payload, str) else json.dumps(BASE | payload)}\n\n".encode()
    return f"{len(data):x}\r\n".encode() + data + b"\r\n"


TOKEN = chunk({"choices": [{"index": 0, "delta": {"content": " word"}, "finish_reason": None}]})
END = (
    chunk({"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]})
    + chunk({"choices": [], "usage": USAGE})
    + chunk("[DONE]")
    + b"0\r\n\r\n"
)


async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Serve one connection of the stand-in."""
    try:
        while True:
            head = await reader.readuntil(b"\r\n\r\n")
            found = re.search(rb"content-length: *(\d+)", head.lower())
            await reader.readexactly(int(found[1]) if found else 0)
            writer.write(HEAD)
            for _ in range(TOKENS):
                writer.write(TOKEN)
                await writer.drain()
                await asyncio.sleep(GAP_S)
            writer.write(END)
    except (asyncio.IncompleteReadError, ConnectionError):
        pass
    finally:
        writer.close()


async def stand_in() -> None:
    """Print the port of the stand-in and serve until the process is stopped."""
    server = await asyncio.start_server(answer, "127.0.0.1", 0, backlog=512)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


async def load(port: int, model: str, users: int, requests: int, *, burst: bool) -> Run:
    """Ask with a number of concurrent users; each sends its next request when its answer is whole."""
    left = iter(range(requests))
    firsts: list[float] = []
    body = json.dumps(
        {"model": model, "stream": True, "max_tokens": TOKENS, "messages": [{"role": "user", "content": "hello there"}]}
    ).encode()
    head = (
        f"POST /v1/chat/completions HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: application/json\r\n"
        f"content-length: {len(body)}\r\n\r\n"
    )

    async def user(number: int) -> None:
        if not burst:
            await asyncio.sleep(number / users * TOKENS * GAP_S)
        reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=2**20)
        for _ in left:
            sent, first = time.perf_counter(), 0.0
            writer.write(head.encode() + body)
            async for line in reader:
                if line.startswith(b"HTTP") and b" 200" not in line:
                    raise SystemExit(f"refused: {line!r}")
                if not first and b'"content"' in line and b"word" in line:
                    first = time.perf_counter() - sent
                    firsts.append(first)
                if line == b"0\r\n":
                    await reader.readline()
                    break
        writer.close()

    start = time.perf_counter()
    await asyncio.gather(*(user(number) for number in range(users)))
    seconds = time.perf_counter() - start
    if len(firsts) != requests:
        raise SystemExit(f"{requests - len(firsts)} of {requests} requests got no answer")
    return Run(requests / seconds, *(float(np.quantile(firsts, part)) for part in (0.5, 0.95)))


@contextmanager
def running(command: list[str], **options: Any) -> Iterator[subprocess.Popen[str]]:
    """Run a process until the end of the block."""
    process = subprocess.Popen(command, text=True, **options)
    try:
        yield process
    finally:
        process.terminate()
        process.wait(60)


@contextmanager
def stand_in_server() -> Iterator[int]:
    """Run the stand-in and yield its port."""
    with running([sys.executable, __file__, "--stand-in"], stdout=subprocess.PIPE) as server:
        assert server.stdout is not None
        yield int(server.stdout.readline())


@contextmanager
def gateway(behind: int, litellm: str = "") -> Iterator[tuple[int, psutil.Process]]:
    """Run a gateway in front of the stand-in; yield its port and its process."""
    with tempfile.TemporaryDirectory() as scratch:
        folder, port = Path(scratch), free_port()
        log, config = folder / "serve.log", folder / ("litellm.yaml" if litellm else "serve.toml")
        config.write_text((LITELLM if litellm else CONFIG).format(port=port, behind=behind), encoding="utf-8")
        command = [sys.executable, "-m", "sizewise", "serve", "--config", str(config)]
        if litellm:
            command = [litellm, "--config", str(config), "--port", str(port), "--host", "127.0.0.1"]
        environment = os.environ | {"SIZEWISE_HOME": scratch} | (QUIET if litellm else {})
        with log.open("w") as output, running(command, stdout=output, stderr=output, env=environment) as process:
            while not is_ready(port, "/health/liveliness" if litellm else "/health"):
                if process.poll() is not None:
                    raise SystemExit(log.read_text(encoding="utf-8"))
                time.sleep(0.25)
            yield port, psutil.Process(process.pid)


def free_port() -> int:
    """Return a port that is free now."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def is_ready(port: int, path: str) -> bool:
    """Whether the gateway answers."""
    with suppress(httpx2.TransportError):
        return httpx2.get(f"http://127.0.0.1:{port}{path}").status_code == 200
    return False


def processor_s(process: psutil.Process) -> float:
    """Return the processor time of a process and its children so far."""
    spent = [one.cpu_times() for one in (process, *process.children(recursive=True))]
    return float(sum(one.user + one.system for one in spent))


def held(process: psutil.Process) -> dict[str, float]:
    """Return what a process holds."""
    return {
        "resident_mb": process.memory_info().rss / 1e6,
        "descriptors": process.num_fds(),
        "threads": process.num_threads(),
    }


def measure(users: int, requests: int, runs: int, litellm: str, *, burst: bool) -> dict[str, Any]:
    """Measure directly and through each gateway in turns, each time on a new gateway."""
    found: dict[str, list[dict[str, float]]] = {"sizewise": [], **({"litellm": []} if litellm else {})}
    for _ in range(runs):
        with stand_in_server() as behind:
            direct = asyncio.run(load(behind, "m", users, requests, burst=burst))
            for name, rows in found.items():
                with gateway(behind, litellm if name == "litellm" else "") as (port, process):
                    asyncio.run(load(port, "big", users, 2 * users, burst=burst))  # warm up
                    spent = processor_s(process)
                    through = asyncio.run(load(port, "big", users, requests, burst=burst))
                    spent = (processor_s(process) - spent) / requests
                rows.append(
                    {
                        "throughput": through.requests_per_s / direct.requests_per_s,
                        "requests_per_s": through.requests_per_s,
                        "added_first_p50_ms": 1e3 * (through.first_p50_s - direct.first_p50_s),
                        "added_first_p95_ms": 1e3 * (through.first_p95_s - direct.first_p95_s),
                        "processor_ms_per_request": 1e3 * spent,
                        "processor_ms_per_token": 1e3 * spent / TOKENS,
                    }
                )
                print(f"{name}, {users} users{', burst' if burst else ''}: {rows[-1]}", file=sys.stderr, flush=True)
    medians = {
        name: {what: float(np.median([row[what] for row in rows])) for what in rows[0]} for name, rows in found.items()
    }
    return {"users": users, "requests": requests, "burst": burst, "runs": found, **medians}


def soak(requests: int) -> dict[str, Any]:
    """Ask for a long time, and compare what the gateway holds before and after."""
    with stand_in_server() as behind, gateway(behind) as (port, process):
        asyncio.run(load(port, "big", 64, 1_000, burst=False))
        before = held(process)
        run = asyncio.run(load(port, "big", 64, requests, burst=False))
        time.sleep(2)
        return {"requests": requests, "requests_per_s": run.requests_per_s, "before": before, "after": held(process)}


def main() -> None:
    """Run all loads."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--stand-in", action="store_true", help="only run the stand-in")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--requests", type=int, default=2_000)
    parser.add_argument("--soak", type=int, default=0)
    parser.add_argument("--litellm", default="", help="LiteLLM's program, in an environment of its own")
    args = parser.parse_args()
    if args.stand_in:
        asyncio.run(stand_in())
        return
    path = HERE / "results" / "forwarding.json"
    parts = json.loads(path.read_text(encoding="utf-8"))["parts"] if path.exists() else {}
    for users, burst in ((4, False), (4, True), (64, False), (64, True)):
        requests = args.requests if users == 64 else max(40, args.requests // 16)
        parts[f"{users}{' burst' if burst else ''}"] = measure(users, requests, args.runs, args.litellm, burst=burst)
    if args.soak:
        parts["soak"] = soak(args.soak)
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False)
    output = {
        "name": "forwarding",
        "ratio": parts["64"]["sizewise"]["throughput"],
        "peer": "the same stand-in asked directly, 64 users",
        "value": parts["4"]["sizewise"]["added_first_p95_ms"],
        "unit": "ms that the gateway adds to the first token, 95th percentile, 4 users",
        "runs": args.runs,
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
        "commit": commit.stdout.strip(),
        "when": datetime.now(UTC).isoformat(timespec="seconds"),
        "parts": parts,
    }
    path.write_text(json.dumps(output, indent=1) + "\n", encoding="utf-8")
    print(json.dumps({key: value for key, value in output.items() if key != "parts"}))


if __name__ == "__main__":
    main()
