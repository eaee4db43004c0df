"""Fuzzing with a hundred thousand bodies, and half an hour under load (slow)."""

from __future__ import annotations

import json
import os
import random
import re
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("fastapi")

import httpx
from starlette.testclient import TestClient

from sizewise.models.fake import FakeModel
from sizewise.service import Settings, create_app
from sizewise.store import Store

pytestmark = pytest.mark.slow
BODIES = int(os.environ.get("SIZEWISE_FUZZ_BODIES", "100000"))
SOAK_S = float(os.environ.get("SIZEWISE_SOAK_S", "1800"))
PAUSE_S = float(os.environ.get("SIZEWISE_SOAK_PAUSE_S", "0.2"))
PATHS = ("/v1/chat/completions", "/v1/completions", "/v1/embeddings", "/v1/decisions")
VALID: dict[str, dict[str, Any]] = {
    "/v1/chat/completions": {
        "model": "echo", "messages": [{"role": "user", "content": "one two"}], "stream": False, "max_tokens": 4,
        "temperature": 0.0, "n": 1, "stop": ["x"], "logprobs": True, "response_format": {"type": "text"}, "seed": 1,
        "stream_options": None, "user": "a",
        "tools": [{"type": "function", "function": {"name": "f", "parameters": {}}}],
        "tool_choice": "auto", "parallel_tool_calls": True,
    },
    "/v1/completions": {
        "model": "echo", "prompt": "one two", "stream": False, "max_tokens": 4, "echo": False, "logprobs": 0, "n": 1,
        "stop": "x", "suffix": None, "best_of": 1,
    },
    "/v1/embeddings": {"model": "echo", "input": ["one", "two"], "encoding_format": "float", "dimensions": 8},
    "/v1/decisions": {
        "model": "echo", "input": "one two", "prompt_cache_key": "x", "safety_identifier": "x",
        "questions": [{"type": "choice", "instructions": "?", "choices": [{"value": True}, {"value": "a"}]}],
    },
}  # fmt: skip
STRANGE: list[Any] = [
    None, True, False, 0, -1, 1, 2**31, 2**63, 2**70, -(2**70), 0.5, -0.0, 1e308, float("nan"), float("inf"), "", " ",
    "\x00", "\ud800", "é" * 50, "\u202eabc", "<|im_start|>system", "a" * 5_000, [], [[]], [None], [1, "a"], [[1], [2]],
    {}, {"a": 1}, {"role": "user"}, "required", {"type": "function", "function": {"name": "f"}},
    [{"type": "function", "function": {"name": "f", "parameters": {"$ref": "#"}}}],
    [{"role": "assistant", "tool_calls": [{"id": "1", "function": {"name": "f", "arguments": "{"}}]},
     {"role": "tool", "tool_call_id": "2", "content": "</tool_response>"}, {"role": "tool", "content": "x"}],
    [{"role": "user", "content": None}], [{"role": "nobody", "content": "x"}],
    {"type": "json_schema"}, {"type": "json_schema", "json_schema": {"schema": {"$ref": "#"}}}, "stream", "echo",
    [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "file:///etc/passwd"}}]}],
]  # fmt: skip


def a_body(drawn: random.Random) -> tuple[str, bytes]:
    """Make a body: a valid one with some fields replaced, left out or added; sometimes broken bytes."""
    path = drawn.choice(PATHS)
    body: dict[str, Any] = dict(VALID[path])
    for _ in range(drawn.randint(1, 4)):
        key = drawn.choice([*body, "what", "temperature", "logit_bias", "functions", "top_p", "top_logprobs", ""])
        way = drawn.random()
        if way < 0.2:
            body.pop(key, None)
        elif way < 0.9:
            body[key] = drawn.choice(STRANGE)
        else:
            body[key] = [drawn.choice(STRANGE) for _ in range(drawn.randint(0, 3))]
    raw = json.dumps(body, ensure_ascii=drawn.random() < 0.5).encode("utf-8", errors="surrogatepass")
    if drawn.random() < 0.1:
        cut = drawn.randrange(len(raw))
        raw = raw[:cut] + bytes(drawn.randrange(256) for _ in range(drawn.randint(0, 4))) + raw[cut + 1 :]
    return path, raw


def test_fuzzed_bodies_do_not_crash_the_service(store: Store) -> None:
    drawn = random.Random(0)
    counts: dict[int, int] = {}
    app = create_app({"echo": FakeModel("echo")}, Settings(hosts=("testserver",)), store)
    with TestClient(app, raise_server_exceptions=False) as client:
        for _ in range(BODIES):
            path, raw = a_body(drawn)
            answer = client.post(path, content=raw, headers={"Content-Type": "application/json"})
            counts[answer.status_code] = counts.get(answer.status_code, 0) + 1
            assert answer.status_code < 500, (path, raw)
            if answer.status_code >= 400:
                error = answer.json()["error"]
                assert error["message"], (path, raw)
                assert error["type"], (path, raw)
        assert client.get("/health").status_code == 200
    assert counts[200] > BODIES / 50, counts  # else nothing but the first check was met
    assert counts[400] > BODIES / 50, counts


def resident(pid: int) -> list[int]:
    """Give the resident memory in bytes of a process and of each process that it started."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="utf-8").split()
    found = re.search(r"VmRSS:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text(encoding="utf-8"))
    assert found is not None
    return [int(found[1]) * 1024, *(size for child in children for size in resident(int(child)))]


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="memory is read from /proc")
def test_memory_stays_flat_in_half_an_hour(tiny_folder: Path, home: Path) -> None:
    command = [sys.executable, "-m", "sizewise", "serve", str(tiny_folder), "--port", "0"]
    process = subprocess.Popen(
        command, stderr=subprocess.PIPE, text=True, env={**os.environ, "SIZEWISE_HOME": str(home)}
    )
    assert process.stderr is not None
    address = ""
    for line in process.stderr:
        if found := re.search(r"API: (http\S+)/v1", line):
            address = found[1]
            break
    reader = threading.Thread(target=process.stderr.read, daemon=True)
    reader.start()
    try:
        drawn = random.Random(0)
        with httpx.Client(base_url=address, timeout=60) as client:
            while client.get("/health").status_code != 200:
                time.sleep(0.1)
            name = client.get("/v1/models").json()["data"][0]["id"]
            begun, answered, sizes = time.monotonic(), 0, []
            while time.monotonic() - begun < SOAK_S:
                words = " ".join(drawn.choice(("river", "baker", "bell", "town")) for _ in range(drawn.randint(1, 12)))
                body = {
                    "model": name, "messages": [{"role": "user", "content": words}],
                    "max_tokens": drawn.randint(1, 40), "stream": drawn.random() < 0.5,
                }  # fmt: skip
                answer = client.post("/v1/chat/completions", json=body)
                assert answer.status_code == 200, answer.text
                answered += 1
                if answered % 20 == 0:
                    client.get("/metrics")
                    sizes.append((time.monotonic() - begun, resident(process.pid)))
                time.sleep(PAUSE_S)
    finally:
        process.terminate()
        process.wait(60)
        reader.join(10)
        process.stderr.close()
    early = [sum(memory) for at, memory in sizes if 0.2 * SOAK_S < at < 0.4 * SOAK_S]
    late = [sum(memory) for at, memory in sizes if at > 0.8 * SOAK_S]
    drift = (sum(late) / len(late)) / (sum(early) / len(early)) - 1
    every = max(1, len(sizes) // 12)
    told = [f"{at:.0f} s: {' + '.join(f'{one / 1e6:.0f}' for one in memory)} MB" for at, memory in sizes[::every]]

    assert drift < 0.05, f"{answered} answers in {SOAK_S:.0f} s, memory {drift:+.2%}; {', '.join(told)}"
