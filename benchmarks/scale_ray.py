"""Evaluation over a Ray cluster of two local nodes against one process; used by benchmarks/scale.py and the tests.

python benchmarks/scale_ray.py nodes             start two nodes on 127.0.0.2; `remove` on stdin removes one
python benchmarks/scale_ray.py server 3.0        answer requests after 3 seconds; POST /v1/count tells how many
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
NODE = "127.0.0.2"
"""Address of all nodes: stays inside this machine, and Ray doesn't replace it by the machine's own, as it does with
127.0.0.1."""


def run_nodes() -> None:
    """Start two nodes, print the address, and remove the second one when told to."""
    os.environ |= {"RAY_USAGE_STATS_ENABLED": "0", "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0"}
    from ray.cluster_utils import Cluster

    settings = {"num_cpus": 1, "include_dashboard": False, "node_ip_address": NODE}
    cluster = Cluster(initialize_head=True, head_node_args=settings)
    second = cluster.add_node(num_cpus=1, node_ip_address=NODE)
    print(cluster.address, flush=True)
    for line in sys.stdin:
        if line.strip() == "remove":
            cluster.remove_node(second, allow_graceful=False)
            print("removed", flush=True)
    cluster.shutdown()


class _Answers(BaseHTTPRequestHandler):
    """An OpenAI-compatible service whose answers depend on the question only, after a fixed time."""

    protocol_version = "HTTP/1.1"
    latency_s = 0.0
    asked: list[str] = []  # noqa: RUF012 (shared by all requests on purpose)

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])) or b"{}")
        if self.path.endswith("/count"):
            self._send({"requests": len(self.asked), "different": len(set(self.asked))})
            return
        question = body["messages"][-1]["content"]
        self.asked.append(question)
        time.sleep(self.latency_s)
        message = {"role": "assistant", "content": " ".join(question.split()[-6:])}
        choice = {"index": 0, "message": message, "finish_reason": "stop"}
        usage = {"prompt_tokens": len(question.split()), "completion_tokens": 6, "total_tokens": 6}
        about = {"id": "1", "object": "chat.completion", "created": 0, "model": body["model"]}
        self._send(about | {"choices": [choice], "usage": usage})

    def do_GET(self) -> None:
        self._send({"object": "list", "data": [{"id": "stand-in", "object": "model", "created": 0, "owned_by": "us"}]})

    def _send(self, value: dict[str, Any]) -> None:
        body = json.dumps(value).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *arguments: Any) -> None:
        """Stay silent."""


class _Server(ThreadingHTTPServer):
    request_queue_size = 256
    daemon_threads = True

    def handle_error(self, *arguments: Any) -> None:
        """Stay silent: a lost node closes its connections."""


def run_server(latency_s: float) -> None:
    """Serve until the standard input ends; print the port."""
    _Answers.latency_s = latency_s
    server = _Server(("127.0.0.1", 0), _Answers)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    print(server.server_port, flush=True)
    sys.stdin.read()


@contextmanager
def helper(*arguments: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """Run a part of this file beside the caller; yield the process and its first line."""
    command = [sys.executable, __file__, *arguments]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        yield process, process.stdout.readline().strip()
    finally:
        process.stdin.close()
        process.wait(60)
        process.stdout.close()


def tell(process: subprocess.Popen[str], word: str) -> str:
    """Send a word to a helper and wait for its line."""
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(word + "\n")
    process.stdin.flush()
    return process.stdout.readline().strip()


def write_examples(path: Path, count: int) -> None:
    """Write examples that the stand-in answers differently each."""
    with path.open("w", encoding="utf-8") as file:
        for number in range(count):
            words = [f"w{(number * 7919 + place * 104729) % 9973}" for place in range(12)]
            row = {"prompt": f"Question {number}: {' '.join(words)}", "answer": " ".join(words[-6:])}
            file.write(json.dumps(row) + "\n")


def evaluate(home: Path, model: str, data: Path, *more: str) -> subprocess.Popen[str]:
    """Start `sizewise evaluate` with a store of its own."""
    environment = os.environ | {"SIZEWISE_HOME": str(home), "OMP_NUM_THREADS": "1"}
    command = [
        sys.executable,
        "-m",
        "sizewise",
        "evaluate",
        model,
        "--data",
        str(data),
        "--metrics",
        "exact_match,chrf",
    ]
    return subprocess.Popen([*command, *more, "--json"], env=environment, stdout=subprocess.PIPE, text=True)


def result(job: subprocess.Popen[str]) -> dict[str, Any]:
    """Wait for an evaluation and return what it printed."""
    text, _ = job.communicate()
    if job.returncode:
        raise RuntimeError(text)
    found: dict[str, Any] = json.loads(text)
    return found


def items(home: Path) -> list[dict[str, Any]]:
    """Return the items of the only evaluation in a store, without what depends on the clock."""
    (path,) = home.glob("evaluation/*/items.jsonl")
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    return [
        {name: value for name, value in row.items() if not name.endswith("_s") and name != "seconds"} for row in rows
    ]


def scores(found: dict[str, Any]) -> dict[str, Any]:
    """Return the scores of an evaluation that don't depend on the clock."""
    every = found["record"]["scores"]
    return {name: score["value"] for name, score in every.items() if name in ("exact_match", "chrf", "bits_per_byte")}


if __name__ == "__main__":
    if sys.argv[1:2] == ["nodes"]:
        run_nodes()
    else:
        run_server(float(sys.argv[2]))
